// The datasets behind make_workload(), one function each. They append to `workload.requests`.
#pragma once

#include "tools/workload/workload.h"

namespace llmrun {

// The rules of vLLM's ShareGPTDataset for what is too short or too long to be sent.
struct LengthFilter {
  std::int32_t min_len = 4;  // of prompt and output
  std::int32_t max_prompt_len = 1024;
  std::int32_t max_total_len = 2048;
  bool check_min_output_len = true;  // false when the output's length is given
};

// Why a request of these lengths is left out; null when it is not.
const char* reason_to_leave_out(std::int64_t prompt_len, std::int64_t output_len,
                                const LengthFilter& filter);

void append_random(const WorkloadOptions& options, const WorkloadModel& model, Workload& workload);
void append_prefix_repetition(const WorkloadOptions& options, const WorkloadModel& model,
                              Workload& workload);
// Random ids in lengths that are spread as people's conversations are.
void append_lengths(const WorkloadOptions& options, const WorkloadModel& model, Workload& workload);
void append_sharegpt(const WorkloadOptions& options, const WorkloadModel& model,
                     Workload& workload);
void append_custom(const WorkloadOptions& options, const WorkloadModel& model, Workload& workload);

// `length` uniform ids; equal (seed, stream) give equal ids, of which a shorter list is a prefix.
std::vector<TokenId> random_token_ids(std::uint64_t seed, std::uint64_t stream, std::int64_t length,
                                      std::int64_t vocab_size);

// `count` lengths, exponential with this mean and between `low` and `high`, which keeps the mean.
std::vector<std::int32_t> exponential_lengths(std::uint64_t seed, std::uint64_t stream,
                                              std::int32_t count, double mean, std::int32_t low,
                                              std::int32_t high);

}  // namespace llmrun
