// What a server counts, in Prometheus's text form. Names are vLLM's with llmrun_ for vllm:.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "engine/metrics/engine_stats.h"
#include "engine/sequence/request.h"

namespace llmrun {

// Counts of values by upper bound. One thread observes, any thread reads.
class Histogram {
 public:
  explicit Histogram(std::vector<double> upper_bounds);
  void observe(double value);
  // Appends the lines of `name`; `labels` as in model_name="x".
  void write(std::string_view name, std::string_view help, std::string_view labels,
             std::string& out) const;

 private:
  std::vector<double> upper_bounds_;
  std::vector<std::atomic<std::int64_t>> counts_;  // one more than bounds: above the last
  std::atomic<double> sum_ = 0;
};

class ServerMetrics {
 public:
  ServerMetrics();

  // All three on the engine's thread.
  void count_token_interval(double seconds) { inter_token_latency_.observe(seconds); }
  void count_finished(const RequestOutput& output);

  // The text of GET /metrics.
  std::string to_text(const EngineStats& stats, std::string_view model_name) const;

 private:
  Histogram time_to_first_token_;
  Histogram inter_token_latency_;
  Histogram e2e_request_latency_;
  Histogram request_queue_time_;
  Histogram request_prefill_time_;
  Histogram request_decode_time_;
  std::array<std::atomic<std::int64_t>, 5> num_finished_{};  // samples, by FinishReason
};

}  // namespace llmrun
