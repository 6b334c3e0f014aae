// Sums over a warp and over a block of threads, in an order that depends on the block's size only.
#pragma once

namespace llmrun::kernels {

constexpr int kWarpSize = 32;
constexpr int kNormThreads = 512;  // of a block that sums a row, at most

__device__ __forceinline__ float warp_sum(float value) {
#pragma unroll
  for (int offset = kWarpSize / 2; offset > 0; offset /= 2) {
    value += __shfl_xor_sync(0xffffffffU, value, offset);
  }
  return value;
}

// Whole warps, at most kNormThreads threads. Once in a kernel.
__device__ __forceinline__ float block_sum(float value) {
  __shared__ float partial[kNormThreads / kWarpSize];
  value = warp_sum(value);
  if (threadIdx.x % kWarpSize == 0) partial[threadIdx.x / kWarpSize] = value;
  __syncthreads();
  float total = 0.0F;
  for (unsigned w = 0; w < blockDim.x / kWarpSize; ++w) total += partial[w];
  return total;
}

}  // namespace llmrun::kernels
