#include "tools/serve/server_metrics.h"

#include <algorithm>
#include <utility>

#include <fmt/format.h>

namespace llmrun {
namespace {

std::vector<double> first_token_bounds() {
  return {0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75,
          1.0,   2.5,   5.0,  7.5,  10.0, 20.0, 40.0, 80,  160,  640, 2560};
}

std::vector<double> token_bounds() {
  return {0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3,
          0.4,   0.5,    0.75,  1.0,  2.5,   5.0,  7.5,   10,  20,   40,  80};
}

std::vector<double> request_bounds() {
  return {0.01, 0.03, 0.1,  0.3,  0.5,  0.8,  1.0,   1.5,   2.0,   2.5,   5.0,  10.0,
          15.0, 20.0, 30.0, 40.0, 50.0, 60.0, 120.0, 240.0, 480.0, 960.0, 1920, 7680};
}

// Label values: backslash, quote and newline are escaped.
std::string escaped(std::string_view text) {
  std::string result;
  for (const char c : text) {
    if (c == '\\' || c == '"') result += '\\';
    result += c == '\n' ? std::string("\\n") : std::string(1, c);
  }
  return result;
}

void write_value(std::string_view name, const char* type, std::string_view help,
                 std::string_view labels, double value, std::string& out) {
  out += fmt::format("# HELP {0} {1}\n# TYPE {0} {2}\n{0}{{{3}}} {4}\n", name, help, type, labels,
                     value);
}

}  // namespace

Histogram::Histogram(std::vector<double> upper_bounds)
    : upper_bounds_(std::move(upper_bounds)), counts_(upper_bounds_.size() + 1) {}

void Histogram::observe(double value) {
  const auto bound = std::lower_bound(upper_bounds_.begin(), upper_bounds_.end(), value);
  const auto index = static_cast<std::size_t>(bound - upper_bounds_.begin());
  counts_[index].fetch_add(1, std::memory_order_relaxed);
  sum_.store(sum_.load(std::memory_order_relaxed) + value, std::memory_order_relaxed);
}

void Histogram::write(std::string_view name, std::string_view help, std::string_view labels,
                      std::string& out) const {
  out += fmt::format("# HELP {0} {1}\n# TYPE {0} histogram\n", name, help);
  std::int64_t count = 0;
  for (std::size_t i = 0; i < counts_.size(); ++i) {
    count += counts_[i].load(std::memory_order_relaxed);
    const std::string bound =
        i < upper_bounds_.size() ? fmt::format("{}", upper_bounds_[i]) : "+Inf";
    out += fmt::format("{}_bucket{{{},le=\"{}\"}} {}\n", name, labels, bound, count);
  }
  out += fmt::format("{0}_sum{{{1}}} {2}\n{0}_count{{{1}}} {3}\n", name, labels,
                     sum_.load(std::memory_order_relaxed), count);
}

ServerMetrics::ServerMetrics()
    : time_to_first_token_(first_token_bounds()),
      inter_token_latency_(token_bounds()),
      e2e_request_latency_(request_bounds()),
      request_queue_time_(request_bounds()),
      request_prefill_time_(request_bounds()),
      request_decode_time_(request_bounds()) {}

void ServerMetrics::count_finished(const RequestOutput& output) {
  if (!output.error.empty()) {
    num_finished_[static_cast<std::size_t>(FinishReason::kError)] += 1;
    return;
  }
  for (const CompletionOutput& sample : output.outputs) {
    num_finished_[static_cast<std::size_t>(sample.finish_reason)] += 1;
  }
  const RequestTimings& timings = output.timings;
  e2e_request_latency_.observe(timings.finished - timings.arrived);
  if (timings.first_scheduled > 0) {
    request_queue_time_.observe(timings.first_scheduled - timings.arrived);
  }
  if (timings.first_token > 0) {
    time_to_first_token_.observe(timings.first_token - timings.arrived);
    request_prefill_time_.observe(timings.first_token - timings.first_scheduled);
    request_decode_time_.observe(timings.finished - timings.first_token);
  }
}

std::string ServerMetrics::to_text(const EngineStats& stats, std::string_view model_name) const {
  const std::string labels = fmt::format("model_name=\"{}\"", escaped(model_name));
  std::string out;
  const auto gauge = [&](std::string_view name, std::string_view help, double value) {
    write_value(fmt::format("llmrun_{}", name), "gauge", help, labels, value, out);
  };
  const auto counter = [&](std::string_view name, std::string_view help, std::int64_t value) {
    write_value(fmt::format("llmrun_{}_total", name), "counter", help, labels,
                static_cast<double>(value), out);
  };
  gauge("num_requests_running", "Sequences in the running batch.",
        static_cast<double>(stats.num_sequences_running));
  gauge("num_requests_waiting", "Sequences waiting to run.",
        static_cast<double>(stats.num_sequences_waiting));
  gauge("kv_cache_usage_perc", "KV cache in use, 0 to 1.", stats.kv_usage());
  counter("prompt_tokens", "Prompt tokens of finished requests.", stats.num_prompt_tokens);
  counter("generation_tokens", "Tokens generated.", stats.num_output_tokens);
  counter("num_preemptions", "Sequences preempted.", stats.num_preemptions);
  counter("prefix_cache_queries", "Prompt tokens looked up in the prefix cache.",
          stats.prefix_query_tokens);
  counter("prefix_cache_hits", "Prompt tokens found in the prefix cache.", stats.prefix_hit_tokens);
  out +=
      "# HELP llmrun_request_success_total Samples finished, by reason.\n"
      "# TYPE llmrun_request_success_total counter\n";
  for (const FinishReason reason :
       {FinishReason::kStop, FinishReason::kLength, FinishReason::kAbort, FinishReason::kError}) {
    out += fmt::format("llmrun_request_success_total{{{},finished_reason=\"{}\"}} {}\n", labels,
                       to_string(reason), num_finished_[static_cast<std::size_t>(reason)].load());
  }
  time_to_first_token_.write("llmrun_time_to_first_token_seconds",
                             "From a request's arrival to its first token.", labels, out);
  inter_token_latency_.write("llmrun_inter_token_latency_seconds",
                             "Between two tokens of a sample.", labels, out);
  e2e_request_latency_.write("llmrun_e2e_request_latency_seconds",
                             "From a request's arrival to its end.", labels, out);
  request_queue_time_.write("llmrun_request_queue_time_seconds",
                            "From a request's arrival to its first step.", labels, out);
  request_prefill_time_.write("llmrun_request_prefill_time_seconds",
                              "From a request's first step to its first token.", labels, out);
  request_decode_time_.write("llmrun_request_decode_time_seconds",
                             "From a request's first token to its end.", labels, out);
  return out;
}

}  // namespace llmrun
