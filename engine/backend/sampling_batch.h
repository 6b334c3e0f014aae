// Sampling as the device sees it: one row of logits and how to choose from it. Names and meanings
// are those of vLLM's SamplingParams; what a request may ask is in
// engine/sequence/sampling_params.h.
//
// Order of operations on a row (vLLM's): allowed_token_ids -> banned_token_ids -> logit_bias ->
// repetition, frequency, presence penalty -> [temperature 0: argmax] -> temperature -> min_p ->
// top_k -> top_p -> draw. Log-probabilities are those of the logits as the model gave them.
//
// The draw is the Gumbel-max trick with a counter-based random stream: the token with the greatest
// logit / temperature + g(seed, position, token id). The choice depends on nothing but (seed,
// position, logits): not on the batch, the order, the number of threads or the device.
#pragma once

#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include "engine/core/token_id.h"

namespace llmrun {

// How to choose from one row of logits. The spans must stay valid until the step is collected.
struct SamplingRow {
  std::int32_t slot =
      0;  // request slot: whose penalty state is used and whose feedback token is set

  // When >= 0, nothing is sampled: the row only reports the log-probability of this token, with the
  // num_logprobs best (prompt log-probabilities). No state changes.
  TokenId target_token = -1;

  float temperature = 1.0F;  // 0: greedy, ties go to the lowest id
  float top_p = 1.0F;        // (0, 1]
  float min_p = 0.0F;        // [0, 1]
  std::int32_t top_k = 0;    // <= 0: all
  float repetition_penalty = 1.0F;
  float presence_penalty = 0.0F;
  float frequency_penalty = 0.0F;
  std::uint64_t seed = 0;          // key of the random stream of this sequence
  std::uint64_t position = 0;      // counter: index of the output token being chosen
  std::int32_t num_logprobs = -1;  // -1: none; 0: the chosen token's only; k: the k best as well

  std::span<const std::pair<TokenId, float>> logit_bias = {};
  std::span<const TokenId> allowed_token_ids = {};  // empty: all
  std::span<const TokenId> banned_token_ids = {};   // for this step (min_tokens, bad_words)

  bool has_penalties() const {
    return repetition_penalty != 1.0F || presence_penalty != 0.0F || frequency_penalty != 0.0F;
  }
};

struct TokenLogprob {
  TokenId token_id = 0;
  float logprob = 0.0F;
  std::int32_t rank = 0;  // 1 = most likely
};

struct SampledToken {
  TokenId token_id = -1;
  // False when the row held NaN or +infinity, or every token was masked: token_id is then -1 and
  // the request fails with error "numeric" instead of printing garbage.
  bool is_finite = true;
  // With num_logprobs >= 0: the chosen (or target) token first, then the num_logprobs best by rank.
  std::vector<TokenLogprob> logprobs;
};

}  // namespace llmrun
