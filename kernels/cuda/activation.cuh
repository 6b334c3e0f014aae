// Activations in float.
#pragma once

#include "engine/core/activation.h"

namespace llmrun::kernels {

__device__ __forceinline__ float activated(float x, Activation activation) {
  switch (activation) {
    case Activation::kSilu: return x / (1.0F + __expf(-x));
    case Activation::kRelu: return fmaxf(x, 0.0F);
    case Activation::kGelu: return 0.5F * x * (1.0F + erff(x * 0.70710678118654752F));
    case Activation::kGeluTanh:
      return 0.5F * x * (1.0F + tanhf(0.79788456080286536F * fmaf(0.044715F * x * x, x, x)));
  }
  return x;
}

}  // namespace llmrun::kernels
