// What each step of an engine did, for benchmarks and traces: one record a step, made by LlmEngine
// while somebody listens.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "engine/sequence/scheduled_batch.h"

namespace llmrun {

struct StepRecord {
  std::uint64_t step = 0;

  // --- what it computed ---
  std::int32_t num_prefill_tokens = 0;    // prompt tokens, and tokens lost by preemption
  std::int32_t num_decode_sequences = 0;  // sequences that got one more token from one
  std::int32_t num_sampled_rows = 0;      // tokens chosen
  std::int32_t num_padding_tokens = 0;    // rows computed for nobody
  // Tokens that the decode sequences look at, their new ones included.
  std::int64_t num_decode_context_tokens = 0;
  // The same, summed over every prefill token: its own position + 1.
  std::int64_t num_prefill_context_tokens = 0;
  // Tokens before a prefill chunk, read once a chunk.
  std::int64_t num_prefill_past_tokens = 0;

  // --- sequences and the KV cache after it was planned ---
  std::int32_t num_running_sequences = 0;
  std::int32_t num_waiting_sequences = 0;
  std::int64_t kv_blocks_used = 0;
  std::int64_t num_kv_tokens = 0;  // of the sequences in this step, its new tokens included

  // --- when, on the engine's clock ---
  double submitted_s = 0;    // it was queued
  double collected_s = 0;    // its tokens were on the host; 0: not yet
  double device_busy_s = 0;  // as the device reports it; 0: it does not
  double device_idle_s = 0;
  bool replayed_graph = false;

  std::int64_t num_tokens() const { return num_prefill_tokens + num_decode_sequences; }
  bool has_prefill() const { return num_prefill_tokens > 0; }
};

using StepListener = std::function<void(const StepRecord&)>;

// The part of a record that the plan of a step says.
StepRecord describe_step(const ScheduledBatch& batch);

// Seconds that each step took of the run's time: from the end of the step before it, or `start_s`,
// to its own end. They add up to the time from `start_s` to the end of the last step.
std::vector<double> step_seconds(const std::vector<StepRecord>& steps, double start_s);

}  // namespace llmrun
