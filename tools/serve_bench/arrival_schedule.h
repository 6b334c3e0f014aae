// When the requests of an online benchmark arrive, in seconds since its start.
//
// Gaps are gamma-distributed with shape b ("burstiness") and mean 1 / rate: b = 1 is a Poisson
// process, smaller is burstier, infinity is one request every 1 / rate. As in vLLM's serving
// benchmark the sum of the gaps is scaled so that the last request arrives at exactly N / rate,
// unless the rate ramps: the process is then conditioned on its length.
#pragma once

#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include "tools/workload/workload.h"

namespace llmrun {

struct ArrivalOptions {
  double request_rate = std::numeric_limits<double>::infinity();  // infinity: all at the start
  double burstiness = 1;                                          // > 0, may be infinity
  // A rate that changes over the requests, from start to end; then request_rate is not used.
  std::string ramp_up_strategy = {};  // "", "linear", "exponential"
  double ramp_up_start_rps = 0;
  double ramp_up_end_rps = 0;
};

// `count` arrivals, ascending. The same options and seed give the same schedule.
std::vector<double> make_arrivals(const ArrivalOptions& options, std::int64_t count,
                                  std::uint64_t seed);

// The rate at which request `index` of `count` arrives under a ramp.
double ramp_rate(const ArrivalOptions& options, std::int64_t index, std::int64_t count);

// A recorded load: who arrived when, how long prompts and outputs were.
struct TraceOptions {
  std::string path;
  std::string time_unit = "auto";  // s, ms; auto: ms for JSON lines (Mooncake), s for CSV
  double time_scale = 1;           // 2: half as fast
  std::int32_t max_requests = std::numeric_limits<std::int32_t>::max();
};
struct TraceWorkload {
  Workload workload;               // random ids of these lengths; equal hash_ids are equal blocks
  std::vector<double> arrivals_s;  // from 0, ascending
};
// Reads JSON lines with timestamp, input_length, output_length and, as in Mooncake's traces,
// hash_ids (of blocks of 512 tokens); or CSV with a header that names the first three. Throws
// Error(kInput) that names the line.
TraceWorkload read_trace(const TraceOptions& options, std::uint64_t seed,
                         const WorkloadModel& model);

}  // namespace llmrun
