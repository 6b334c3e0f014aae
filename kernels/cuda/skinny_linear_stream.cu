// The weights of a block's rows come through the bulk copy engine into a ring of slots in shared
// memory, 64 columns of all its rows at a time, with the same columns of x beside them. One thread
// issues the copies; the other warps own one or two tiles of 16 rows each and keep their sums in
// registers over all columns.
#include <algorithm>

#include "kernels/cuda/bulk_copy.cuh"
#include "kernels/cuda/skinny_linear_fragment.cuh"
#include "kernels/cuda/skinny_linear_variants.h"

namespace llmrun::kernels {
namespace {

constexpr int kChunkBytes = kChunkColumns * 2;               // of one row
constexpr int kTileBytes = kTileRows * kChunkBytes;          // of a slot, per tile of rows
constexpr int kTokenTileBytes = kTileTokens * kChunkBytes;   // of a slot, per tile of tokens
constexpr int kFragmentBytes = kWarpLanes * sizeof(float4);  // of a received sum
constexpr int kSharedAlignment = 1024;                       // of a 128-byte swizzled box
constexpr int kMaxTilesPerBlock = 12;

// More tokens: two tiles of rows a warp, so that a fragment of x is read from shared memory once
// for both; fewer: one, for more warps.
constexpr int tiles_per_warp(int token_tiles) {
  return token_tiles > 4 ? 2 : 1;
}
// Sums of other blocks get memory of their own, or, where that would take the place of slots, the
// memory of the slots once all are read.
constexpr bool receives_in_slots(int token_tiles) {
  return token_tiles > 4;
}
constexpr int max_warps(int token_tiles) {
  return kMaxTilesPerBlock / tiles_per_warp(token_tiles) + 1;
}

// Shared memory of a block, in order: slots of weights, slots of x, sums received, barriers.
struct StreamLayout {
  std::uint32_t weight_slot_bytes;
  std::uint32_t token_slot_bytes;
  std::uint32_t token_slots;
  std::uint32_t received;
  std::uint32_t barriers;
  std::uint32_t total;
};

StreamLayout stream_layout(int token_tiles, const SkinnyStreamPlan& plan) {
  StreamLayout layout{};
  const auto slots = static_cast<std::uint32_t>(plan.num_slots);
  layout.weight_slot_bytes = static_cast<std::uint32_t>(plan.tiles_per_block) * kTileBytes;
  layout.token_slot_bytes = static_cast<std::uint32_t>(token_tiles) * kTokenTileBytes;
  layout.token_slots = slots * layout.weight_slot_bytes;
  const std::uint32_t slots_end = layout.token_slots + slots * layout.token_slot_bytes;
  const auto splits = static_cast<std::uint32_t>(plan.num_splits);
  const auto fragments = static_cast<std::uint32_t>(plan.tiles_per_block * token_tiles);
  const std::uint32_t received_bytes =
      splits == 1 ? 0 : (fragments + splits - 1) / splits * splits * kFragmentBytes;
  layout.received = receives_in_slots(token_tiles) ? 0 : slots_end;
  layout.barriers = receives_in_slots(token_tiles) ? std::max(slots_end, received_bytes)
                                                   : slots_end + received_bytes;
  layout.total = layout.barriers + slots * 2 * sizeof(std::uint64_t) + kSharedAlignment;
  return layout;
}

struct StreamArguments {
  StreamLayout layout;
  int tiles_per_block;
  int num_splits;
  int num_slots;
  int lead_chunks;
  int prefetch_chunks;
  int num_row_tiles;
  int num_chunks;  // of all columns
};

#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 900

// What a block does: `num_passes` groups of row tiles, each over chunks [first, first + count).
struct BlockWork {
  int rank;         // of the split
  int first_tile;   // of the first pass
  int tile_stride;  // from pass to pass
  int num_passes;
  int first_chunk;
  int num_chunks;

