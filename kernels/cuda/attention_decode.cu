#include <algorithm>

#include "engine/core/error.h"
#include "kernels/cuda/attention_decode_merge.cuh"
#include "kernels/cuda/attention_dispatch.h"

namespace llmrun::kernels {
namespace {

// Which heads a block has.
__device__ __forceinline__ DecodeHeadGroup head_group(const DecodeParams& params, int index) {
  const int kv_head = index / params.head_groups_per_kv_head;
  const int in_group = index % params.head_groups_per_kv_head * kDecodeHeads;
  return {index, kv_head, kv_head * params.group_size + in_group,
          min(kDecodeHeads, params.group_size - in_group)};
}

template <int kD>
__device__ __forceinline__ DecodeMerge merge_memory(unsigned char* memory) {
  using Layout = DecodeLayout<kD>;
  return {reinterpret_cast<float*>(memory), reinterpret_cast<float2*>(memory + Layout::kMergeBytes),
          reinterpret_cast<int*>(memory + Layout::kMergeBytes + Layout::kSoftmaxBytes)};
}

// Grid (workers, head groups). The plan, the block tables and keys and values of earlier steps are
// read before the kernel in front has ended: it writes only this step's. The next kernel may come
// at once: blocks without an item, the most of them with few sequences, make room for its weights.
// It waits for the others, of which there is one at least, and they for the kernel in front.
template <typename T, int kD>
__global__ void __launch_bounds__(kDecodeThreads, kDecodeBlocks<kD>)
    decode_kernel(const __grid_constant__ DecodeParams params) {
  extern __shared__ __align__(16) unsigned char shared[];
  using Layout = DecodeLayout<kD>;
  constexpr int kStages = kDecodeStages<kD>;
  // The workers of each head begin elsewhere, so that idle ones do not meet on a multiprocessor.
  const int worker =
      static_cast<int>((blockIdx.x + blockIdx.y * gridDim.x / gridDim.y) % gridDim.x);
  const int2 rest = params.worker_items[worker];
  DecodeItem item = load_item(params.items, worker);
  allow_next();
  if (item.end == 0) return;
  const int warp = static_cast<int>(threadIdx.x) / 32;
  const DecodeHeadGroup heads = head_group(params, static_cast<int>(blockIdx.y));
  const std::uint32_t ring = to_shared(shared) + warp * Layout::kRingBytes;
  TileCopier<T, kD> copier(params, heads.kv_head, item, rest, ring);
  bool is_waited = false;
#pragma unroll
  for (int stage = 0; stage < kStages; ++stage) {
    if (!is_waited && copier.is_next_new()) {
      wait_for_inputs();
      is_waited = true;
    }
    copier.copy_next(stage);
  }
  if (!is_waited) wait_for_inputs();

  float slopes[2];
  for (int i = 0; i < 2; ++i) {
    const int head = min(static_cast<int>(threadIdx.x) % 4 * 2 + i, heads.num_heads - 1);
    slopes[i] = score_slope(params.rule, heads.first_head + head);
  }
  QueryFragment<kD> next_query;
  load_query<T, kD>(next_query, params, item.token, heads);
  const DecodeMerge merge = merge_memory<kD>(shared + kDecodeWarps * Layout::kRingBytes);
  PendingPart pending;
  int stage = 0;
  for (int next = rest.x; next <= rest.y; ++next) {
    const QueryFragment<kD> query = next_query;
    DecodeItem next_item = item;
    if (next < rest.y) {
      next_item = load_item(params.items, next);
      load_query<T, kD>(next_query, params, next_item.token, heads);
    }
    const WarpTiles tiles = warp_tiles(item, params.rule, warp);
    DecodeState<kD> state;
    for (int tile = 0; tile < tiles.num_tiles; ++tile) {
      wait_copies<kStages - 1>();
      __syncwarp();
      const int position = (tiles.first_tile + tile * kDecodeWarps) * kDecodeTile;
      attend_tile<T, kD>(state, query, params.rule, slopes, item, position,
                         ring + stage * Layout::kStageBytes);
      __syncwarp();
      copier.copy_next(stage);
      stage = stage == kStages - 1 ? 0 : stage + 1;
    }
    finish_item<T, kD>(state, pending, params, item, heads, merge);
    item = next_item;
  }
  finish_pending<T, kD>(pending, params, heads, merge);
}

int head_groups_per_kv_head(const AttentionShape& shape) {
  const int group_size = shape.num_query_heads / shape.num_kv_heads;
  return (group_size + kDecodeHeads - 1) / kDecodeHeads;
}

std::size_t round_up_256(std::size_t n) {
  return (n + 255) / 256 * 256;
}

// The workspace: arrivals, then largest scores and totals, then sums.
struct WorkspaceSizes {
  std::size_t arrivals;
  std::size_t softmax;
  std::size_t sums;
};
WorkspaceSizes workspace_sizes(const AttentionShape& shape, std::int64_t max_slots) {
  const auto slots = static_cast<std::size_t>(max_slots);
  const auto query_heads = static_cast<std::size_t>(shape.num_query_heads);
  const auto head_groups =
      static_cast<std::size_t>(shape.num_kv_heads * head_groups_per_kv_head(shape));
  return {
      round_up_256(slots * head_groups * sizeof(std::uint32_t)),
      round_up_256(slots * query_heads * sizeof(float2)),
      round_up_256(slots * query_heads * static_cast<std::size_t>(shape.head_dim) * sizeof(float))};
}

DecodeParams make_params(const PagedAttention& args, const std::int32_t* plan, int num_workers,
                         void* workspace, std::int64_t max_slots) {
  const AttentionShape& shape = args.shape;
  const WorkspaceSizes sizes = workspace_sizes(shape, max_slots);
  auto* memory = static_cast<unsigned char*>(workspace);
  DecodeParams params{};
  params.out = args.out;
  params.qkv = args.qkv;
  params.key_cache = args.key_cache;
  params.value_cache = args.value_cache;
  params.block_tables = args.block_tables;
  params.worker_items = reinterpret_cast<const int2*>(plan);
  params.items = reinterpret_cast<const DecodeItem*>(plan + decode_items_offset(num_workers));
  params.arrivals = reinterpret_cast<std::uint32_t*>(memory);
  params.part_softmax = reinterpret_cast<float2*>(memory + sizes.arrivals);
  params.part_sums = reinterpret_cast<float*>(memory + sizes.arrivals + sizes.softmax);
  params.max_num_blocks = args.max_num_blocks;
  params.block_size = static_cast<int>(shape.block_size);
  params.num_query_heads = shape.num_query_heads;
  params.num_kv_heads = shape.num_kv_heads;
  params.group_size = shape.num_query_heads / shape.num_kv_heads;
  params.head_groups_per_kv_head = head_groups_per_kv_head(shape);
  params.rule = make_score_rule(args);
  return params;
}

}  // namespace

int prepare_decode_attention(const AttentionShape& shape) {
  int num_workers = 1;
  dispatch_tiled(shape, [&](auto element, auto head_dim) {
    using T = decltype(element);
    constexpr int kD = decltype(head_dim)::value;
    constexpr int kBytes = DecodeLayout<kD>::kSharedBytes;
    check_cuda(cudaFuncSetAttribute(decode_kernel<T, kD>,
                                    cudaFuncAttributeMaxDynamicSharedMemorySize, kBytes),
               "decode_attention: shared memory");
    int blocks = 0;
    check_cuda(cudaOccupancyMaxActiveBlocksPerMultiprocessor(&blocks, decode_kernel<T, kD>,
                                                             kDecodeThreads, kBytes),
               "decode_attention: occupancy");
    const int multiprocessors = device_attribute(cudaDevAttrMultiProcessorCount);
    num_workers = blocks * multiprocessors / (shape.num_kv_heads * head_groups_per_kv_head(shape));
  });
  return std::max(num_workers, 1);
}

std::size_t decode_workspace_bytes(const AttentionShape& shape, std::int64_t max_slots) {
  const WorkspaceSizes sizes = workspace_sizes(shape, max_slots);
  return sizes.arrivals + sizes.softmax + sizes.sums;
}

void decode_attention(const Launch& options, const PagedAttention& args, const std::int32_t* plan,
                      int num_workers, void* workspace, std::int64_t max_slots) {
  const AttentionShape& shape = args.shape;
  const DecodeParams params = make_params(args, plan, num_workers, workspace, max_slots);
  const dim3 grid(static_cast<unsigned>(num_workers),
                  static_cast<unsigned>(shape.num_kv_heads * params.head_groups_per_kv_head));
  dispatch_tiled(shape, [&](auto element, auto head_dim) {
    using T = decltype(element);
    constexpr int kD = decltype(head_dim)::value;
    launch(options, "decode_attention", decode_kernel<T, kD>, grid, dim3(kDecodeThreads),
           DecodeLayout<kD>::kSharedBytes, params);
  });
}

}  // namespace llmrun::kernels
