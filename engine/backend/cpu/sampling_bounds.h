// top_k and top_p as lower bounds on a logit: a token is kept when its logit is at least the bound.
// Tokens with equal logits are kept or dropped together, so the set does not depend on any order
// and top_k may keep more than k when logits tie at the k-th place (as Hugging Face and vLLM do).
// Selection, not sorting: a few passes over the row, then work on the tokens that can matter.
#pragma once

#include <cstdint>
#include <limits>
#include <span>
#include <vector>

#include "engine/core/token_id.h"
#include "kernels/cpu/sampling.h"

namespace llmrun {

// The logit of a token that is not drawn.
inline constexpr float kMinusInfinity = -std::numeric_limits<float>::infinity();

// Memory that a thread keeps from row to row.
struct SamplingScratch {
  std::vector<float> logits;  // a row with penalties, biases and masks applied
  std::vector<TokenId> ids;
  std::vector<float> values;
  std::vector<std::uint64_t> weights;
};

// The k-th greatest of `logits`. REQUIRES: 1 <= k <= logits.size().
float top_k_bound(const kernels::SamplingKernels& kernels, std::span<const float> logits,
                  std::int64_t k, SamplingScratch& scratch);

// How the logits of a row become probabilities: in proportion to e^((logit - max) / temperature).
struct SoftmaxScale {
  float max = 0.0F;
  float temperature = 1.0F;
  float inverse_temperature = 1.0F;
};

// Among the tokens at least `bound`: a token is kept when the tokens with greater logits have less
// than `top_p` of the probability. Returns a bound that is not lower than `bound`.
// REQUIRES: 0 < top_p < 1; the token with logit scale.max is at least `bound`.
float top_p_bound(const kernels::SamplingKernels& kernels, std::span<const float> logits,
                  const SoftmaxScale& scale, float top_p, float bound, SamplingScratch& scratch);

}  // namespace llmrun
