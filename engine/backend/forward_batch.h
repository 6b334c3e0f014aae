// One step's inputs on the device: StepInputs after Backend::upload. Valid until the step is
// collected. A backend may pad the batch (CUDA graphs): padding sequences of one token then follow
// the real ones and store their keys and values to the reserved block; their rows of logits follow
// the real rows, and nobody looks at them.
#pragma once

#include <cstdint>

#include "engine/core/tensor.h"

namespace llmrun {

struct ForwardBatch {
  Tensor token_ids;                  // [T] i32, all >= 0
  Tensor positions;                  // [T] i32
  Tensor slot_mapping;               // [T] i64
  Tensor query_start_loc;            // [S + 1] i32
  Tensor seq_lens;                   // [S] i32
  Tensor block_tables;               // [S, B] i32
  Tensor logits_indices;             // [R] i32
  std::int32_t num_tokens = 0;       // T
  std::int32_t num_sequences = 0;    // S
  std::int32_t num_logits_rows = 0;  // R
  std::int32_t max_query_len = 0;
  std::int32_t max_seq_len = 0;
};

}  // namespace llmrun