  __device__ explicit BlockWork(const StreamArguments& args) {
    const int splits = args.num_splits;
    rank = static_cast<int>(blockIdx.x) % splits;
    first_tile = static_cast<int>(blockIdx.x) / splits * args.tiles_per_block;
    tile_stride = static_cast<int>(gridDim.x) / splits * args.tiles_per_block;
    num_passes = first_tile < args.num_row_tiles
                     ? (args.num_row_tiles - first_tile + tile_stride - 1) / tile_stride
                     : 0;
    first_chunk = static_cast<int>(static_cast<std::int64_t>(args.num_chunks) * rank / splits);
    num_chunks =
        static_cast<int>(static_cast<std::int64_t>(args.num_chunks) * (rank + 1) / splits) -
        first_chunk;
  }
};

// The ring of slots, as one side walks it.
struct Ring {
  std::uint32_t full;   // barriers: the copies into a slot are done
  std::uint32_t empty;  // all warps have read a slot
  int num_slots;
  int slot = 0;
  std::uint32_t phase = 0;

  __device__ Ring(std::uint32_t barriers, int slots)
      : full(barriers),
        empty(barriers + 8U * static_cast<std::uint32_t>(slots)),
        num_slots(slots) {}
  __device__ std::uint32_t full_barrier() const {
    return full + 8U * static_cast<std::uint32_t>(slot);
  }
  __device__ std::uint32_t empty_barrier() const {
    return empty + 8U * static_cast<std::uint32_t>(slot);
  }
  __device__ void advance() {
    if (++slot < num_slots) return;
    slot = 0;
    phase ^= 1U;
  }
};

// The thread that issues all copies of a block.
class Producer {
 public:
  __device__ Producer(const CUtensorMap* weights, const CUtensorMap* tokens,
                      const StreamArguments& args, const BlockWork& work, std::uint32_t shared)
      : weights_(weights),
        tokens_(tokens),
        args_(args),
        work_(work),
        shared_(shared),
        total_(work.num_passes * work.num_chunks),
        weight_policy_(evict_first_policy()),
        token_policy_(evict_last_policy()) {}

  __device__ void run() {
    Ring ring(shared_ + args_.layout.barriers, args_.num_slots);
    const int ahead = min(total_, args_.num_slots);
    const int last_alone = total_ - args_.lead_chunks;
    if (last_alone <= ahead) allow_next();
    for (int i = 0; i < ahead; ++i) {
      copy_weights(ring, i);
      ring.advance();
    }
    for (int i = ahead; i < min(total_, ahead + args_.prefetch_chunks); ++i) {
      prefetch_box(weights_, column(i), row(i));
    }
    wait_for_inputs();
    ring.slot = 0;
    for (int i = 0; i < ahead; ++i) {
      copy_tokens(ring, i);
      ring.advance();
    }
    ring.slot = ahead % args_.num_slots;
    ring.phase = 0;
    for (int i = ahead; i < total_; ++i) {
      if (i == last_alone) allow_next();
      wait_phase(ring.empty_barrier(), ring.phase);
      copy_weights(ring, i);
      copy_tokens(ring, i);
      ring.advance();
    }
  }

 private:
  __device__ int column(int i) const {
    return (work_.first_chunk + i % work_.num_chunks) * kChunkColumns;
  }
  __device__ int row(int i) const {
    return (work_.first_tile + i / work_.num_chunks * work_.tile_stride) * kTileRows;
  }
  __device__ void copy_weights(const Ring& ring, int i) const {
    const std::uint32_t bytes = args_.layout.weight_slot_bytes;
    arrive_and_expect(ring.full_barrier(), bytes + args_.layout.token_slot_bytes);
    copy_box(shared_ + static_cast<std::uint32_t>(ring.slot) * bytes, weights_, column(i), row(i),
             ring.full_barrier(), weight_policy_);
  }
  __device__ void copy_tokens(const Ring& ring, int i) const {
    const std::uint32_t target =
        shared_ + args_.layout.token_slots +
        static_cast<std::uint32_t>(ring.slot) * args_.layout.token_slot_bytes;
    copy_box(target, tokens_, column(i), 0, ring.full_barrier(), token_policy_);
  }

