// See peak.h. Include after one of the vec_*.h headers.
#pragma once

#include <cstdint>

#include "kernels/cpu/peak.h"

namespace llmrun::kernels {
namespace {

// Keeps the compiler from knowing a value and so from removing or hoisting its computation.
inline void make_opaque(Vec& value) {
  asm volatile("" : "+v"(value.v));
}

// Enough independent chains to hide the latency of a multiply-add, few enough for the registers.
constexpr int kChains = Vec::kLanes == 16 ? 24 : 10;

inline double multiply_f32(std::int64_t iterations) {
  Vec chains[kChains];
#pragma GCC unroll 32
  for (int c = 0; c < kChains; ++c) chains[c] = Vec::broadcast(1.0F);
  Vec factor = Vec::broadcast(0.5F);
  make_opaque(factor);
  for (std::int64_t i = 0; i < iterations; ++i) {
#pragma GCC unroll 32
    for (int c = 0; c < kChains; ++c) {
      chains[c] = Vec::fma(chains[c], factor, factor);
      asm volatile("" : "+v"(chains[c].v));
    }
  }
  return 2.0 * Vec::kLanes * kChains * static_cast<double>(iterations);
}

inline float read_all(const float* data, std::int64_t count) {
  Vec sums[4] = {Vec::broadcast(0.0F), Vec::broadcast(0.0F), Vec::broadcast(0.0F),
                 Vec::broadcast(0.0F)};
  std::int64_t i = 0;
  for (; i + 4 * Vec::kLanes <= count; i += 4 * Vec::kLanes) {
#pragma GCC unroll 4
    for (int j = 0; j < 4; ++j) sums[j] = sums[j] + Vec::load(data + i + j * Vec::kLanes);
  }
  float total = ((sums[0] + sums[1]) + (sums[2] + sums[3])).sum();
  for (; i < count; ++i) total += data[i];
  return total;
}

}  // namespace
}  // namespace llmrun::kernels
