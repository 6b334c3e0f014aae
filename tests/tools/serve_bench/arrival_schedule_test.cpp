#include "tools/serve_bench/arrival_schedule.h"

#include <algorithm>
#include <cmath>
#include <fstream>
#include <limits>

#include <doctest/doctest.h>

#include "engine/core/error.h"
#include "tests/support/temporary_folder.h"

namespace llmrun {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

// Largest distance between the samples' distribution and `cdf`, times sqrt(n): above 1.63 for one
// in a hundred samples that do follow it.
template <typename Cdf>
double kolmogorov_smirnov(std::vector<double> samples, const Cdf& cdf) {
  std::sort(samples.begin(), samples.end());
  const auto n = static_cast<double>(samples.size());
  double distance = 0;
  for (std::size_t i = 0; i < samples.size(); ++i) {
    const double expected = cdf(samples[i]);
    distance = std::max({distance, std::abs(expected - static_cast<double>(i) / n),
                         std::abs(expected - static_cast<double>(i + 1) / n)});
  }
  return distance * std::sqrt(n);
}

std::vector<double> gaps_of(const std::vector<double>& arrivals) {
  std::vector<double> gaps;
  for (std::size_t i = 1; i < arrivals.size(); ++i) gaps.push_back(arrivals[i] - arrivals[i - 1]);
  return gaps;
}

TEST_CASE("Arrivals: Poisson gaps are exponential, and the last arrival is at N / rate") {
  const std::vector<double> arrivals = make_arrivals({.request_rate = 8}, 4000, 1);
  CHECK(std::is_sorted(arrivals.begin(), arrivals.end()));
  CHECK(arrivals.back() == doctest::Approx(500));
  CHECK(kolmogorov_smirnov(gaps_of(arrivals), [](double x) { return 1 - std::exp(-8 * x); }) <
        1.63);
  CHECK(kolmogorov_smirnov(gaps_of(arrivals), [](double x) { return 1 - std::exp(-7 * x); }) > 2);
  CHECK(arrivals == make_arrivals({.request_rate = 8}, 4000, 1));
  CHECK(arrivals != make_arrivals({.request_rate = 8}, 4000, 2));
}

TEST_CASE("Arrivals: burstiness 2 gives Erlang gaps") {
  const std::vector<double> arrivals = make_arrivals({.request_rate = 5, .burstiness = 2}, 4000, 3);
  const auto erlang = [](double x) { return 1 - std::exp(-10 * x) * (1 + 10 * x); };
  CHECK(kolmogorov_smirnov(gaps_of(arrivals), erlang) < 1.63);
}

TEST_CASE("Arrivals: burstiness 0.5 gives gaps of a chi-square distribution of one degree") {
  const std::vector<double> arrivals =
      make_arrivals({.request_rate = 5, .burstiness = 0.5}, 4000, 4);
  // Shape 1/2, scale 0.4: x / 0.2 is chi-square of one degree, so P = erf(sqrt(x / 0.4)).
  const auto cdf = [](double x) { return std::erf(std::sqrt(x / 0.4)); };
  CHECK(kolmogorov_smirnov(gaps_of(arrivals), cdf) < 1.63);
}

TEST_CASE("Arrivals: constant gaps, and all at once") {
  const auto constant = make_arrivals({.request_rate = 4, .burstiness = kInfinity}, 9, 1);
  for (std::size_t i = 0; i < constant.size(); ++i) {
    CHECK(constant[i] == doctest::Approx(0.25 * static_cast<double>(i + 1)));
  }
  CHECK(make_arrivals({}, 3, 1) == std::vector<double>{0, 0, 0});
}

TEST_CASE("Arrivals: ramps have the rate of their place") {
  ArrivalOptions linear{.burstiness = kInfinity,
                        .ramp_up_strategy = "linear",
                        .ramp_up_start_rps = 1,
                        .ramp_up_end_rps = 11};
  CHECK(ramp_rate(linear, 0, 10) == 1);
  CHECK(ramp_rate(linear, 5, 10) == 6);
  const auto arrivals = make_arrivals(linear, 10, 1);
  double expected = 0;
  for (int i = 0; i < 10; ++i) expected += 1.0 / (1 + i);
  CHECK(arrivals.back() == doctest::Approx(expected));  // a harmonic number
  linear.ramp_up_strategy = "exponential";
  linear.ramp_up_end_rps = 16;
  CHECK(ramp_rate(linear, 5, 10) == doctest::Approx(4));
}

TraceWorkload read_text(const std::string& text, TraceOptions options = {}) {
  const testing::TemporaryFolder folder;
  options.path = (folder.path() / "trace").string();
  std::ofstream(options.path) << text;
  return read_trace(options, 7, {.tokenizer = nullptr, .vocab_size = 100, .max_model_len = 2000});
}

TEST_CASE("Traces: JSON lines in milliseconds, sorted; equal hash ids are equal blocks") {
  const TraceWorkload trace = read_text(
      R"({"timestamp": 3000, "input_length": 600, "output_length": 5, "hash_ids": [4, 9]})"
      "\n"
      R"({"timestamp": 1000, "input_length": 520, "output_length": 2, "hash_ids": [4, 8]})"
      "\n\n"
      R"({"timestamp": 5000, "input_length": 1999, "output_length": 2})");
  REQUIRE(trace.arrivals_s == std::vector<double>{0, 2});
  const auto& requests = trace.workload.requests;
  CHECK(requests[0].prompt_token_ids.size() == 520);
  CHECK(requests[1].prompt_token_ids.size() == 600);
  CHECK(requests[1].output_len == 5);
  CHECK(std::equal(requests[0].prompt_token_ids.begin(), requests[0].prompt_token_ids.begin() + 512,
                   requests[1].prompt_token_ids.begin()));
  CHECK_FALSE(std::equal(requests[0].prompt_token_ids.begin() + 512,
                         requests[0].prompt_token_ids.end(),
                         requests[1].prompt_token_ids.begin() + 512));
  CHECK(trace.workload.num_left_out.front().second == 1);
}

TEST_CASE("Traces: CSV in seconds, scaled; errors name the line") {
  const TraceWorkload trace =
      read_text("output_length,timestamp,other,input_length\r\n3,1.5,x,7\r\n4,2,y,8\r\n",
                {.path = "", .time_scale = 2});
  CHECK(trace.arrivals_s == std::vector<double>{0, 1});
  CHECK(trace.workload.requests[1].prompt_token_ids.size() == 8);
  for (const char* bad : {"", "a,b\n1,2\n", "timestamp,input_length,output_length\n1,0,2\n",
                          "timestamp,input_length,output_length\n1,x,2\n",
                          "timestamp,input_length,output_length\n1\n", "{\"timestamp\": 1}\n",
                          "{\"timestamp\": -1, \"input_length\": 1, \"output_length\": 1}\n"}) {
    CAPTURE(bad);
    CHECK_THROWS_AS(static_cast<void>(read_text(bad)), Error);
  }
}

}  // namespace
}  // namespace llmrun
