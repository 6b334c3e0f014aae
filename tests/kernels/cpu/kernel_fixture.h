// What the tests of the CPU kernels share: random data, aligned memory, the list of kernels.
#pragma once

#include <cstddef>
#include <cstdint>
#include <new>
#include <random>
#include <vector>

#include "engine/core/cpu_info.h"
#include "engine/core/float16.h"
#include "kernels/cpu/cpu_kernels.h"

namespace llmrun::kernels {

// 64-byte aligned, uninitialised.
template <typename T>
struct AlignedAllocator {
  using value_type = T;
  T* allocate(std::size_t count) {
    return static_cast<T*>(::operator new (count * sizeof(T), std::align_val_t{64}));
  }
  void deallocate(T* data, std::size_t) { ::operator delete (data, std::align_val_t{64}); }
  friend bool operator==(const AlignedAllocator&, const AlignedAllocator&) { return true; }
};
template <typename T>
using AlignedVector = std::vector<T, AlignedAllocator<T>>;

inline AlignedVector<float> random_floats(std::int64_t count, std::uint64_t seed) {
  std::mt19937_64 engine(seed);
  std::normal_distribution<float> normal;
  AlignedVector<float> values(static_cast<std::size_t>(count));
  for (float& value : values) value = normal(engine);
  return values;
}

inline float round_to_bf16(float value) {
  return bf16_to_float(float_to_bf16(value));
}

inline std::int64_t ceil_div(std::int64_t a, std::int64_t b) {
  return (a + b - 1) / b;
}

}  // namespace llmrun::kernels
