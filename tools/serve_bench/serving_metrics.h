// The figures of an online run, computed once from what happened to its requests. Names, formulas
// and percentiles (linear interpolation, as numpy) are those of vLLM's serving benchmark, but that
// latency counts from the scheduled arrival: what a user waits, the client's queue included.
#pragma once

#include <cstdint>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "engine/metrics/statistics.h"
#include "tools/report/run_timeline.h"
#include "tools/serve_bench/bench_target.h"
#include "tools/serve_bench/load_run.h"

namespace llmrun {

// Upper limits in milliseconds; infinity: none.
struct ServiceLevel {
  double ttft_ms = std::numeric_limits<double>::infinity();
  double tpot_ms = std::numeric_limits<double>::infinity();
  double e2el_ms = std::numeric_limits<double>::infinity();
  bool is_set() const;
};
// From "ttft:500", "tpot:50", "e2el:10000". Throws Error(kUsage).
ServiceLevel parse_service_level(const std::vector<std::string>& terms);

struct ServingOptions {
  std::vector<double> percentiles = {90, 95, 99};
  ServiceLevel goodput = {};
  // A load of fixed concurrency has no schedule: a request arrives when there is room for it.
  bool is_closed_loop = false;
};

// A percentile and the 95 % interval of what it estimates, from order statistics (binomial). An
// end that the samples are too few to tell is infinite.
struct PercentileEstimate {
  double percentile = 0;  // 0 to 100
  double value = 0;
  double low = 0;
  double high = 0;
};

struct LatencyFigure {
  std::string name;   // "ttft"
  std::string title;  // "Time to First Token"
  std::string label;  // "TTFT"
  std::string definition;
  std::int64_t count = 0;
  double mean_ms = 0;
  double median_ms = 0;
  double std_ms = 0;  // of the population
  double max_ms = 0;
  std::vector<PercentileEstimate> percentiles = {};
  CumulativeShares cdf = {};  // milliseconds
};

// From the first to the last moment in which at least 90 % of the mean concurrency were under way.
struct SteadyWindow {
  double start_s = 0;
  double end_s = 0;
  double mean_concurrency = 0;
  double output_tokens_per_s = 0;
  double requests_per_s = 0;  // that ended in it
  double share_of_run = 0;    // 0 to 1
};

struct FailureCount {
  std::string reason;
  std::int64_t count = 0;
  std::string first_message;
};

struct ServingMetrics {
  double duration_s = 0;
  std::int64_t num_completed = 0;
  std::int64_t num_failed = 0;
  std::int64_t num_not_sent = 0;  // the time was over
  std::int64_t num_retries = 0;
  std::int64_t num_input_tokens = 0;   // of completed requests
  std::int64_t num_output_tokens = 0;  // of completed requests
  std::int64_t num_short_outputs = 0;  // fewer tokens than asked for
  // Answers whose server counts other prompt tokens than were sent.
  std::int64_t num_other_prompt_counts = 0;
  double requests_per_s = 0;
  double goodput_per_s = 0;
  double goodput_share = 0;  // of all requests that were sent, 0 to 1
  double output_tokens_per_s = 0;
  double total_tokens_per_s = 0;
  double peak_output_tokens_per_s = 0;  // in the seconds since the start; tokens, not chunks
  std::int64_t peak_concurrency = 0;
  double mean_concurrency = 0;
  double scheduled_rate = 0;  // requests/s over the schedule; 0: all at once
  double sent_rate = 0;       // the same of when they were sent
  double tokens_per_piece = 0;
  std::vector<LatencyFigure> latencies;  // ttft, tpot, itl, e2el, then those apart from vLLM's four
  SteadyWindow steady;
  std::vector<FailureCount> failures;
  // Waiting: arrived, no token yet. Running: from the first token to the end.
  std::vector<TimelinePoint> timeline;
  bool has_kv_usage = false;  // the timeline has it
  // Sequences in each decode step; empty where it is not known.
  std::vector<SizeBin> decode_batches;
  // As vLLM's first benchmark_serving told them, of completed requests.
  double average_latency_s = 0;
  double average_latency_per_token_s = 0;  // by prompt and output tokens
  double average_latency_per_output_token_s = 0;

  const LatencyFigure& latency(const std::string& name) const;
};

ServingMetrics measure_serving(const LoadMeasurement& measurement,
                               const std::vector<BenchRequest>& requests,
                               const ServingOptions& options);

}  // namespace llmrun
