// Bins of logits by their distance below the greatest one, for rows with top_p or a large top_k.
// They cover what can matter: a token 30 temperatures below the maximum weighs less than half a
// unit and cannot win a draw. At high temperatures the last bin takes all the rest.
#pragma once

#include <cfloat>
#include <cstdint>

#include "kernels/cuda/sampling.h"

namespace llmrun::kernels {

struct LogitBins {
  float max;
  float scale;
  bool takes_rest;

  __device__ __forceinline__ LogitBins(float greatest, float temperature) : max(greatest) {
    constexpr float kTemperatures = 30.0F;
    constexpr float kHighTemperature = 2.0F;
    takes_rest = temperature > kHighTemperature;
    scale = static_cast<float>(kSamplingBins - 1) /
            (kTemperatures * fminf(temperature, kHighTemperature));
  }

  // Never descending as x descends; -1 for a logit that does not matter.
  __device__ __forceinline__ std::int32_t bin(float x) const {
    const float place = __fmul_rn(__fsub_rn(max, x), scale);
    if (place < static_cast<float>(kSamplingBins - 1)) return static_cast<std::int32_t>(place);
    return takes_rest && x >= -FLT_MAX ? kSamplingBins - 1 : -1;
  }
};

}  // namespace llmrun::kernels
