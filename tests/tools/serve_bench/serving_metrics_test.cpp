#include "tools/serve_bench/serving_metrics.h"

#include <cmath>

#include <doctest/doctest.h>

#include "engine/core/error.h"
#include "tools/serve_bench/serving_report.h"

namespace llmrun {
namespace {

// Three requests: tokens at 1, 2, 4 s (sent late, at 0.5 s); one token at 3 s; failed.
struct Example {
  std::vector<TokenId> prompt = std::vector<TokenId>(10, 1);
  std::vector<BenchRequest> requests;
  LoadMeasurement measurement;

  Example() {
    requests.assign(3, {.prompt_token_ids = &prompt, .output_len = 3, .seed = 0});
    requests[1].output_len = 1;
    measurement.records.resize(3);
    RequestRecord& first = measurement.records[0];
    first = {.arrival_s = 0,
             .sent_s = 0.5,
             .ended_s = 4,
             .piece_times_s = {1, 2, 4},
             .piece_tokens = {1, 1, 1},
             .num_attempts = 1,
             .outcome = {}};
    RequestRecord& second = measurement.records[1];
    second = {.arrival_s = 2,
              .sent_s = 2,
              .ended_s = 3,
              .piece_times_s = {3},
              .piece_tokens = {0},
              .num_attempts = 2,
              .outcome = {}};
    RequestRecord& third = measurement.records[2];
    third = {.arrival_s = 3,
             .sent_s = 3,
             .ended_s = 5,
             .piece_times_s = {},
             .piece_tokens = {},
             .num_attempts = 1,
             .outcome = {}};
    third.outcome.failure = "http_500";
    third.outcome.message = "broken";
    measurement.elapsed_s = 5;
  }
};

TEST_CASE("Serving metrics: an example by hand") {
  const Example example;
  ServingOptions options;
  options.percentiles = {50, 75};
  options.goodput = parse_service_level({"ttft:1000", "tpot:1400"});
  const ServingMetrics metrics = measure_serving(example.measurement, example.requests, options);
  CHECK(metrics.num_completed == 2);
  CHECK(metrics.num_failed == 1);
  CHECK(metrics.num_retries == 1);
  REQUIRE(metrics.failures.size() == 1);
  CHECK(metrics.failures[0].reason == "http_500");
  CHECK(metrics.failures[0].first_message == "broken");
  CHECK(metrics.num_input_tokens == 20);
  CHECK(metrics.num_output_tokens == 4);
  CHECK(metrics.requests_per_s == doctest::Approx(0.4));
  CHECK(metrics.output_tokens_per_s == doctest::Approx(0.8));
  CHECK(metrics.total_tokens_per_s == doctest::Approx(4.8));
  // TTFT 1000 and 1000 ms; TPOT (4 - 1) / 2 = 1500 ms of the first alone, which is too slow.
  CHECK(metrics.latency("ttft").mean_ms == doctest::Approx(1000));
  CHECK(metrics.latency("tpot").count == 1);
  CHECK(metrics.latency("tpot").mean_ms == doctest::Approx(1500));
  CHECK(metrics.goodput_per_s == doctest::Approx(0.2));
  CHECK(metrics.goodput_share == doctest::Approx(1.0 / 3));
  // ITL 1000 and 2000 ms; E2EL 4000 and 1000 ms.
  CHECK(metrics.latency("itl").median_ms == doctest::Approx(1500));
  CHECK(metrics.latency("itl").percentiles[1].value == doctest::Approx(1750));
  CHECK(metrics.latency("e2el").mean_ms == doctest::Approx(2500));
  CHECK(metrics.latency("e2el").std_ms == doctest::Approx(1500));
  CHECK(metrics.latency("client_queue_time").mean_ms == doctest::Approx(250));
  CHECK(metrics.latency("ttft_from_send").mean_ms == doctest::Approx(750));
  CHECK(std::isinf(metrics.latency("e2el").percentiles[0].high));
  // Under way: 1 from 0.5, 2 from 2 (the second ends at 3 as the third starts), 1 from 4 to 5.
  CHECK(metrics.peak_concurrency == 2);
  CHECK(metrics.mean_concurrency == doctest::Approx((3.5 + 1 + 2) / 5));
  CHECK(metrics.peak_output_tokens_per_s == doctest::Approx(1));
  // At least 1.17 under way: from 2 s to 4 s.
  CHECK(metrics.steady.start_s == doctest::Approx(2));
  CHECK(metrics.steady.end_s == doctest::Approx(4));
  CHECK(metrics.steady.output_tokens_per_s == doctest::Approx(1.5));
  CHECK(metrics.steady.requests_per_s == doctest::Approx(1));
  // The first benchmark_serving: latency 4 s over 13 tokens and 3, 1 s over 11 and 1.
  CHECK(metrics.average_latency_s == doctest::Approx(2.5));
  CHECK(metrics.average_latency_per_token_s == doctest::Approx((4.0 / 13 + 1.0 / 11) / 2));
  CHECK(metrics.average_latency_per_output_token_s == doctest::Approx((4.0 / 3 + 1) / 2));
  // Arrivals at 0, 2, 3: two gaps in 3 s; sent at 0.5, 2, 3.
  CHECK(metrics.scheduled_rate == doctest::Approx(2.0 / 3));
  CHECK(metrics.sent_rate == doctest::Approx(0.8));
}

TEST_CASE("Serving metrics: a closed loop counts from sending") {
  const Example example;
  ServingOptions options;
  options.is_closed_loop = true;
  const ServingMetrics metrics = measure_serving(example.measurement, example.requests, options);
  CHECK(metrics.latency("ttft").mean_ms == doctest::Approx(750));
  CHECK(metrics.latency("e2el_including_client_queue").mean_ms == doctest::Approx(2500));
}

TEST_CASE("Serving metrics: nothing was answered") {
  const Example example;
  LoadMeasurement measurement;
  measurement.records.resize(3);
  const ServingMetrics metrics = measure_serving(measurement, example.requests, {});
  CHECK(metrics.num_not_sent == 3);
  CHECK(metrics.requests_per_s == 0);
  CHECK(metrics.latency("ttft").count == 0);
}

TEST_CASE("Serving report: vLLM's block") {
  const Example example;
  ServingReport report;
  report.shown_latencies = {"ttft", "tpot"};
  report.has_goodput = true;
  ServingPoint point{.mode = "inproc",
                     .request_rate = 2,
                     .ramp_up_strategy = "",
                     .max_concurrency = 7,
                     .metrics = {},
                     .checks = {}};
  ServingOptions options;
  options.percentiles = {99, 99.9};
  point.metrics = measure_serving(example.measurement, example.requests, options);
  CHECK(serving_block(report, point) ==
        "============ Serving Benchmark Result ============\n"
        "Successful requests:                     2         \n"
        "Failed requests:                         1         \n"
        "Maximum request concurrency:             7         \n"
        "Request rate configured (RPS):           2.00      \n"
        "Benchmark duration (s):                  5.00      \n"
        "Total input tokens:                      20        \n"
        "Total generated tokens:                  4         \n"
        "Request throughput (req/s):              0.40      \n"
        "Request goodput (req/s):                 0.40      \n"
        "Output token throughput (tok/s):         0.80      \n"
        "Peak output token throughput (tok/s):    1.00      \n"
        "Peak concurrent requests:                2.00      \n"
        "Total token throughput (tok/s):          4.80      \n"
        "---------------Time to First Token----------------\n"
        "Mean TTFT (ms):                          1000.00   \n"
        "Median TTFT (ms):                        1000.00   \n"
        "P99 TTFT (ms):                           1000.00   \n"
        "P99.9 TTFT (ms):                         1000.00   \n"
        "-----Time per Output Token (excl. 1st token)------\n"
        "Mean TPOT (ms):                          1500.00   \n"
        "Median TPOT (ms):                        1500.00   \n"
        "P99 TPOT (ms):                           1500.00   \n"
        "P99.9 TPOT (ms):                         1500.00   \n"
        "==================================================\n");
  const nlohmann::ordered_json json = serving_point_json(report, point);
  CHECK(json["p99.9_ttft_ms"] == doctest::Approx(1000));
  CHECK(json["completed"] == 2);
  CHECK(json["max_concurrency"] == 7);
}

TEST_CASE("Serving metrics: bad limits are refused") {
  for (const char* bad : {"ttft", "ttft:", "ttft:x", "ttft:-1", "itl:5", "ttft:5x", ""}) {
    CAPTURE(bad);
    CHECK_THROWS_AS(static_cast<void>(parse_service_level({bad})), Error);
  }
}

}  // namespace
}  // namespace llmrun