  const CUtensorMap* weights_;
  const CUtensorMap* tokens_;
  const StreamArguments& args_;
  const BlockWork& work_;
  std::uint32_t shared_;
  int total_;
  std::uint64_t weight_policy_;
  std::uint64_t token_policy_;
};

// A warp's share of one slot. `lane_offset` is where the lane's first 16 bytes of its row lie: the
// quad takes vectors 0, 2, 4, 6 and then 1, 3, 5, 7 of the 128 bytes, which the copy engine has
// permuted by the row's number, so that no two rows of a read meet in a bank.
template <typename T, int kTokenTiles, int kTilesPerWarp>
__device__ __forceinline__ void multiply_slot(float4 (&sums)[kTilesPerWarp][kTokenTiles],
                                              std::uint32_t weights, std::uint32_t tokens,
                                              std::uint32_t lane_offset, int num_tiles) {
  uint4 low[kTilesPerWarp][2];
  uint4 high[kTilesPerWarp][2];
#pragma unroll
  for (int tile = 0; tile < kTilesPerWarp; ++tile) {
    // A warp without a second tile repeats its first.
    const std::uint32_t address =
        weights + lane_offset + static_cast<std::uint32_t>(min(tile, num_tiles - 1)) * kTileBytes;
#pragma unroll
    for (std::uint32_t half = 0; half < 2; ++half) {
      low[tile][half] = load_shared(address ^ (half * 16));
      high[tile][half] = load_shared((address ^ (half * 16)) + 8 * kChunkBytes);
    }
  }
#pragma unroll
  for (std::uint32_t token_tile = 0; token_tile < kTokenTiles; ++token_tile) {
    const std::uint32_t address = tokens + lane_offset + token_tile * kTokenTileBytes;
#pragma unroll
    for (std::uint32_t half = 0; half < 2; ++half) {
      const uint4 fragment = load_shared(address ^ (half * 16));
#pragma unroll
      for (int tile = 0; tile < kTilesPerWarp; ++tile) {
        multiply_add<T>(sums[tile][token_tile], low[tile][half], high[tile][half], fragment);
      }
    }
  }
}

// Adds up the sums of a cluster. Fragment f belongs to block f % splits, which receives it from
// every block, adds in the order of the columns, and finishes it.
template <typename T, int kTokenTiles, int kTilesPerWarp>
__device__ __forceinline__ void reduce_in_cluster(const float4 (&sums)[kTilesPerWarp][kTokenTiles],
                                                  const SkinnyOutput<T>& output,
                                                  const StreamArguments& args,
                                                  const BlockWork& work, std::uint32_t shared,
                                                  int warp, int num_warps, int lane) {
  const std::uint32_t received =
      shared + args.layout.received + static_cast<std::uint32_t>(lane) * 16;
  const int splits = args.num_splits;
  const int tiles = min(args.tiles_per_block, args.num_row_tiles - work.first_tile);
#pragma unroll
  for (int tile = 0; tile < kTilesPerWarp; ++tile) {
    const int local_tile = warp * kTilesPerWarp + tile;
    if (local_tile >= tiles) break;
#pragma unroll
    for (int token_tile = 0; token_tile < kTokenTiles; ++token_tile) {
      const int fragment = local_tile * kTokenTiles + token_tile;
      const int place = fragment / splits * splits + work.rank;
      store_in_cluster(received + static_cast<std::uint32_t>(place) * kFragmentBytes,
                       static_cast<std::uint32_t>(fragment % splits), sums[tile][token_tile]);
    }
  }
  arrive_at_cluster();
  const int num_fragments = tiles * kTokenTiles;
  int fragment = warp * splits + work.rank;
  const auto addend = [&](int f) {
    return f < num_fragments
               ? output.addend(work.first_tile + f / kTokenTiles, f % kTokenTiles, lane)
               : float4{0.0F, 0.0F, 0.0F, 0.0F};
  };
  float4 added = addend(fragment);
  wait_for_cluster();
  while (fragment < num_fragments) {
    float4 sum{0.0F, 0.0F, 0.0F, 0.0F};
    for (int source = 0; source < splits; ++source) {
      const int place = fragment / splits * splits + source;
      const float4 part =
          load_shared_floats(received + static_cast<std::uint32_t>(place) * kFragmentBytes);
      sum.x += part.x;
      sum.y += part.y;
      sum.z += part.z;
      sum.w += part.w;
    }
    output.finish(work.first_tile + fragment / kTokenTiles, fragment % kTokenTiles, lane, sum,
                  added);
    fragment += num_warps * splits;
    added = addend(fragment);
  }
}

#endif  // compute capability 9

template <typename T, int kTokenTiles>
__global__ void __launch_bounds__(max_warps(kTokenTiles) * kWarpLanes, 2)
    stream_kernel(const __grid_constant__ CUtensorMap weight_map,
                  const __grid_constant__ CUtensorMap token_map,
                  const __grid_constant__ StreamArguments args,
                  const __grid_constant__ SkinnyOutput<T> output) {
#if __CUDA_ARCH__ >= 900
  constexpr int kTilesPerWarp = tiles_per_warp(kTokenTiles);
  constexpr bool kReceivesInSlots = receives_in_slots(kTokenTiles);
  extern __shared__ unsigned char shared_memory[];
  const std::uint32_t shared =
      (shared_address(shared_memory) + kSharedAlignment - 1) / kSharedAlignment * kSharedAlignment;
  const int warp = static_cast<int>(threadIdx.x) / kWarpLanes;
  const int lane = static_cast<int>(threadIdx.x) % kWarpLanes;
  const int num_warps = static_cast<int>(blockDim.x) / kWarpLanes - 1;
  const bool is_split = args.num_splits > 1;
  const BlockWork work(args);

  if (threadIdx.x == 0) {
    for (int slot = 0; slot < args.num_slots; ++slot) {
      Ring ring(shared + args.layout.barriers, args.num_slots);
      ring.slot = slot;
      init_barrier(ring.full_barrier(), 1);
      init_barrier(ring.empty_barrier(), num_warps);
    }
    fence_barrier_init();
  }
  __syncthreads();
  if (is_split && !kReceivesInSlots) arrive_at_cluster();

  if (warp == num_warps) {
    if (lane == 0) {
      prefetch_map(&weight_map);
      prefetch_map(&token_map);
      Producer(&weight_map, &token_map, args, work, shared).run();
    }
    __syncwarp();
    if (is_split) {  // the barrier counts this warp too
      if (kReceivesInSlots) arrive_at_cluster();
      wait_for_cluster();
      arrive_at_cluster();
      wait_for_cluster();
    }
    return;
  }

  wait_for_inputs();
  const auto group = static_cast<std::uint32_t>(lane) / 4;
  const std::uint32_t lane_offset =
      group * kChunkBytes + (((static_cast<std::uint32_t>(lane) % 4 * 2) ^ group) * 16);
  const int first_tile = warp * kTilesPerWarp;
  const int num_tiles = min(kTilesPerWarp, args.tiles_per_block - first_tile);
  Ring ring(shared + args.layout.barriers, args.num_slots);
  float4 sums[kTilesPerWarp][kTokenTiles];
  for (int pass = 0; pass < work.num_passes; ++pass) {
#pragma unroll
    for (int tile = 0; tile < kTilesPerWarp; ++tile) {
#pragma unroll
      for (int token_tile = 0; token_tile < kTokenTiles; ++token_tile) {
        sums[tile][token_tile] = float4{0.0F, 0.0F, 0.0F, 0.0F};
      }
    }
    for (int chunk = 0; chunk < work.num_chunks; ++chunk) {
      const auto slot = static_cast<std::uint32_t>(ring.slot);
      wait_phase(ring.full_barrier(), ring.phase);
      multiply_slot<T, kTokenTiles, kTilesPerWarp>(
          sums,
          shared + slot * args.layout.weight_slot_bytes +
              static_cast<std::uint32_t>(first_tile) * kTileBytes,
          shared + args.layout.token_slots + slot * args.layout.token_slot_bytes, lane_offset,
          num_tiles);
      __syncwarp();
      if (lane == 0) arrive(ring.empty_barrier());
      ring.advance();
    }
    if (is_split) break;
    const int row_tile = work.first_tile + pass * work.tile_stride + first_tile;
#pragma unroll
    for (int tile = 0; tile < kTilesPerWarp; ++tile) {
      if (tile >= num_tiles || row_tile + tile >= args.num_row_tiles) break;
#pragma unroll
      for (int token_tile = 0; token_tile < kTokenTiles; ++token_tile) {
        output.finish(row_tile + tile, token_tile, lane, sums[tile][token_tile],
                      output.addend(row_tile + tile, token_tile, lane));
      }
    }
  }
  if (is_split) {
    if (kReceivesInSlots) arrive_at_cluster();
    wait_for_cluster();
    reduce_in_cluster<T, kTokenTiles, kTilesPerWarp>(sums, output, args, work, shared, warp,
                                                     num_warps, lane);
  }
#endif
}

// The driver's function that describes a matrix to the copy engine.
using EncodeTensorMap = decltype(&cuTensorMapEncodeTiled);

EncodeTensorMap encode_tensor_map() {
  static const EncodeTensorMap function = [] {
    void* pointer = nullptr;
    cudaDriverEntryPointQueryResult result{};
    check_cuda(cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &pointer, 12000,
                                                cudaEnableDefault, &result),
               "cuTensorMapEncodeTiled");
    if (result != cudaDriverEntryPointSuccess || pointer == nullptr) {
      throw Error(ErrorKind::kDevice, "CUDA: the driver has no cuTensorMapEncodeTiled");
    }
    return reinterpret_cast<EncodeTensorMap>(pointer);
  }();
  return function;
}

// A [rows, columns] matrix, read in boxes of [box_rows, 64]. What lies outside reads as zero.
CUtensorMap matrix_map(const void* data, DType dtype, std::int64_t rows, std::int64_t columns,
                       int box_rows) {
  CUtensorMap map{};
  const cuuint64_t sizes[2] = {static_cast<cuuint64_t>(columns), static_cast<cuuint64_t>(rows)};
  const cuuint64_t strides[1] = {static_cast<cuuint64_t>(columns) * 2};
  const cuuint32_t box[2] = {kChunkColumns, static_cast<cuuint32_t>(box_rows)};
  const cuuint32_t steps[2] = {1, 1};
  const CUresult status = encode_tensor_map()(
      &map,
      dtype == DType::kF16 ? CU_TENSOR_MAP_DATA_TYPE_FLOAT16 : CU_TENSOR_MAP_DATA_TYPE_BFLOAT16, 2,
      const_cast<void*>(data), sizes, strides, box, steps, CU_TENSOR_MAP_INTERLEAVE_NONE,
      CU_TENSOR_MAP_SWIZZLE_128B, CU_TENSOR_MAP_L2_PROMOTION_L2_256B,
      CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  if (status != CUDA_SUCCESS) {
    throw Error(ErrorKind::kInternal, "CUDA: cuTensorMapEncodeTiled refuses a matrix");
  }
  return map;
}

template <typename T, int kTokenTiles>
void launch_stream(const Launch& options, const SkinnyLinear& args, const SkinnyStreamPlan& plan) {
  constexpr int kTilesPerWarp = tiles_per_warp(kTokenTiles);
  StreamArguments arguments{};
  arguments.layout = stream_layout(kTokenTiles, plan);
  arguments.tiles_per_block = plan.tiles_per_block;
  arguments.num_splits = plan.num_splits;
  arguments.num_slots = plan.num_slots;
  arguments.lead_chunks = plan.lead_chunks;
  arguments.prefetch_chunks = options.overlap ? plan.prefetch_chunks : 0;
  arguments.num_row_tiles = static_cast<int>((args.num_rows + kTileRows - 1) / kTileRows);
  arguments.num_chunks = static_cast<int>((args.num_columns + kChunkColumns - 1) / kChunkColumns);
  const CUtensorMap weights = matrix_map(args.weight, args.dtype, args.num_rows, args.num_columns,
                                         plan.tiles_per_block * kTileRows);
  const CUtensorMap tokens =
      matrix_map(args.x, args.dtype, args.num_tokens, args.num_columns, kTokenTiles * kTileTokens);
  const auto kernel = stream_kernel<T, kTokenTiles>;
  const char* name = "skinny linear (stream)";
  check_cuda(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                  static_cast<int>(arguments.layout.total)),
             name);
  const int warps = (plan.tiles_per_block + kTilesPerWarp - 1) / kTilesPerWarp + 1;
  cudaLaunchAttribute attributes[2]{};
  unsigned num_attributes = 0;
  if (plan.num_splits > 1) {
    attributes[num_attributes].id = cudaLaunchAttributeClusterDimension;
    attributes[num_attributes].val.clusterDim = {static_cast<unsigned>(plan.num_splits), 1, 1};
    ++num_attributes;
  }
  if (options.overlap) {
    attributes[num_attributes].id = cudaLaunchAttributeProgrammaticStreamSerialization;
    attributes[num_attributes].val.programmaticStreamSerializationAllowed = 1;
    ++num_attributes;
  }
  cudaLaunchConfig_t config{};
  config.gridDim = dim3(static_cast<unsigned>(plan.num_blocks));
  config.blockDim = dim3(static_cast<unsigned>(warps * kWarpLanes));
  config.dynamicSmemBytes = arguments.layout.total;
  config.stream = options.stream;
  config.attrs = attributes;
  config.numAttrs = num_attributes;
  check_cuda(
      cudaLaunchKernelEx(&config, kernel, weights, tokens, arguments, skinny_output<T>(args)),
      name);
}

std::int64_t ceil_div(std::int64_t a, std::int64_t b) {
  return (a + b - 1) / b;
}

// Rows and columns to blocks, so that all multiprocessors have the same bytes to read. It must not
// look at the number of tokens, on which no sum's order may depend.
void choose_division(SkinnyStreamPlan& plan, std::int64_t row_tiles, std::int64_t chunks,
                     int num_multiprocessors) {
  double best = 0.0;
  for (const int splits : {1, 2, 4, 8}) {
    // Clusters fill whole groups of 16 multiprocessors for certain.
    const std::int64_t places =
        splits == 1 ? num_multiprocessors : std::max(num_multiprocessors / 16 * 16 / splits, 1);
    for (int tiles = 1; tiles <= kMaxTilesPerBlock; ++tiles) {
      const std::int64_t groups = ceil_div(row_tiles, tiles);
      const std::int64_t passes = ceil_div(groups, places);
      if (splits > 1 && (passes > 1 || chunks < 2 * splits)) continue;
      // In tiles of weights a block reads; x costs about half a tile beside each chunk, adding up a
      // cluster as much as 8 tiles.
      const double cost = static_cast<double>(passes * ceil_div(chunks, splits)) * (tiles + 0.5) +
                          (splits > 1 ? 8.0 : 0.0);
      if (best > 0.0 && cost >= best) continue;
      best = cost;
      plan.tiles_per_block = tiles;
      plan.num_splits = splits;
      plan.num_blocks = static_cast<int>(std::min(groups, places) * splits);
    }
  }
}

}  // namespace

