// The tokens of one sequence as the penalties see them: which were in the prompt, and how often
// each was generated. Sparse: its size is that of the sequence, not of the vocabulary.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "engine/backend/sampling_batch.h"
#include "engine/core/token_id.h"

namespace llmrun {

class PenaltyState {
 public:
  PenaltyState() = default;
  PenaltyState(std::span<const TokenId> prompt_tokens, std::span<const TokenId> output_tokens);

  void count_output_token(TokenId token);

  // Changes the logits as vLLM does, in this order: a token of the prompt or the output is made
  // less likely by `repetition_penalty` (logit / penalty when positive, else logit * penalty); a
  // token of the output then loses frequency_penalty times its count, and presence_penalty.
  // REQUIRES: every token is below logits.size().
  void apply(std::span<float> logits, const SamplingRow& row) const;

 private:
  struct Entry {
    TokenId token;
    std::int32_t output_count;  // 0: in the prompt only
  };
  void sort_and_merge();

  std::vector<Entry> entries_;  // by token
};

}  // namespace llmrun
