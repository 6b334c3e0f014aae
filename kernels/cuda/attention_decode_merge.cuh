// The end of a decode item: four warps' online softmaxes become one, and a token's parts its row of
// out. A thread has four columns of one of the heads.
#pragma once

#include "kernels/cuda/attention_decode.cuh"

namespace llmrun::kernels {

// Where the warps meet, in shared memory.
struct DecodeMerge {
  float* sums;      // [kDecodeWarps, kDecodeHeads, kMergeStride]
  float2* softmax;  // [kDecodeWarps, kDecodeHeads] largest score, sum of weights
  int* is_last;     // whether this block is the last of a token's
};

// Heads and columns that are merged at a time: 64 columns of 8 heads, or 128 of 4.
template <int kHeadsOfShape>
struct MergeShape {
  static constexpr int kHeads = kHeadsOfShape;
  static constexpr int kColumns = kMergeFloats / kHeads;
  static constexpr int kStride = kColumns + 4;  // no bank conflicts
  static constexpr int kThreadsPerHead = kColumns / 4;
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

// Columns [kFirst, kFirst + Shape::kColumns) of the warp's sums to shared memory.
template <typename Shape, int kFirst, int kD>
__device__ __forceinline__ void share_sums(const DecodeState<kD>& state, const DecodeMerge& merge) {
  const int warp = threadIdx.x / 32;
  const int lane = threadIdx.x % 32;
  const int head = lane % 4 * 2;
  if (head >= Shape::kHeads) return;
  float* target = merge.sums + (warp * Shape::kHeads + head) * Shape::kStride + lane / 4;
#pragma unroll
  for (int d = 0; d < Shape::kColumns / 16; ++d) {
    if (kFirst / 16 + d >= kD / 16) continue;
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      target[i % 2 * Shape::kStride + d * 16 + i / 2 * 8] = state.sums[kFirst / 16 + d][i];
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

__device__ __forceinline__ std::uint32_t* arrivals_of(const DecodeParams& params, int first_slot,
                                                      const DecodeHeadGroup& heads) {
  return params.arrivals +
         static_cast<std::int64_t>(first_slot) *
             (params.num_kv_heads * params.head_groups_per_kv_head) +
         heads.index;
}

// The part of a token that this block finished last, if others have the rest: whether it was the
// last of all to arrive is only looked at an item later, when the answer is there.
struct PendingPart {
  int token;
  int first_slot;
  int num_splits = 0;      // 0: none is pending
  std::uint32_t arrivals;  // before this block's; thread 0 has it
};

// Counts the block in. Its writes are visible to whoever sees the count.
__device__ __forceinline__ void arrive_at_token(PendingPart& pending, const DecodeParams& params,
                                                const DecodeItem& item,
                                                const DecodeHeadGroup& heads) {
  pending.token = item.token;
  pending.first_slot = item.first_slot;
  pending.num_splits = item.num_splits;
  __syncthreads();
  if (threadIdx.x == 0) {
    __threadfence();
    pending.arrivals = atomicAdd(arrivals_of(params, item.first_slot, heads), 1U);
  }
}

// Before a barrier: thread 0 tells the block whether it was the last.
__device__ __forceinline__ void tell_arrival(const PendingPart& pending, const DecodeParams& params,
                                             const DecodeHeadGroup& heads,
                                             const DecodeMerge& merge) {
  if (pending.num_splits == 0 || threadIdx.x != 0) return;
  const bool is_last = pending.arrivals + 1 == static_cast<std::uint32_t>(pending.num_splits);
  if (is_last) {
    *arrivals_of(params, pending.first_slot, heads) = 0;
    __threadfence();
  }
  *merge.is_last = is_last ? 1 : 0;
}

// The block that arrived last merges a token's parts, in ascending order, kBatch of them in flight.
template <typename T, int kD>
__device__ void merge_parts(const DecodeParams& params, const PendingPart& pending,
                            const DecodeHeadGroup& heads) {
  constexpr int kBatch = 8;
  const std::int64_t stride = params.num_query_heads;
  for (int i = threadIdx.x; i < heads.num_heads * (kD / 4); i += kDecodeThreads) {
    const std::int64_t head = heads.first_head + i / (kD / 4);
    const int column = i % (kD / 4) * 4;
    const std::int64_t first = pending.first_slot * stride + head;
    float largest = -INFINITY;
    float total = 0;
    float4 sums{0, 0, 0, 0};
    for (int split = 0; split < pending.num_splits; split += kBatch) {
      float2 softmax[kBatch];
      float4 part_sums[kBatch];
#pragma unroll
      for (int j = 0; j < kBatch; ++j) {
        const std::int64_t part = first + min(split + j, pending.num_splits - 1) * stride;
        softmax[j] = __ldcg(params.part_softmax + part);
        part_sums[j] =
            __ldcg(reinterpret_cast<const float4*>(params.part_sums + part * kD + column));
        if (split + j >= pending.num_splits) softmax[j] = make_float2(-INFINITY, 0);
      }
      const float before = largest;
#pragma unroll
      for (int j = 0; j < kBatch; ++j) largest = fmaxf(largest, softmax[j].x);
      const float shift = largest == -INFINITY ? 0.0F : largest;
      const float rescale = exp2_fast(before - shift);
      total *= rescale;
      sums = make_float4(sums.x * rescale, sums.y * rescale, sums.z * rescale, sums.w * rescale);
#pragma unroll
      for (int j = 0; j < kBatch; ++j) {
        const float scale = exp2_fast(softmax[j].x - shift);
        total = fmaf(softmax[j].y, scale, total);
        add_scaled(sums, part_sums[j], scale);
      }
    }
    T* out = static_cast<T*>(params.out) + (pending.token * stride + head) * kD;
    store_row(out + column, sums, 1.0F / total);
  }
}

// Merges the warps' columns from kFirst on: to out, or to the token's slot in the workspace.
template <typename T, typename Shape, int kFirst, int kD>
__device__ __forceinline__ void finish_columns(const DecodeState<kD>& state,
                                               const DecodeParams& params, const DecodeItem& item,
                                               const DecodeHeadGroup& heads,
                                               const DecodeMerge& merge) {
  if constexpr (kFirst < kD) {
    if (kFirst > 0) __syncthreads();
    share_sums<Shape, kFirst>(state, merge);
    __syncthreads();
    const int head = threadIdx.x / Shape::kThreadsPerHead;
    const int column = threadIdx.x % Shape::kThreadsPerHead * 4;
    if (head < heads.num_heads && kFirst + column < kD) {
      const MergeScales<kDecodeWarps> scales(merge.softmax + head, kDecodeHeads);
      float4 sums{0, 0, 0, 0};
#pragma unroll
      for (int warp = 0; warp < kDecodeWarps; ++warp) {
        const float* source = merge.sums + (warp * Shape::kHeads + head) * Shape::kStride + column;
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
    finish_columns<T, Shape, kFirst + Shape::kColumns>(state, params, item, heads, merge);
  }
}

template <typename T, int kD>
__device__ __forceinline__ void finish_item(const DecodeState<kD>& state, PendingPart& pending,
                                            const DecodeParams& params, const DecodeItem& item,
                                            const DecodeHeadGroup& heads,
                                            const DecodeMerge& merge) {
  tell_arrival(pending, params, heads, merge);
  __syncthreads();  // the item before has also been read
  const bool is_last = pending.num_splits > 0 && *merge.is_last != 0;
  share_softmax(state, merge);
  if (kD > 64 && heads.num_heads <= 4) {
    finish_columns<T, MergeShape<4>, 0>(state, params, item, heads, merge);
  } else {
    finish_columns<T, MergeShape<8>, 0>(state, params, item, heads, merge);
  }
  if (is_last) merge_parts<T, kD>(params, pending, heads);
  pending.num_splits = 0;
  if (item.num_splits > 1) arrive_at_token(pending, params, item, heads);
}

// After the last item.
template <typename T, int kD>
__device__ __forceinline__ void finish_pending(const PendingPart& pending,
                                               const DecodeParams& params,
                                               const DecodeHeadGroup& heads,
                                               const DecodeMerge& merge) {
  if (pending.num_splits == 0) return;
  tell_arrival(pending, params, heads, merge);
  __syncthreads();
  if (*merge.is_last != 0) merge_parts<T, kD>(params, pending, heads);
}

}  // namespace llmrun::kernels
