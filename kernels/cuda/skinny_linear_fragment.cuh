// What the skinny linear kernels share: 16 rows of the weight times 8 tokens on a warp's tensor
// core, and what becomes of the result.
//
// A fragment is the accumulator of mma.m16n8k16 with the weights as the 16-row operand. Lane
// 4 g + t holds x, y: row g of the tile, tokens 2 t and 2 t + 1; z, w: row g + 8, the same tokens.
// So a gate row and its up row, 8 apart, meet in one thread.
#pragma once

#include <cstdint>
#include <type_traits>

#include "kernels/cuda/element.cuh"
#include "kernels/cuda/skinny_linear_variants.h"

namespace llmrun::kernels {

constexpr int kTileRows = kSkinnyTileRows;
constexpr int kTileTokens = 8;
constexpr int kChunkColumns = kSkinnyChunkColumns;  // a warp's at a time: 128 bytes of a row
constexpr int kWarpLanes = 32;

// sum += A B for 16 of the 32 columns of which each lane holds 8 contiguous ones: `low` of row g,
// `high` of row g + 8, `tokens` of token g; kPart says which 16. The tensor core takes the columns
// in another order than they lie in memory, the same for both operands, which a dot product does
// not notice; so each lane loads whole 16-byte vectors.
template <typename T, int kPart>
__device__ __forceinline__ void multiply_add(float4& sum, const uint4& low, const uint4& high,
                                             const uint4& tokens) {
  const std::uint32_t a0 = kPart == 0 ? low.x : low.z;
  const std::uint32_t a1 = kPart == 0 ? high.x : high.z;
  const std::uint32_t a2 = kPart == 0 ? low.y : low.w;
  const std::uint32_t a3 = kPart == 0 ? high.y : high.w;
  const std::uint32_t b0 = kPart == 0 ? tokens.x : tokens.z;
  const std::uint32_t b1 = kPart == 0 ? tokens.y : tokens.w;
  if constexpr (std::is_same_v<T, __half>) {
    asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, "
        "{%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
        : "+f"(sum.x), "+f"(sum.y), "+f"(sum.z), "+f"(sum.w)
        : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1));
  } else {
    asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, "
        "{%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
        : "+f"(sum.x), "+f"(sum.y), "+f"(sum.z), "+f"(sum.w)
        : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1));
  }
}

// Where fragments go.
template <typename T>
struct SkinnyOutput {
  void* out;
  const T* bias;
  std::int64_t num_tokens;
  std::int64_t num_rows;
  CudaLinearEpilogue epilogue;
  bool out_is_float;

  __device__ __forceinline__ float load(std::int64_t token, std::int64_t row) const {
    const std::int64_t i = token * num_rows + row;
    return out_is_float ? static_cast<const float*>(out)[i]
                        : to_float(static_cast<const T*>(out)[i]);
  }
  __device__ __forceinline__ void store(std::int64_t token, std::int64_t i, float value) const {
    if (token >= num_tokens) return;
    if (out_is_float) {
      static_cast<float*>(out)[i] = value;
    } else {
      static_cast<T*>(out)[i] = from_float<T>(value);
    }
  }

  // Bias and residual of a fragment, to be added to its sums. Reads what earlier kernels wrote.
  // `first_row` is the tile's; rows from `end_row` on are not the caller's.
  __device__ __forceinline__ float4 addend(std::int64_t first_row, std::int64_t end_row,
                                           int token_tile, int lane) const {
    float4 result{0.0F, 0.0F, 0.0F, 0.0F};
    const std::int64_t low = first_row + lane / 4;
    const std::int64_t token = token_tile * kTileTokens + (lane % 4) * 2;
    if (bias != nullptr) {
      if (low < end_row) result.x = result.y = to_float(bias[low]);
      if (low + 8 < end_row) result.z = result.w = to_float(bias[low + 8]);
    }
    if (epilogue == CudaLinearEpilogue::kAdd) {
      const bool has_first = token < num_tokens;
      const bool has_second = token + 1 < num_tokens;
      if (low < end_row && has_first) result.x += load(token, low);
      if (low < end_row && has_second) result.y += load(token + 1, low);
      if (low + 8 < end_row && has_first) result.z += load(token, low + 8);
      if (low + 8 < end_row && has_second) result.w += load(token + 1, low + 8);
    }
    return result;
  }

  __device__ __forceinline__ void finish(std::int64_t first_row, std::int64_t end_row,
                                         int token_tile, int lane, const float4& sum,
                                         const float4& added) const {
    const std::int64_t low = first_row + lane / 4;
    const std::int64_t token = token_tile * kTileTokens + (lane % 4) * 2;
    const float4 value{sum.x + added.x, sum.y + added.y, sum.z + added.z, sum.w + added.w};
    if (epilogue == CudaLinearEpilogue::kSiluMul) {
      if (low >= end_row) return;
      const std::int64_t row = first_row / 2 + lane / 4;
      const std::int64_t stride = num_rows / 2;
      store(token, token * stride + row, value.x / (1.0F + __expf(-value.x)) * value.z);
      store(token + 1, (token + 1) * stride + row, value.y / (1.0F + __expf(-value.y)) * value.w);
      return;
    }
    if (low < end_row) {
      store(token, token * num_rows + low, value.x);
      store(token + 1, (token + 1) * num_rows + low, value.y);
    }
    if (low + 8 < end_row) {
      store(token, token * num_rows + low + 8, value.z);
      store(token + 1, (token + 1) * num_rows + low + 8, value.w);
    }
  }
};

template <typename T>
SkinnyOutput<T> skinny_output(const LinearArguments& args) {
  return {args.out,      static_cast<const T*>(args.bias), args.num_tokens, args.num_rows,
          args.epilogue, args.out_dtype == DType::kF32};
}

// Calls f with the number of token tiles, rounded up to one that has a kernel, as a constant.
template <typename F>
void dispatch_token_tiles(std::int64_t num_tokens, F&& f) {
  const std::int64_t tiles = (num_tokens + kTileTokens - 1) / kTileTokens;
  if (tiles <= 1) return f(std::integral_constant<int, 1>{});
  if (tiles == 2) return f(std::integral_constant<int, 2>{});
  if (tiles == 3) return f(std::integral_constant<int, 3>{});
  if (tiles == 4) return f(std::integral_constant<int, 4>{});
  if (tiles <= 6) return f(std::integral_constant<int, 6>{});
  return f(std::integral_constant<int, 8>{});
}

// Calls f with a value of the 16-bit element type.
template <typename F>
void dispatch_half_type(DType dtype, F&& f) {
  if (dtype == DType::kF16) return f(__half{});
  return f(__nv_bfloat16{});
}

}  // namespace llmrun::kernels
