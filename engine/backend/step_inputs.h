// What the host knows of one step, before it is on the device. Built by the runner, read by
// Backend::upload.
//
// Shape letters, used in every header of the engine:
//   T tokens in the step, S sequences, R rows of logits, H hidden size, Hq query heads, Hkv
//   key/value heads, D head size, I MLP size, V vocabulary rows, L layers, B blocks in the longest
//   block table.
#pragma once

#include <cstdint>
#include <vector>

#include "engine/core/token_id.h"

namespace llmrun {

// Marks, in StepInputs::token_ids, a token that only the device knows yet: the one sampled last for
// request slot `slot`. The host plans a step before it has read the tokens of the step before.
constexpr TokenId feedback_token(std::int32_t slot) {
  return -1 - slot;
}
constexpr bool is_feedback_token(TokenId id) {
  return id < 0;
}
constexpr std::int32_t feedback_slot(TokenId id) {
  return -1 - id;
}

// Sequences are ragged and back to back: sequence s owns tokens [query_start_loc[s],
// query_start_loc[s + 1]).
struct StepInputs {
  std::vector<TokenId> token_ids;       // [T] ids, or feedback_token(slot)
  std::vector<std::int32_t> positions;  // [T] position of each token in its sequence
  std::vector<std::int64_t>
      slot_mapping;  // [T] KV slot the token is stored to: block * block_size + offset
  std::vector<std::int32_t> query_start_loc;  // [S + 1]
  std::vector<std::int32_t> seq_lens;         // [S] tokens in the cache after this step
  std::vector<std::int32_t>
      block_tables;                 // [S, B] row-major; unused entries name the reserved block
  std::int32_t max_num_blocks = 0;  // B
  std::vector<std::int32_t>
      logits_indices;  // [R] tokens of the step whose logits are wanted, ascending

  std::int32_t num_tokens() const { return static_cast<std::int32_t>(token_ids.size()); }
  std::int32_t num_sequences() const { return static_cast<std::int32_t>(seq_lens.size()); }
};

}  // namespace llmrun
