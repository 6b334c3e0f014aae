// Element types of device code: float, __half, __nv_bfloat16, in vectors of 16 bytes. Arithmetic is
// in float; results are rounded once, to nearest even.
#pragma once

#include <cstdint>
#include <type_traits>
#include <utility>

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include "engine/core/dtype.h"
#include "engine/core/error.h"

namespace llmrun::kernels {

__device__ __forceinline__ float to_float(float x) {
  return x;
}
__device__ __forceinline__ float to_float(__half x) {
  return __half2float(x);
}
__device__ __forceinline__ float to_float(__nv_bfloat16 x) {
  return __bfloat162float(x);
}

template <typename T>
__device__ __forceinline__ T from_float(float x) {
  if constexpr (std::is_same_v<T, __half>) {
    return __float2half_rn(x);
  } else if constexpr (std::is_same_v<T, __nv_bfloat16>) {
    return __float2bfloat16_rn(x);
  } else {
    return x;
  }
}

// Two floats as two neighbouring elements, `low` first in memory.
template <typename T>
__device__ __forceinline__ std::uint32_t pack(float low, float high) {
  std::uint32_t r;
  if constexpr (std::is_same_v<T, __nv_bfloat16>) {
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(r) : "f"(high), "f"(low));
  } else {
    asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(r) : "f"(high), "f"(low));
  }
  return r;
}

// 2^x to about 2 ulp; denormal results are 0.
__device__ __forceinline__ float exp2_fast(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

// 16 bytes of T, loaded and stored as one access.
template <typename T>
struct alignas(16) Vec16 {
  static constexpr int kSize = 16 / sizeof(T);
  T values[kSize];
};

// Calls f with a value of the element type that `dtype` names: f(__nv_bfloat16{}).
template <typename F>
void dispatch_float_type(DType dtype, F&& f) {
  switch (dtype) {
    case DType::kBf16: std::forward<F>(f)(__nv_bfloat16{}); return;
    case DType::kF16: std::forward<F>(f)(__half{}); return;
    case DType::kF32: std::forward<F>(f)(float{}); return;
    default: throw Error(ErrorKind::kInternal, "not a floating-point element type");
  }
}

}  // namespace llmrun::kernels
