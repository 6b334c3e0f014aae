// The small operations on rows of float32: norms, activations, rotary embedding, conversion for the
// KV cache.
#pragma once

#include <cstdint>

#include "engine/core/activation.h"

namespace llmrun::kernels {

struct ElementwiseKernels {
  // out[r] = x[r] / sqrt(mean(x[r]^2) + eps) * weight for rows [row_begin, row_end). out may be x.
  //   out, x [.., size]; strides in elements.  Sum of squares in float32, in an order of its own
  //   for each row, so that a row's result depends on nothing else.
  void (*rms_norm)(float* out, std::int64_t out_stride, const float* x, std::int64_t x_stride,
                   const float* weight, float eps, std::int64_t row_begin, std::int64_t row_end,
                   std::int64_t size);
  // The same, rounded to bf16; out, x [.., size] without gaps.
  void (*rms_norm_to_bf16)(std::uint16_t* out, const float* x, const float* weight, float eps,
                           std::int64_t row_begin, std::int64_t row_end, std::int64_t size);
  // out[r] = (x[r] - mean) / sqrt(variance + eps) * weight + bias, likewise. bias may be null.
  void (*layer_norm)(float* out, const float* x, const float* weight, const float* bias, float eps,
                     std::int64_t row_begin, std::int64_t row_end, std::int64_t size);
  // x[i] = activation(x[i])
  void (*activate)(float* x, std::int64_t count, Activation activation);
  // out[i] += factor * x[i]
  void (*add)(float* out, const float* x, float factor, std::int64_t count);
  // x[i] *= factor
  void (*scale)(float* x, float factor, std::int64_t count);
  // x[i] = cap * tanh(x[i] / cap)
  void (*soft_cap)(float* x, float cap, std::int64_t count);
  // Rotates pairs (i, i + rotary_dim / 2) of each of `num_heads` heads of one token, in place.
  //   x [num_heads, head_dim];  cos, sin [rotary_dim / 2]
  void (*rope)(float* x, std::int64_t num_heads, std::int64_t head_dim, std::int64_t rotary_dim,
               const float* cos, const float* sin);
  // Rounds to nearest even.
  void (*float_to_bf16)(std::uint16_t* out, const float* x, std::int64_t count);
};

const ElementwiseKernels& elementwise_portable();
const ElementwiseKernels& elementwise_avx2();
const ElementwiseKernels& elementwise_avx512();

}  // namespace llmrun::kernels
