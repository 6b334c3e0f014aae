// Plans a step's attention on the host: which block of threads takes which part of which sequence.
// The work list (kernels/cuda/attention_work.h) travels with the step's inputs; every layer and
// every head of a step uses the same one. Free of CUDA.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "engine/backend/step_inputs.h"
#include "kernels/cuda/attention_work.h"

namespace llmrun {

struct AttentionPlanOptions {
  std::int32_t num_workers = 1;  // of decode: kernels::prepare_tiled_attention
  std::int32_t group_size = 1;   // query heads of one KV head
  // Splits of a sequence depend on its length alone. Costs balance, and more merging.
  bool batch_invariant = false;
};

// The most that plan_attention writes and uses for steps up to this size.
struct AttentionPlanLimits {
  std::size_t num_words = 0;
  std::int64_t num_slots = 0;  // of the decode workspace
};
AttentionPlanLimits attention_plan_limits(const AttentionPlanOptions& options,
                                          std::int32_t max_num_tokens,
                                          std::int32_t max_num_sequences);

// What the launches need beside the words.
struct AttentionPlan {
  std::size_t num_words = 0;
  std::int32_t num_decode_items = 0;
  std::int32_t num_prefill_tiles = 0;
  std::size_t prefill_offset = 0;  // in words
};

// Sequences with one new token become decode items, longer ones prefill tiles. Writes the first
// num_words of `out`, which has room for attention_plan_limits().num_words. O(S + T log T).
AttentionPlan plan_attention(const StepInputs& inputs, const AttentionPlanOptions& options,
                             std::span<std::int32_t> out);

}  // namespace llmrun
