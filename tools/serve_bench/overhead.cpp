#include "tools/serve_bench/overhead.h"

#include <algorithm>
#include <vector>

#include <boost/asio/io_context.hpp>

#include "engine/metrics/statistics.h"
#include "tools/serve_bench/arrival_schedule.h"
#include "tools/serve_bench/http_target.h"
#include "tools/serve_bench/load_run.h"
#include "tools/serve_bench/loopback_server.h"
#include "tools/serve_bench/serving_metrics.h"

namespace llmrun {
namespace {

constexpr std::int32_t kManyTokens = 65;
constexpr double kSecondsAtOneTime = 0.1;  // of a phase, at the least

HttpTargetOptions null_target(const HttpUrl& url) {
  HttpTargetOptions options;
  options.server.base_url = url;
  options.server.model = "null";
  return options;
}

class NullLoad {
 public:
  NullLoad() : server_(null_completion), target_(context_, null_target(server_.url())) {}

  LoadMeasurement run(std::int64_t count, std::int32_t output_len, std::int32_t concurrency,
                      double rate) {
    requests_.assign(static_cast<std::size_t>(count),
                     {.prompt_token_ids = &prompt_, .output_len = output_len, .seed = 0});
    ArrivalOptions arrivals{.burstiness = std::numeric_limits<double>::infinity()};
    if (rate > 0) arrivals.request_rate = rate;
    return run_load(context_, target_, requests_,
                    {.arrivals_s = make_arrivals(arrivals, count, 0),
                     .limits = {.max_concurrency = concurrency}},
                    nullptr);
  }
  const std::vector<BenchRequest>& requests() const { return requests_; }

 private:
  boost::asio::io_context context_{1};
  LoopbackServer server_;
  HttpTarget target_;
  std::vector<TokenId> prompt_ = std::vector<TokenId>(128, 12345);
  std::vector<BenchRequest> requests_;
};

ServingMetrics metrics_of(const LoadMeasurement& measurement, const NullLoad& load, bool closed) {
  return measure_serving(measurement, load.requests(),
                         {.percentiles = {99}, .is_closed_loop = closed});
}

}  // namespace

Overhead measure_overhead(double paced_rate, double seconds) {
  NullLoad load;
  load.run(32, 2, 16, 0);  // opens connections
  Overhead overhead;

  const LoadMeasurement one_by_one = load.run(200, 1, 1, 0);
  const LatencyFigure latency = metrics_of(one_by_one, load, true).latency("e2el");
  overhead.latency_ms_p50 = latency.median_ms;
  overhead.latency_ms_p99 = latency.percentiles.front().value;

  const LoadMeasurement short_answers = load.run(1000, 1, 16, 0);
  overhead.max_requests_per_s = metrics_of(short_answers, load, true).requests_per_s;
  const std::int64_t num_long = 200;
  const LoadMeasurement long_answers = load.run(num_long, kManyTokens, 16, 0);
  overhead.cpu_us_per_request = 1e6 * short_answers.thread_cpu_s / 1000;
  overhead.cpu_us_per_token =
      std::max(0.0, (1e6 * long_answers.thread_cpu_s / static_cast<double>(num_long) -
                     overhead.cpu_us_per_request) /
                        (kManyTokens - 1));

  const double paced_s = std::max(seconds - kSecondsAtOneTime * 2, 0.3);
  const auto num_paced =
      std::max<std::int64_t>(static_cast<std::int64_t>(paced_rate * paced_s), 10);
  const ServingMetrics paced = metrics_of(load.run(num_paced, 4, 0, paced_rate), load, false);
  const LatencyFigure& late = paced.latency("client_queue_time");
  overhead.paced_rate = paced_rate;
  overhead.achieved_rate = paced.sent_rate;
  overhead.late_ms_p50 = late.median_ms;
  overhead.late_ms_p99 = late.percentiles.front().value;
  overhead.num_requests = 200 + 1000 + num_long + num_paced;
  return overhead;
}

}  // namespace llmrun
