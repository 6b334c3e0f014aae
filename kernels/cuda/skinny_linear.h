// out = x W^T for the few tokens of a decode step. The work is to read the weights once: N K
// elements move through device memory, and the time is that over the memory's bandwidth. Faster
// than cuBLASLt up to 32 tokens; larger batches belong to linear.h.
//
// Sums are in float; an output element's order of summation depends on N, K and the kind of device,
// not on the number of tokens or their place in the batch, and never on timing: a token's result is
// the same bits alone and in any batch this kernel supports.
#pragma once

#include <cstdint>

#include "engine/core/dtype.h"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/linear_epilogue.h"

namespace llmrun::kernels {

constexpr std::int64_t kMaxSkinnyTokens = 64;

struct SkinnyLinear {
  void* out = nullptr;           // [M, N]; kSiluMul: [M, N / 2]
  const void* x = nullptr;       // [M, K] dtype, 16-byte aligned
  const void* weight = nullptr;  // [N, K] dtype, 16-byte aligned. kSiluMul: rows in groups of 16: 8
                                 // of the gate, then their 8 of up
  const void* bias = nullptr;    // [N] dtype, in the order of the weight's rows; or null
  std::int64_t num_tokens = 0;   // M, 1 to kMaxSkinnyTokens
  std::int64_t num_rows = 0;     // N. kSiluMul: N % 16 == 0
  std::int64_t num_columns = 0;  // K, K % 8 == 0
  DType dtype = DType::kBf16;    // kBf16 or kF16
  DType out_dtype = DType::kBf16;  // dtype, or kF32
  CudaLinearEpilogue epilogue = CudaLinearEpilogue::kStore;
};

// Whether skinny_linear() takes these arguments: the limits named above.
bool supports_skinny_linear(const SkinnyLinear& args);

// kAdd: out = round(out + (sum + bias)), in float before the one rounding. Needs no workspace. out
// may not overlap x. With launch.overlap it reads weights, and only weights, before the kernels
// ahead of it are done: no kernel of the stream may have them still to write. It lets the next
// kernel start as soon as its own inputs are there.
void skinny_linear(const Launch& launch, const SkinnyLinear& args);

}  // namespace llmrun::kernels
