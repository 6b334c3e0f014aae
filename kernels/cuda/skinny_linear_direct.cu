#include "kernels/cuda/skinny_linear_fragment.cuh"
#include "kernels/cuda/skinny_linear_variants.h"

namespace llmrun::kernels {
namespace {

constexpr int kWarps = 8;

struct WeightChunk {
  uint4 low[2];
  uint4 high[2];
};

__device__ __forceinline__ uint4 load_streamed(const void* source) {
  uint4 result;
  asm volatile("ld.global.nc.L1::no_allocate.v4.u32 {%0, %1, %2, %3}, [%4];"
               : "=r"(result.x), "=r"(result.y), "=r"(result.z), "=r"(result.w)
               : "l"(source));
  return result;
}

// The lane's columns of a chunk: 16 contiguous ones, in two vectors of 8.
template <typename T>
__device__ __forceinline__ WeightChunk load_weights(const T* low, const T* high,
                                                    std::int64_t column, std::int64_t num_columns) {
  WeightChunk chunk{};
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    if (column + half * 8 >= num_columns) continue;
    chunk.low[half] = load_streamed(low + column + half * 8);
    chunk.high[half] = load_streamed(high + column + half * 8);
  }
  return chunk;
}

template <typename T, int kTokenTiles>
__device__ __forceinline__ void multiply_chunk(float4 (&sums)[kTokenTiles],
                                               const WeightChunk& weights, const T* x, int group,
                                               std::int64_t num_tokens, std::int64_t column,
                                               std::int64_t num_columns) {
#pragma unroll
  for (int tile = 0; tile < kTokenTiles; ++tile) {
    // Absent tokens repeat the last one; their sums are not stored.
    const std::int64_t token =
        min(static_cast<std::int64_t>(tile * kTileTokens + group), num_tokens - 1);
    const T* source = x + token * num_columns + column;
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      uint4 tokens{0, 0, 0, 0};
      if (column + half * 8 < num_columns) {
        tokens = *reinterpret_cast<const uint4*>(source + half * 8);
      }
      multiply_add<T, 0>(sums[tile], weights.low[half], weights.high[half], tokens);
      multiply_add<T, 1>(sums[tile], weights.low[half], weights.high[half], tokens);
    }
  }
}

// A block has 16 rows; its warps take turns at the chunks of columns and add up at the end.
template <typename T, int kTokenTiles>
__global__ void __launch_bounds__(kWarps* kWarpLanes)
    direct_kernel(SkinnyOutput<T> output, const T* x, const T* weight, std::int64_t num_columns) {
  const int warp = static_cast<int>(threadIdx.x) / kWarpLanes;
  const int lane = static_cast<int>(threadIdx.x) % kWarpLanes;
  const int group = lane / 4;
  const std::int64_t first_row = static_cast<std::int64_t>(blockIdx.x) * kTileRows + group;
  const std::int64_t last_row = output.num_rows - 1;
  // Absent rows repeat the last one; their sums are not stored.
  const T* low = weight + min(first_row, last_row) * num_columns;
  const T* high = weight + min(first_row + 8, last_row) * num_columns;
  constexpr std::int64_t kStride = kWarps * kChunkColumns;
  std::int64_t column = warp * kChunkColumns + (lane % 4) * 16;

  WeightChunk current = load_weights(low, high, column, num_columns);
  wait_for_inputs();
  allow_next();
  float4 sums[kTokenTiles] = {};
  // The bound is on the warp's chunk, not on the lane's columns: mma needs the whole warp.
  for (std::int64_t chunk = warp * kChunkColumns; chunk < num_columns; chunk += kStride) {
    const WeightChunk next = load_weights(low, high, column + kStride, num_columns);
    multiply_chunk<T, kTokenTiles>(sums, current, x, group, output.num_tokens, column, num_columns);
    current = next;
    column += kStride;
  }

  __shared__ float4 partial[kWarps][kTokenTiles][kWarpLanes];
#pragma unroll
  for (int tile = 0; tile < kTokenTiles; ++tile) partial[warp][tile][lane] = sums[tile];
  __syncthreads();
  for (int tile = warp; tile < kTokenTiles; tile += kWarps) {
    float4 sum{0.0F, 0.0F, 0.0F, 0.0F};
#pragma unroll
    for (int source = 0; source < kWarps; ++source) {
      const float4 part = partial[source][tile][lane];
      sum.x += part.x;
      sum.y += part.y;
      sum.z += part.z;
      sum.w += part.w;
    }
    const std::int64_t block_row = static_cast<std::int64_t>(blockIdx.x) * kTileRows;
    output.finish(block_row, output.num_rows, tile, lane, sum,
                  output.addend(block_row, output.num_rows, tile, lane));
  }
}

}  // namespace

void skinny_linear_direct(const Launch& options, const LinearArguments& args) {
  dispatch_half_type(args.dtype, [&](auto element) {
    using T = decltype(element);
    dispatch_token_tiles(args.num_tokens, [&](auto token_tiles) {
      const auto grid = static_cast<unsigned>((args.num_rows + kTileRows - 1) / kTileRows);
      launch(options, "skinny linear (direct)", direct_kernel<T, token_tiles>, dim3(grid),
             dim3(kWarps * kWarpLanes), 0, skinny_output<T>(args), static_cast<const T*>(args.x),
             static_cast<const T*>(args.weight), args.num_columns);
    });
  });
}

}  // namespace llmrun::kernels
