// What an engine has done since it started: counters, told once at the end of a run or watched
// while it runs. Only LlmEngine writes them.
#pragma once

#include <cstdint>

namespace llmrun {

struct EngineStats {
  // --- requests ---
  std::int64_t num_sequences_running = 0;
  std::int64_t num_sequences_waiting = 0;
  std::int64_t num_requests_finished = 0;  // failed ones included
  std::int64_t num_requests_failed = 0;

  // --- tokens ---
  std::int64_t num_prompt_tokens = 0;  // of finished requests
  std::int64_t num_output_tokens = 0;  // sampled and kept, all samples

  // --- steps ---
  std::int64_t num_steps = 0;
  std::int64_t num_batched_tokens = 0;  // rows computed for somebody
  std::int64_t num_padding_tokens = 0;  // rows computed for nobody
  std::int64_t num_wasted_tokens = 0;   // rows of sequences that had ended a step before

  // --- KV cache ---
  std::int64_t kv_blocks_total = 0;  // the reserved block not counted
  std::int64_t kv_blocks_used = 0;   // held by running sequences
  std::int64_t kv_blocks_peak = 0;
  std::int64_t num_preemptions = 0;
  std::int64_t num_recomputed_tokens = 0;
  std::int64_t prefix_query_tokens = 0;  // prompt tokens looked up in the prefix cache
  std::int64_t prefix_hit_tokens = 0;    // and found there

  // Share of the KV pool in use, 0 to 1.
  double kv_usage() const {
    return kv_blocks_total == 0
               ? 0.0
               : static_cast<double>(kv_blocks_used) / static_cast<double>(kv_blocks_total);
  }
  // Share of the computed tokens that had been computed before, 0 to 1.
  double recompute_rate() const {
    return num_batched_tokens == 0 ? 0.0
                                   : static_cast<double>(num_recomputed_tokens) /
                                         static_cast<double>(num_batched_tokens);
  }
  // What has happened since `before`: counters are differences, states (running, waiting, blocks)
  // are as they are now.
  EngineStats since(const EngineStats& before) const;

  double prefix_hit_rate() const {
    return prefix_query_tokens == 0
               ? 0.0
               : static_cast<double>(prefix_hit_tokens) / static_cast<double>(prefix_query_tokens);
  }
};

inline EngineStats EngineStats::since(const EngineStats& before) const {
  EngineStats delta = *this;
  delta.num_requests_finished -= before.num_requests_finished;
  delta.num_requests_failed -= before.num_requests_failed;
  delta.num_prompt_tokens -= before.num_prompt_tokens;
  delta.num_output_tokens -= before.num_output_tokens;
  delta.num_steps -= before.num_steps;
  delta.num_batched_tokens -= before.num_batched_tokens;
  delta.num_padding_tokens -= before.num_padding_tokens;
  delta.num_wasted_tokens -= before.num_wasted_tokens;
  delta.num_preemptions -= before.num_preemptions;
  delta.num_recomputed_tokens -= before.num_recomputed_tokens;
  delta.prefix_query_tokens -= before.prefix_query_tokens;
  delta.prefix_hit_tokens -= before.prefix_hit_tokens;
  return delta;
}

}  // namespace llmrun
