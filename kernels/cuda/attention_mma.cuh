// Words of the tensor-core attention kernels: asynchronous copies of 16 bytes, 8 x 8 matrices from
// shared memory, and the 16 x 8 x 16 product. Addresses of shared memory are 32-bit.
#pragma once

#include <cstdint>
#include <type_traits>

#include "kernels/cuda/element.cuh"

namespace llmrun::kernels {

__device__ __forceinline__ std::uint32_t to_shared(const void* pointer) {
  return static_cast<std::uint32_t>(__cvta_generic_to_shared(pointer));
}

// Copies 16 bytes, or writes zeros when `is_valid` is false (the source is then not read).
__device__ __forceinline__ void copy_async(std::uint32_t target, const void* source,
                                           bool is_valid) {
  const int num_bytes = is_valid ? 16 : 0;
  asm volatile("cp.async.cg.shared.global.L2::128B [%0], [%1], 16, %2;" ::"r"(target), "l"(source),
               "r"(num_bytes)
               : "memory");
}
__device__ __forceinline__ void copy_async(std::uint32_t target, const void* source) {
  asm volatile("cp.async.cg.shared.global.L2::128B [%0], [%1], 16;" ::"r"(target), "l"(source)
               : "memory");
}
__device__ __forceinline__ void commit_copies() {
  asm volatile("cp.async.commit_group;" ::: "memory");
}
// Waits until at most kPending of the groups this thread committed are still on their way.
template <int kPending>
__device__ __forceinline__ void wait_copies() {
  asm volatile("cp.async.wait_group %0;" ::"n"(kPending) : "memory");
}

// Four 8 x 8 matrices of 16-bit elements; lane i gives the address of row i % 8 of matrix i / 8.
__device__ __forceinline__ uint4 load_matrices(std::uint32_t address) {
  uint4 r;
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(r.x), "=r"(r.y), "=r"(r.z), "=r"(r.w)
               : "r"(address)
               : "memory");
  return r;
}
__device__ __forceinline__ uint4 load_matrices_transposed(std::uint32_t address) {
  uint4 r;
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(r.x), "=r"(r.y), "=r"(r.z), "=r"(r.w)
               : "r"(address)
               : "memory");
  return r;
}
// Transposes an 8 x 8 matrix held by a warp in the layout of load_matrices.
__device__ __forceinline__ std::uint32_t transpose_matrix(std::uint32_t x) {
  std::uint32_t y;
  asm volatile("movmatrix.sync.aligned.m8n8.trans.b16 %0, %1;" : "=r"(y) : "r"(x));
  return y;
}

// c [16 x 8] += a [16 x 16] b [16 x 8], accumulated in float.
template <typename T>
__device__ __forceinline__ void multiply_add_16x8(float (&c)[4], const uint4& a, std::uint32_t b0,
                                                  std::uint32_t b1) {
  if constexpr (std::is_same_v<T, __nv_bfloat16>) {
    asm volatile(
        "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, "
        "{%8, %9}, {%0, %1, %2, %3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a.x), "r"(a.y), "r"(a.z), "r"(a.w), "r"(b0), "r"(b1));
  } else {
    asm volatile(
        "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, "
        "{%8, %9}, {%0, %1, %2, %3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a.x), "r"(a.y), "r"(a.z), "r"(a.w), "r"(b0), "r"(b1));
  }
}

// Rows of 8 positions of one KV head are contiguous when block_size % 8 == 0: the index of such a
// group of rows in the cache, for the block that holds `position`.
__device__ __forceinline__ std::uint32_t row_group(int block, int position, int block_size,
                                                   int num_kv_heads, int kv_head) {
  return (static_cast<std::uint32_t>(block) * num_kv_heads + kv_head) * (block_size / 8) +
         position % block_size / 8;
}

}  // namespace llmrun::kernels
