// out = x W^T with what goes before and after, as the CUDA kernels take it.
#pragma once

#include <cstdint>

#include "engine/core/dtype.h"

namespace llmrun::kernels {

enum class CudaLinearEpilogue : std::uint8_t {
  kStore,    // out = x W^T
  kAdd,      // out += x W^T: the residual stream
  kSiluMul,  // out = silu(x G^T) * (x U^T), gate and up interleaved in groups of 8 rows
};

struct LinearArguments {
  void* out = nullptr;           // [M, N]; kSiluMul: [M, N / 2]
  const void* x = nullptr;       // [M, K] dtype, 16-byte aligned
  const void* weight = nullptr;  // [N, K] dtype, 16-byte aligned. kSiluMul: rows in groups of 16: 8
                                 // of the gate, then their 8 of up
  const void* bias = nullptr;    // [N] dtype, in the order of the weight's rows; or null
  std::int64_t num_tokens = 0;   // M
  std::int64_t num_rows = 0;     // N. kSiluMul: N % 16 == 0
  std::int64_t num_columns = 0;  // K, K % 8 == 0
  DType dtype = DType::kBf16;    // kBf16 or kF16
  DType out_dtype = DType::kBf16;  // dtype, or kF32
  CudaLinearEpilogue epilogue = CudaLinearEpilogue::kStore;
};

inline bool is_16_byte_aligned(const void* pointer) {
  return reinterpret_cast<std::uintptr_t>(pointer) % 16 == 0;
}

}  // namespace llmrun::kernels
