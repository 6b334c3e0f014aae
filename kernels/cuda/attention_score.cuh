// From q . k to a softmax's exponent in base 2: scale, softcap, ALiBi, and which keys are seen.
#pragma once

#include <cmath>

#include "kernels/cuda/attention.h"
#include "kernels/cuda/element.cuh"

namespace llmrun::kernels {

inline constexpr float kLog2E = 1.4426950408889634F;

struct ScoreRule {
  float factor;         // q . k to base 2, or to tanh's argument times 2 log2(e)
  float softcap;        // times log2(e); 0: none
  int window;           // positions seen, itself included; at least 1
  const float* slopes;  // [Hq] or null
};

inline ScoreRule make_score_rule(const PagedAttention& args) {
  const bool has_cap = args.logit_softcap > 0;
  return {.factor = has_cap ? 2 * kLog2E * args.scale / args.logit_softcap : kLog2E * args.scale,
          .softcap = has_cap ? args.logit_softcap * kLog2E : 0.0F,
          .window = args.sliding_window > 0 ? args.sliding_window : 0x7fffffff,
          .slopes = args.alibi_slopes};
}

// Slope of a query head in base 2.
__device__ __forceinline__ float score_slope(const ScoreRule& rule, int head) {
  return rule.slopes == nullptr ? 0.0F : rule.slopes[head] * kLog2E;
}

__device__ __forceinline__ float score_of(const ScoreRule& rule, float dot, float slope,
                                          int distance) {  // key position - query position
  float score = dot * rule.factor;
  if (rule.softcap > 0) {  // tanh(x) = 1 - 2 / (e^2x + 1)
    score = rule.softcap * (1.0F - __fdividef(2.0F, exp2_fast(fminf(score, 80.0F)) + 1.0F));
  }
  return fmaf(slope, static_cast<float>(distance), score);
}

// Whether a query sees a key.
__device__ __forceinline__ bool is_seen(const ScoreRule& rule, int distance) {
  return distance <= 0 && distance > -rule.window;
}

// The first position that a query at `position` sees.
__device__ __forceinline__ int window_begin(const ScoreRule& rule, int position) {
  return position >= rule.window ? position - rule.window + 1 : 0;
}

}  // namespace llmrun::kernels
