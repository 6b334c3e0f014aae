// A step's inputs arrive on the device as one packed copy; this spreads them to places that do not
// depend on the step, so that recorded graphs find them, and resolves tokens that only the device
// knows.
#pragma once

#include <cstdint>

#include "kernels/cuda/launch.h"

namespace llmrun::kernels {

// Where a step's inputs lie. The packed form holds the same arrays back to back.
struct StepArrays {
  std::int64_t* slot_mapping;     // [T]
  std::int32_t* token_ids;        // [T]; packed: feedback_token(slot) where < 0
  std::int32_t* positions;        // [T]
  std::int32_t* query_start_loc;  // [S + 1]
  std::int32_t* seq_lens;         // [S]
  std::int32_t* logits_indices;   // [R]
  std::int32_t* attention_plan;   // [P]
  std::int32_t* block_tables;     // packed: [S, B]; spread: [S, max_num_blocks]
};

struct StepCounts {
  std::int64_t num_tokens;       // T
  std::int64_t num_sequences;    // S
  std::int64_t num_logits_rows;  // R
  std::int64_t num_plan_words;   // P
  std::int64_t num_blocks;       // B of this step
  std::int64_t max_num_blocks;   // row length of the spread block tables
};

// feedback_tokens [slots]: the token sampled last for each request slot.
void spread_step_inputs(const Launch& launch, const StepArrays& spread, const StepArrays& packed,
                        const StepCounts& counts, const std::int32_t* feedback_tokens);

}  // namespace llmrun::kernels
