#include <algorithm>

#include "engine/core/error.h"
#include "kernels/cuda/attention_decode_merge.cuh"
#include "kernels/cuda/attention_dispatch.h"

namespace llmrun::kernels {
namespace {

// Grid (workers, head groups).
template <typename T, int kD>
__global__ void __launch_bounds__(kDecodeThreads, kD <= 128 ? 2 : 1)
    decode_kernel(const __grid_constant__ DecodeParams params) {
  wait_for_inputs();
  allow_next();
  extern __shared__ __align__(16) unsigned char shared[];
  using Layout = DecodeLayout<kD>;
  constexpr int kStages = kDecodeStages<kD>;
  const int first_item = params.worker_items[blockIdx.x];
  const int last_item = params.worker_items[blockIdx.x + 1];
  if (first_item >= last_item) return;

  const int warp = static_cast<int>(threadIdx.x) / 32;
  const int lane = static_cast<int>(threadIdx.x) % 32;
  unsigned char* merge_memory = shared + kDecodeWarps * Layout::kRingBytes;
  const DecodeMerge merge{
      reinterpret_cast<float*>(merge_memory),
      reinterpret_cast<float2*>(merge_memory + Layout::kMergeBytes),
      reinterpret_cast<int*>(merge_memory + Layout::kMergeBytes + Layout::kSoftmaxBytes)};
  const int kv_head = static_cast<int>(blockIdx.y) / params.head_groups_per_kv_head;
  const int head_in_group =
      static_cast<int>(blockIdx.y) % params.head_groups_per_kv_head * kDecodeHeads;
  const DecodeHeadGroup heads{static_cast<int>(blockIdx.y),
                              kv_head * params.group_size + head_in_group,
                              min(kDecodeHeads, params.group_size - head_in_group)};
  float slopes[2];
  for (int i = 0; i < 2; ++i) {
    const int head = min(lane % 4 * 2 + i, heads.num_heads - 1);
    slopes[i] = score_slope(params.rule, heads.first_head + head);
  }

  const std::uint32_t ring = to_shared(shared) + warp * Layout::kRingBytes;
  TileCopier<T, kD> copier(params, kv_head, first_item, last_item, ring);
  for (int stage = 0; stage < kStages - 1; ++stage) copier.copy_next(stage);

  DecodeItem item = load_item(params.items, first_item);
  QueryFragment<kD> next_query;
  load_query<T, kD>(next_query, params, item.token, heads.first_head, heads.num_heads);
  int stage = 0;
  for (int i = first_item; i < last_item; ++i) {
    const QueryFragment<kD> query = next_query;
    DecodeItem next_item = item;
    if (i + 1 < last_item) {
      next_item = load_item(params.items, i + 1);
      load_query<T, kD>(next_query, params, next_item.token, heads.first_head, heads.num_heads);
    }
    const WarpTiles tiles = warp_tiles(item, params.rule, warp);
    DecodeState<kD> state;
    for (int tile = 0; tile < tiles.num_tiles; ++tile) {
      wait_copies<kStages - 2>();
      __syncwarp();
      copier.copy_next(stage == 0 ? kStages - 1 : stage - 1);
      const int position = (tiles.first_tile + tile * kDecodeWarps) * kDecodeTile;
      attend_tile<T, kD>(state, query, params.rule, slopes, item, position,
                         ring + stage * Layout::kStageBytes);
      stage = stage == kStages - 1 ? 0 : stage + 1;
    }
    finish_item<T, kD>(state, params, item, heads, merge);
    item = next_item;
  }
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
  params.worker_items = plan;
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
    int device = 0;
    int multiprocessors = 0;
    check_cuda(cudaGetDevice(&device), "current device");
    check_cuda(cudaDeviceGetAttribute(&multiprocessors, cudaDevAttrMultiProcessorCount, device),
               "number of multiprocessors");
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
