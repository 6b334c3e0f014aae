#include "kernels/cuda/peak.h"

namespace llmrun::kernels {
namespace {

constexpr int kThreads = 512;
constexpr int kUnroll = 8;  // 16-byte loads in flight a thread

__device__ __forceinline__ unsigned fold(uint4 value) {
  return value.x ^ value.y ^ value.z ^ value.w;
}

__global__ void __launch_bounds__(kThreads)
    read_memory_kernel(unsigned* out, const uint4* source, std::size_t count) {
  const std::size_t stride = static_cast<std::size_t>(gridDim.x) * kThreads;
  std::size_t i = static_cast<std::size_t>(blockIdx.x) * kThreads + threadIdx.x;
  unsigned sum = 0;
  for (; i + (kUnroll - 1) * stride < count; i += kUnroll * stride) {
    uint4 values[kUnroll];
#pragma unroll
    for (int u = 0; u < kUnroll; ++u) values[u] = __ldcs(source + i + u * stride);
#pragma unroll
    for (int u = 0; u < kUnroll; ++u) sum ^= fold(values[u]);
  }
  for (; i < count; i += stride) sum ^= fold(__ldcs(source + i));
  // Never true of random data, so that the loads stay and no time goes into a reduction.
  if (sum == 0x9e3779b9U) *out = sum;
}

}  // namespace

void read_memory(const Launch& launch_options, unsigned* out, const void* source,
                 std::size_t num_bytes, unsigned num_blocks) {
  launch(launch_options, "read_memory", read_memory_kernel, dim3(num_blocks), dim3(kThreads), 0,
         out, static_cast<const uint4*>(source), num_bytes / sizeof(uint4));
}

}  // namespace llmrun::kernels