bool supports_skinny_stream(int compute_capability_major) {
  return compute_capability_major == 9;
}

SkinnyStreamPlan plan_skinny_stream(const SkinnyLinear& args, int num_multiprocessors) {
  SkinnyStreamPlan plan;
  const std::int64_t row_tiles = ceil_div(args.num_rows, kTileRows);
  const std::int64_t chunks = ceil_div(args.num_columns, kChunkColumns);
  choose_division(plan, row_tiles, chunks, num_multiprocessors);
  const std::int64_t passes =
      ceil_div(ceil_div(row_tiles, plan.tiles_per_block), plan.num_blocks / plan.num_splits);
  const std::int64_t loads = passes * ceil_div(chunks, plan.num_splits);
  plan.num_slots = static_cast<int>(std::min<std::int64_t>(loads, 16));
  while (plan.num_slots > 1 && skinny_stream_shared_bytes(args, plan) > kSkinnyStreamSharedBytes) {
    --plan.num_slots;
  }
  return plan;
}

std::size_t skinny_stream_shared_bytes(const SkinnyLinear& args, const SkinnyStreamPlan& plan) {
  std::size_t bytes = 0;
  dispatch_token_tiles(args.num_tokens,
                       [&](auto tiles) { bytes = stream_layout(tiles, plan).total; });
  return bytes;
}

void skinny_linear_stream(const Launch& launch, const SkinnyLinear& args,
                          const SkinnyStreamPlan& plan) {
  dispatch_half_type(args.dtype, [&](auto element) {
    dispatch_token_tiles(args.num_tokens, [&](auto token_tiles) {
      launch_stream<decltype(element), token_tiles>(launch, args, plan);
    });
  });
}

}  // namespace llmrun::kernels
