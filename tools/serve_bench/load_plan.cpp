#include "tools/serve_bench/load_plan.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <string_view>

#include <fmt/format.h>

#include "engine/core/error.h"

namespace llmrun {
namespace {

constexpr double kMinRate = 1e-3;
constexpr double kMaxRate = 1e6;
constexpr std::array kLatencies = {
    "ttft", "tpot", "itl", "e2el", "client_queue_time", "e2el_including_client_queue"};

[[noreturn]] void usage_error(const std::string& message) {
  throw Error(ErrorKind::kUsage, message);
}

std::vector<std::string> split(std::string_view text) {
  std::vector<std::string> parts;
  while (!text.empty()) {
    const std::size_t comma = std::min(text.find(','), text.size());
    parts.emplace_back(text.substr(0, comma));
    text.remove_prefix(std::min(comma + 1, text.size()));
  }
  return parts;
}

// Numbers of a list, each in [low, high]; "inf" where it is allowed.
std::vector<double> numbers(const std::string& flag, const std::string& list, double low,
                            double high, bool allows_infinity) {
  std::vector<double> values;
  for (const std::string& part : split(list)) {
    double value = 0;
    const auto result = std::from_chars(part.data(), part.data() + part.size(), value);
    const bool is_number = result.ec == std::errc() && result.ptr == part.data() + part.size();
    const bool is_infinite = is_number && std::isinf(value) && value > 0;
    if (!is_number || (is_infinite ? !allows_infinity : !(value >= low && value <= high))) {
      usage_error(fmt::format("{}: '{}': expected numbers from {:g} to {:g}{}, separated by commas",
                              flag, part, low, high, allows_infinity ? ", or inf" : ""));
    }
    values.push_back(value);
  }
  if (values.empty()) usage_error(flag + ": an empty list");
  return values;
}

std::vector<std::string> modes_of(const ServeBenchOptions& options) {
  if (!options.server.base_url.empty()) return {"url"};
  std::vector<std::string> modes = split(options.modes);
  for (const std::string& mode : modes) {
    if (mode != "inproc" && mode != "http") {
      usage_error(fmt::format("--modes: '{}': expected inproc, http or inproc,http", mode));
    }
  }
  if (modes.empty()) usage_error("--modes: an empty list");
  return modes;
}

std::vector<std::int32_t> concurrencies_of(const ServeBenchOptions& options) {
  if (options.max_concurrency.empty()) return {0};
  std::vector<std::int32_t> concurrencies;
  for (const double value :
       numbers("--max-concurrency", options.max_concurrency, 1, 1 << 20, false)) {
    concurrencies.push_back(static_cast<std::int32_t>(value));
  }
  return concurrencies;
}

std::vector<std::string> shown_latencies_of(const ServeBenchOptions& options) {
  std::vector<std::string> shown = split(options.percentile_metrics);
  for (const std::string& name : shown) {
    if (std::find(kLatencies.begin(), kLatencies.end(), name) == kLatencies.end()) {
      usage_error(
          fmt::format("--percentile-metrics: '{}': expected ttft, tpot, itl, e2el, "
                      "client_queue_time or e2el_including_client_queue",
                      name));
    }
  }
  const std::string queue = "client_queue_time";
  if (!options.max_concurrency.empty() &&
      std::find(shown.begin(), shown.end(), queue) == shown.end()) {
    shown.push_back(queue);
  }
  return shown;
}

void check_arrivals(const ServeBenchOptions& options, const LoadPlan& plan) {
  const bool ramps = !plan.arrivals.ramp_up_strategy.empty();
  if (ramps && (plan.arrivals.ramp_up_start_rps <= 0 || plan.arrivals.ramp_up_end_rps <= 0)) {
    usage_error("--ramp-up-strategy needs --ramp-up-start-rps and --ramp-up-end-rps");
  }
  if (ramps && (plan.rates.size() > 1 || std::isfinite(plan.rates.front()))) {
    usage_error("--ramp-up-strategy says the rate itself: --request-rate must not be given");
  }
  if (options.duration_s > 0 && std::isinf(plan.rates.front()) && !ramps &&
      options.trace.path.empty() && options.max_concurrency.empty() && !options.find_rate) {
    usage_error(
        "--duration needs a --request-rate or --max-concurrency: otherwise all requests are sent "
        "at once");
  }
}

void check_search(const ServeBenchOptions& options, const LoadPlan& plan) {
  if (!options.find_rate) return;
  if (!plan.serving.goodput.is_set()) usage_error("--find-rate needs --goodput");
  if (plan.modes.size() > 1 || plan.concurrencies.size() > 1) {
    usage_error("--find-rate takes one mode and one --max-concurrency");
  }
  if (options.search_max_rate < options.search_min_rate) {
    usage_error("--search-max-rate is below --search-min-rate");
  }
}

}  // namespace

LoadPlan make_load_plan(const ServeBenchOptions& options) {
  LoadPlan plan;
  plan.modes = modes_of(options);
  plan.rates = numbers("--request-rate", options.request_rates, kMinRate, kMaxRate, true);
  plan.concurrencies = concurrencies_of(options);
  plan.arrivals = options.arrivals;
  plan.arrivals.burstiness =
      numbers("--burstiness", options.burstiness, kMinRate, kMaxRate, true).front();
  plan.serving.percentiles =
      numbers("--metric-percentiles", options.metric_percentiles, 0, 100, false);
  plan.serving.goodput = parse_service_level(options.goodput);
  plan.shown_latencies = shown_latencies_of(options);
  check_arrivals(options, plan);
  check_search(options, plan);
  return plan;
}

}  // namespace llmrun
