// What the threads of a block do together: reductions, sums over threads before this one, and the
// selection of a bound among candidates without sorting them.
#pragma once

#include <cstdint>

#include "kernels/cuda/sampling.h"

namespace llmrun::kernels {

inline constexpr int kSamplingWarps = kSamplingThreads / 32;

__device__ __forceinline__ std::uint64_t larger(std::uint64_t a, std::uint64_t b) {
  return a > b ? a : b;
}

__device__ __forceinline__ std::uint64_t warp_max(std::uint64_t value) {
#pragma unroll
  for (int step = 16; step > 0; step /= 2) {
    value = larger(value, __shfl_xor_sync(0xffffffffU, value, step));
  }
  return value;
}

// The greatest of all threads' values, to all threads. warps [kSamplingWarps] in shared memory.
__device__ __forceinline__ std::uint64_t block_max(std::uint64_t value, std::uint64_t* warps) {
  value = warp_max(value);
  __syncthreads();
  if (threadIdx.x % 32 == 0) warps[threadIdx.x / 32] = value;
  __syncthreads();
  value = warps[0];
#pragma unroll
  for (int w = 1; w < kSamplingWarps; ++w) value = larger(value, warps[w]);
  return value;
}

// Sum over the threads before this one; `total` receives that of all.
__device__ __forceinline__ std::uint64_t sum_before(std::uint64_t value, std::uint64_t* warps,
                                                    std::uint64_t& total) {
  const unsigned lane = threadIdx.x % 32;
  std::uint64_t sum = value;
#pragma unroll
  for (unsigned step = 1; step < 32; step *= 2) {
    const std::uint64_t other = __shfl_up_sync(0xffffffffU, sum, step);
    if (lane >= step) sum += other;
  }
  __syncthreads();
  if (lane == 31) warps[threadIdx.x / 32] = sum;
  __syncthreads();
  total = 0;
  std::uint64_t before = sum - value;
#pragma unroll
  for (unsigned w = 0; w < kSamplingWarps; ++w) {
    if (w < threadIdx.x / 32) before += warps[w];
    total += warps[w];
  }
  return before;
}

__device__ __forceinline__ std::uint64_t block_sum(std::uint64_t value, std::uint64_t* warps) {
  std::uint64_t total = 0;
  sum_before(value, warps, total);
  return total;
}

// Is this the last of the row's blocks to come here? What the others wrote before is then visible.
// `flag` in shared memory. Leaves the counter at zero.
__device__ __forceinline__ bool is_last_block(std::uint32_t* counter, std::uint32_t* flag) {
  __threadfence();
  __syncthreads();
  if (threadIdx.x == 0) {
    const bool last = atomicAdd(counter, 1U) == gridDim.x - 1;
    if (last) *counter = 0;
    *flag = last ? 1 : 0;
  }
  __syncthreads();
  if (*flag == 0) return false;
  __threadfence();
  return true;
}

struct SelectMemory {
  std::uint64_t weights[kSamplingThreads];
  std::uint64_t warps[kSamplingWarps];
  std::uint64_t above;
  std::uint32_t keys[kSamplingThreads];
  std::uint32_t digit;
};

struct Selection {
  bool found;
  std::uint32_t key;
  std::uint64_t above;  // weight of greater keys, with what was given
};

// Few items: each thread sums what is not below its own.
template <typename Item>
__device__ Selection select_among_few(SelectMemory& memory, std::int64_t count, std::uint64_t above,
                                      std::uint64_t target, Item item) {
  std::uint32_t key = 0;
  std::uint64_t weight = 0;
  const bool mine = threadIdx.x < count && item(threadIdx.x, key, weight);
  __syncthreads();
  memory.keys[threadIdx.x] = key;
  memory.weights[threadIdx.x] = mine ? weight : 0;
  __syncthreads();
  std::uint64_t greater = above;
  std::uint64_t equal = 0;
  if (mine) {
    for (std::int64_t j = 0; j < count; ++j) {
      const std::uint64_t other = memory.weights[j];
      if (memory.keys[j] > key) greater += other;
      if (memory.keys[j] == key) equal += other;
    }
  }
  const bool reached = mine && greater + equal >= target;
  const std::uint64_t best = block_max(reached ? (std::uint64_t{1} << 32) | key : 0, memory.warps);
  if (best == 0) return {false, 0, 0};
  if (reached && key == static_cast<std::uint32_t>(best)) memory.above = greater;
  __syncthreads();
  return {true, static_cast<std::uint32_t>(best), memory.above};
}

// The greatest key such that `above` and the weights of all items not below it sum to `target` or
// more. item(i, key, weight) is false where there is none. All threads call it and get the result.
template <typename Item>
__device__ Selection select_reaching(SelectMemory& memory, std::int64_t count, std::uint64_t above,
                                     std::uint64_t target, Item item) {
  if (count <= kSamplingThreads) return select_among_few(memory, count, above, target, item);
  std::uint32_t prefix = 0;
  std::uint32_t mask = 0;
  for (int shift = 24; shift >= 0; shift -= 8) {  // a digit of 8 bits a round
    __syncthreads();
    memory.weights[threadIdx.x] = 0;
    if (threadIdx.x == 0) memory.digit = 256;
    __syncthreads();
#pragma unroll 4
    for (std::int64_t i = threadIdx.x; i < count; i += kSamplingThreads) {
      std::uint32_t key = 0;
      std::uint64_t weight = 0;
      if (!item(i, key, weight) || (key & mask) != prefix) continue;
      atomicAdd(
          reinterpret_cast<unsigned long long*>(&memory.weights[255 - ((key >> shift) & 255U)]),
          static_cast<unsigned long long>(weight));
    }
    __syncthreads();
    const std::uint64_t mine = memory.weights[threadIdx.x];
    std::uint64_t total = 0;
    const std::uint64_t before = above + sum_before(mine, memory.warps, total);
    if (before < target && before + mine >= target) {
      memory.digit = 255 - threadIdx.x;
      memory.above = before;
    }
    __syncthreads();
    if (memory.digit == 256) return {false, 0, 0};
    above = memory.above;
    prefix |= memory.digit << shift;
    mask |= 255U << shift;
  }
  return {true, prefix, above};
}

}  // namespace llmrun::kernels
