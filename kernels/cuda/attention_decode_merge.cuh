// The end of a decode item: four warps' online softmaxes become one, and a token's parts its row of
// out. A thread has four columns of one of the eight heads.
#pragma once

#include "kernels/cuda/attention_decode.cuh"

namespace llmrun::kernels {

// Where the warps meet, in shared memory.
struct DecodeMerge {
  float* sums;      // [kDecodeWarps, kDecodeHeads, kMergeStride]
  float2* softmax;  // [kDecodeWarps, kDecodeHeads] largest score, sum of weights
  int* is_last;     // whether this block is the last of a token's
};

// The heads of a block.
struct DecodeHeadGroup {
  int index;  // of the head groups
  int first_head;
  int num_heads;
};

// Scales that bring online softmaxes to their common maximum.
template <int kCount>
struct MergeScales {
  float scale[kCount];
  float largest = -INFINITY;
  float total = 0;

  __device__ __forceinline__ explicit MergeScales(const float2* softmax, int stride) {
#pragma unroll
    for (int i = 0; i < kCount; ++i) largest = fmaxf(largest, softmax[i * stride].x);
    const float shift = largest == -INFINITY ? 0.0F : largest;
#pragma unroll
    for (int i = 0; i < kCount; ++i) {
      scale[i] = exp2_fast(softmax[i * stride].x - shift);
      total += softmax[i * stride].y * scale[i];
    }
  }
};

template <int kD>
__device__ __forceinline__ void share_softmax(const DecodeState<kD>& state,
                                              const DecodeMerge& merge) {
  const int warp = threadIdx.x / 32;
  const int lane = threadIdx.x % 32;
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    float total = state.total[i];
#pragma unroll
    for (int offset = 4; offset < 32; offset *= 2) total += __shfl_xor_sync(~0U, total, offset);
    if (lane < 4) {
      merge.softmax[warp * kDecodeHeads + lane * 2 + i] = make_float2(state.largest[i], total);
    }
  }
}

// Columns [kFirst, kFirst + kMergeColumns) of the warp's sums to shared memory.
template <int kFirst, int kD>
__device__ __forceinline__ void share_sums(const DecodeState<kD>& state, const DecodeMerge& merge) {
  const int warp = threadIdx.x / 32;
  const int lane = threadIdx.x % 32;
  float* target = merge.sums + (warp * kDecodeHeads + lane % 4 * 2) * kMergeStride + lane / 4;
#pragma unroll
  for (int d = 0; d < kMergeColumns / 16; ++d) {
    if (kFirst / 16 + d >= kD / 16) continue;
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      target[i % 2 * kMergeStride + d * 16 + i / 2 * 8] = state.sums[kFirst / 16 + d][i];
    }
  }
}

template <typename T>
__device__ __forceinline__ void store_row(T* row, const float4& sums, float factor) {
  *reinterpret_cast<uint2*>(row) = make_uint2(pack<T>(sums.x * factor, sums.y * factor),
                                              pack<T>(sums.z * factor, sums.w * factor));
}

__device__ __forceinline__ void add_scaled(float4& sums, const float4& x, float scale) {
  sums.x = fmaf(x.x, scale, sums.x);
  sums.y = fmaf(x.y, scale, sums.y);
  sums.z = fmaf(x.z, scale, sums.z);
  sums.w = fmaf(x.w, scale, sums.w);
}

