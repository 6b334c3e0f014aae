// Passes over one row of logits: the parts of sampling that touch the whole vocabulary.
//
// Logits are finite or -infinity; n >= 0. All variants give bitwise the same results: sums are sums
// of integers, and whatever is compared is computed with explicit fma (engine/core/random.h).
#pragma once

#include <cstdint>

#include "engine/core/random.h"

namespace llmrun::kernels {

// Weights of a softmax are integers, e^((x - max) / T) in units of 2^-40: their sums are exact,
// depend on no order and never run backwards, which sums of floats do. Up to 2^23 of them fit in 64
// bits.
inline constexpr int kWeightBits = 40;

// A draw by the Gumbel-max trick among the tokens whose logit is at least `bound`.
struct TokenDraw {
  const float* logits = nullptr;  // [num_tokens]
  std::int64_t num_tokens = 0;
  float bound = 0.0F;
  float max = 0.0F;  // greatest logit
  float inverse_temperature = 1.0F;
  RandomKey key;
};

struct ScoredToken {
  float score = 0.0F;
  std::int32_t id = 0;
};

// score(token) = (logit - max) / T + Gumbel variate of (key, id). The score that decides a draw,
// whatever variant found the token.
float token_score(const TokenDraw& draw, std::int32_t id);

struct SamplingKernels {
  const char* name;

  // The greatest of x [n], -infinity for none; NaN when one of them is NaN.
  float (*max_value)(const float* x, std::int64_t n);
  // How many of x [n] are >= bound.
  std::int64_t (*count_at_least)(const float* x, std::int64_t n, float bound);
  // Writes, ascending, the indices of x [n] whose value is >= bound, and returns their number.
  // REQUIRES: room for n indices.
  std::int64_t (*collect_at_least)(std::int32_t* indices, const float* x, std::int64_t n,
                                   float bound);
  // Sum of the weights of x [n]. weights [n], when not null, receives them.
  std::uint64_t (*sum_weights)(std::uint64_t* weights, const float* x, std::int64_t n, float max,
                               float inverse_temperature);
  // The token with the greatest score, the lower id on a tie. `best` is one token of the draw and
  // its score; starting from a likely one spares most of the work.
  ScoredToken (*draw)(const TokenDraw& draw, ScoredToken best);
};

const SamplingKernels& sampling_portable();
// The processor must have the instruction set.
const SamplingKernels& sampling_avx2();
const SamplingKernels& sampling_avx512();

}  // namespace llmrun::kernels
