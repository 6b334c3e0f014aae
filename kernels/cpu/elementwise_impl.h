// See elementwise.h. Include after one of the vec_*.h headers.
#pragma once

#include <cstdint>

#include "kernels/cpu/elementwise.h"
#include "kernels/cpu/vec_activation.h"

namespace llmrun::kernels {
namespace {

inline float sum_of_squares(const float* x, std::int64_t size) {
  Vec even = Vec::broadcast(0.0F);
  Vec odd = even;
  std::int64_t i = 0;
  for (; i + 2 * Vec::kLanes <= size; i += 2 * Vec::kLanes) {
    const Vec a = Vec::load(x + i);
    const Vec b = Vec::load(x + i + Vec::kLanes);
    even = Vec::fma(a, a, even);
    odd = Vec::fma(b, b, odd);
  }
  for (; i < size; i += Vec::kLanes) {
    const std::int64_t rest = size - i;
    const Vec a =
        rest >= Vec::kLanes ? Vec::load(x + i) : Vec::load_first(x + i, static_cast<int>(rest));
    even = Vec::fma(a, a, even);
  }
  return (even + odd).sum();
}

// store(value, row, i, count): `count` elements of a row from i on, kLanes or what is left of it.
template <typename Store>
inline void normalise_rows(const float* x, std::int64_t x_stride, const float* weight, float eps,
                           std::int64_t row_begin, std::int64_t row_end, std::int64_t size,
                           const Store& store) {
  for (std::int64_t row = row_begin; row < row_end; ++row) {
    const float* from = x + row * x_stride;
    const float mean = sum_of_squares(from, size) / static_cast<float>(size);
    const Vec scale = Vec::broadcast(1.0F / __builtin_sqrtf(mean + eps));
    std::int64_t i = 0;
    for (; i + Vec::kLanes <= size; i += Vec::kLanes) {
      store(Vec::load(from + i) * scale * Vec::load(weight + i), row, i, Vec::kLanes);
    }
    if (i < size) {
      const int rest = static_cast<int>(size - i);
      store(Vec::load_first(from + i, rest) * scale * Vec::load_first(weight + i, rest), row, i,
            rest);
    }
  }
}

inline void rms_norm(float* out, std::int64_t out_stride, const float* x, std::int64_t x_stride,
                     const float* weight, float eps, std::int64_t row_begin, std::int64_t row_end,
                     std::int64_t size) {
  normalise_rows(x, x_stride, weight, eps, row_begin, row_end, size,
                 [&](Vec value, std::int64_t row, std::int64_t i, int count) {
                   float* to = out + row * out_stride + i;
                   count == Vec::kLanes ? value.store(to) : value.store_first(to, count);
                 });
}

inline void rms_norm_to_bf16(std::uint16_t* out, const float* x, const float* weight, float eps,
                             std::int64_t row_begin, std::int64_t row_end, std::int64_t size) {
  normalise_rows(x, size, weight, eps, row_begin, row_end, size,
                 [&](Vec value, std::int64_t row, std::int64_t i, int count) {
                   std::uint16_t* to = out + row * size + i;
                   count == Vec::kLanes ? value.store_bf16(to) : value.store_bf16_first(to, count);
                 });
}

// x[i] = f(x[i]) on vectors.
template <typename F>
inline void for_each_vector(float* x, std::int64_t count, const F& f) {
  std::int64_t i = 0;
  for (; i + Vec::kLanes <= count; i += Vec::kLanes) f(Vec::load(x + i), i).store(x + i);
  if (i < count) {
    const int rest = static_cast<int>(count - i);
    f(Vec::load_first(x + i, rest), i).store_first(x + i, rest);
  }
}

inline void layer_norm(float* out, const float* x, const float* weight, const float* bias,
                       float eps, std::int64_t row_begin, std::int64_t row_end, std::int64_t size) {
  for (std::int64_t row = row_begin; row < row_end; ++row) {
    const float* from = x + row * size;
    float* to = out + row * size;
    Vec sum = Vec::broadcast(0.0F);
    for (std::int64_t i = 0; i < size; i += Vec::kLanes) sum = sum + load_up_to(from, i, size);
    const float mean = sum.sum() / static_cast<float>(size);
    for (std::int64_t i = 0; i < size; ++i) to[i] = from[i] - mean;
    const float variance = sum_of_squares(to, size) / static_cast<float>(size);
    const Vec scale = Vec::broadcast(1.0F / __builtin_sqrtf(variance + eps));
    for_each_vector(to, size, [&](Vec value, std::int64_t i) {
      const Vec scaled = value * scale * load_up_to(weight, i, size);
      return bias == nullptr ? scaled : scaled + load_up_to(bias, i, size);
    });
  }
}

inline void activate(float* x, std::int64_t count, Activation activation) {
  for_each_vector(x, count, [&](Vec value, std::int64_t) { return activated(value, activation); });
}

inline void add(float* out, const float* x, float factor, std::int64_t count) {
  const Vec factors = Vec::broadcast(factor);
  for_each_vector(out, count, [&](Vec value, std::int64_t i) {
    return Vec::fma(factors, load_up_to(x, i, count), value);
  });
}

inline void scale(float* x, float factor, std::int64_t count) {
  const Vec factors = Vec::broadcast(factor);
  for_each_vector(x, count, [&](Vec value, std::int64_t) { return value * factors; });
}

inline void soft_cap(float* x, float cap, std::int64_t count) {
  const Vec caps = Vec::broadcast(cap);
  const Vec inverse = Vec::broadcast(1.0F / cap);
  for_each_vector(x, count, [&](Vec value, std::int64_t) { return caps * tanh(value * inverse); });
}

inline void rope(float* x, std::int64_t num_heads, std::int64_t head_dim, std::int64_t rotary_dim,
                 const float* cos, const float* sin) {
  const std::int64_t half = rotary_dim / 2;
  for (std::int64_t head = 0; head < num_heads; ++head) {
    float* first = x + head * head_dim;
    float* second = first + half;
    std::int64_t i = 0;
    for (; i + Vec::kLanes <= half; i += Vec::kLanes) {
      const Vec a = Vec::load(first + i);
      const Vec b = Vec::load(second + i);
      const Vec c = Vec::load(cos + i);
      const Vec s = Vec::load(sin + i);
      (a * c - b * s).store(first + i);
      (b * c + a * s).store(second + i);
    }
    for (; i < half; ++i) {
      const float a = first[i];
      const float b = second[i];
      first[i] = a * cos[i] - b * sin[i];
      second[i] = b * cos[i] + a * sin[i];
    }
  }
}

inline void float_to_bf16(std::uint16_t* out, const float* x, std::int64_t count) {
  std::int64_t i = 0;
  for (; i + Vec::kLanes <= count; i += Vec::kLanes) Vec::load(x + i).store_bf16(out + i);
  if (i < count) {
    const int rest = static_cast<int>(count - i);
    Vec::load_first(x + i, rest).store_bf16_first(out + i, rest);
  }
}

constexpr ElementwiseKernels kElementwise = {
    rms_norm, rms_norm_to_bf16, layer_norm, activate, add, scale, soft_cap, rope, float_to_bf16};

}  // namespace
}  // namespace llmrun::kernels
