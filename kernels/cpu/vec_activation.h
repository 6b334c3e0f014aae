// Activations on Vec. Include after one of the vec_*.h headers.
#pragma once

#include "engine/core/activation.h"
#include "kernels/cpu/vec_math.h"

namespace llmrun::kernels {
namespace {

inline Vec gelu(Vec x) {
  float values[Vec::kLanes];
  x.store(values);
  for (float& value : values) {
    value *= 0.5F * (1.0F + __builtin_erff(value * 0.70710678118654752F));
  }
  return Vec::load(values);
}

inline Vec gelu_tanh(Vec x) {
  const Vec one = Vec::broadcast(1.0F);
  const Vec argument =
      Vec::broadcast(0.79788456080286536F) * Vec::fma(Vec::broadcast(0.044715F) * x * x, x, x);
  return Vec::broadcast(0.5F) * x * (one + tanh(argument));
}

inline Vec activated(Vec x, Activation activation) {
  switch (activation) {
    case Activation::kSilu: return silu(x);
    case Activation::kRelu: return Vec::max(x, Vec::broadcast(0.0F));
    case Activation::kGelu: return gelu(x);
    case Activation::kGeluTanh: return gelu_tanh(x);
  }
  return x;
}

}  // namespace
}  // namespace llmrun::kernels