// The block that arrives last merges a token's parts, in ascending order.
template <typename T, int kD>
__device__ void merge_parts(const DecodeParams& params, const DecodeItem& item,
                            const DecodeHeadGroup& heads) {
  const int head = threadIdx.x / 16;
  if (head >= heads.num_heads) return;
  const std::int64_t stride = params.num_query_heads;
  const std::int64_t first = item.first_slot * stride + heads.first_head + head;
  float largest = -INFINITY;
#pragma unroll 4
  for (int i = 0; i < item.num_splits; ++i) {
    largest = fmaxf(largest, __ldcg(&params.part_softmax[first + i * stride].x));
  }
  T* out = static_cast<T*>(params.out) + (item.token * stride + heads.first_head + head) * kD;
  for (int column = threadIdx.x % 16 * 4; column < kD; column += kMergeColumns) {
    float total = 0;
    float4 sums{0, 0, 0, 0};
#pragma unroll 4
    for (int i = 0; i < item.num_splits; ++i) {
      const std::int64_t part = first + i * stride;
      const float2 softmax = __ldcg(params.part_softmax + part);
      const float scale = exp2_fast(softmax.x - largest);
      total = fmaf(softmax.y, scale, total);
      add_scaled(sums,
                 __ldcg(reinterpret_cast<const float4*>(params.part_sums + part * kD + column)),
                 scale);
    }
    store_row(out + column, sums, 1.0F / total);
  }
}

// Counts this block in; whether it is the last. All threads' writes are then visible to it.
__device__ __forceinline__ bool arrive_at_token(const DecodeParams& params, const DecodeItem& item,
                                                const DecodeHeadGroup& heads,
                                                const DecodeMerge& merge) {
  __threadfence();
  __syncthreads();
  if (threadIdx.x == 0) {
    std::uint32_t* arrivals = params.arrivals +
                              static_cast<std::int64_t>(item.first_slot) *
                                  (params.num_kv_heads * params.head_groups_per_kv_head) +
                              heads.index;
    const bool is_last = atomicAdd(arrivals, 1U) + 1 == static_cast<unsigned>(item.num_splits);
    if (is_last) *arrivals = 0;
    *merge.is_last = is_last ? 1 : 0;
  }
  __syncthreads();
  if (*merge.is_last == 0) return false;
  __threadfence();
  return true;
}

template <typename T, int kD, int kFirst>
__device__ __forceinline__ void finish_columns(const DecodeState<kD>& state,
                                               const DecodeParams& params, const DecodeItem& item,
                                               const DecodeHeadGroup& heads,
                                               const DecodeMerge& merge) {
  if constexpr (kFirst < kD) {
    if (kFirst > 0) __syncthreads();
    share_sums<kFirst>(state, merge);
    __syncthreads();
    const int head = threadIdx.x / 16;
    const int column = threadIdx.x % 16 * 4;
    if (head < heads.num_heads && kFirst + column < kD) {
      const MergeScales<kDecodeWarps> scales(merge.softmax + head, kDecodeHeads);
      float4 sums{0, 0, 0, 0};
#pragma unroll
      for (int warp = 0; warp < kDecodeWarps; ++warp) {
        const float* source = merge.sums + (warp * kDecodeHeads + head) * kMergeStride + column;
        add_scaled(sums, *reinterpret_cast<const float4*>(source), scales.scale[warp]);
      }
      const int query_head = heads.first_head + head;
      if (item.num_splits == 1) {
        T* out = static_cast<T*>(params.out) +
                 (static_cast<std::int64_t>(item.token) * params.num_query_heads + query_head) * kD;
        store_row(out + kFirst + column, sums, 1.0F / scales.total);
      } else {
        const std::int64_t part =
            static_cast<std::int64_t>(item.first_slot + item.split) * params.num_query_heads +
            query_head;
        *reinterpret_cast<float4*>(params.part_sums + part * kD + kFirst + column) = sums;
        if (kFirst == 0 && column == 0) {
          params.part_softmax[part] = make_float2(scales.largest, scales.total);
        }
      }
    }
    finish_columns<T, kD, kFirst + kMergeColumns>(state, params, item, heads, merge);
  }
}

template <typename T, int kD>
__device__ __forceinline__ void finish_item(const DecodeState<kD>& state,
                                            const DecodeParams& params, const DecodeItem& item,
                                            const DecodeHeadGroup& heads,
                                            const DecodeMerge& merge) {
  __syncthreads();  // the item before has been read
  share_softmax(state, merge);
  finish_columns<T, kD, 0>(state, params, item, heads, merge);
  if (item.num_splits > 1 && arrive_at_token(params, item, heads, merge)) {
    merge_parts<T, kD>(params, item, heads);
  }
}

}  // namespace llmrun::kernels
