// The weights of a block's rows come through the bulk copy engine into a ring of slots in shared
// memory, 64 columns of all its rows at a time, with the same columns of x beside them. One thread
// copies weights, from the start on, and one copies x, when it is there; each of the other warps
// owns a tile of 16 rows and keeps its sums in registers over all columns.
#include <algorithm>

#include "kernels/cuda/bulk_copy.cuh"
#include "kernels/cuda/skinny_linear_fragment.cuh"
#include "kernels/cuda/skinny_linear_variants.h"
#include "kernels/cuda/tensor_map.h"

namespace llmrun::kernels {
namespace {

constexpr int kChunkBytes = kChunkColumns * 2;               // of one row
constexpr int kTokenTileBytes = kTileTokens * kChunkBytes;   // of a slot, per tile of tokens
constexpr int kFragmentBytes = kWarpLanes * sizeof(float4);  // of a received sum
constexpr int kSharedAlignment = 1024;                       // of a 128-byte swizzled box
constexpr int kMaxSharedBytes = 227 * 1024;                  // of a block, on compute capability 9
constexpr int kCopyingWarps = 2;
constexpr int kBarriersPerSlot = 3;

// Sums of other warps and blocks get memory of their own, or, where that would take the place of
// slots, the memory of the slots once all are read.
constexpr bool receives_in_slots(int token_tiles) {
  return token_tiles > 4;
}
// What bounds a kernel's registers: two blocks of this many threads must fit a multiprocessor.
constexpr int bounding_threads(int token_tiles) {
  return token_tiles > 4 ? 320 : (kMaxSkinnyTilesPerBlock + kCopyingWarps) * kWarpLanes;
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
  layout.weight_slot_bytes = static_cast<std::uint32_t>(plan.rows_per_block * kChunkBytes);
  layout.token_slot_bytes = static_cast<std::uint32_t>(token_tiles) * kTokenTileBytes;
  layout.token_slots = slots * layout.weight_slot_bytes;
  const std::uint32_t slots_end = layout.token_slots + slots * layout.token_slot_bytes;
  const auto splits = static_cast<std::uint32_t>(plan.num_splits);
  const auto fragments = static_cast<std::uint32_t>(plan.tiles_per_block() * token_tiles);
  const std::uint32_t sources = splits * static_cast<std::uint32_t>(plan.warp_groups);
  const std::uint32_t received_bytes =
      sources == 1 ? 0 : (fragments + splits - 1) / splits * sources * kFragmentBytes;
  layout.received = receives_in_slots(token_tiles) ? 0 : slots_end;
  layout.barriers = receives_in_slots(token_tiles) ? std::max(slots_end, received_bytes)
                                                   : slots_end + received_bytes;
  layout.total =
      layout.barriers + slots * kBarriersPerSlot * sizeof(std::uint64_t) + kSharedAlignment;
  return layout;
}

struct StreamArguments {
  StreamLayout layout;
  int rows_per_block;
  int tiles_per_block;  // the last one may have rows that are not the block's
  int num_splits;
  int warp_groups;
  int num_slots;
  int max_copies;  // of weights under way
  int num_tokens;
  int num_rows;
  int num_chunks;  // of all columns
};

#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 900

constexpr int kTileBytes = kTileRows * kChunkBytes;  // of a slot, per warp's tile of rows

// What a block does: `num_passes` groups of rows, each over chunks [first, first + count).
struct BlockWork {
  int rank;        // of the split
  int first_row;   // of the first pass
  int row_stride;  // from pass to pass
  int num_passes;
  int first_chunk;
  int num_chunks;

  __device__ explicit BlockWork(const StreamArguments& args) {
    const auto splits = static_cast<unsigned>(args.num_splits);
    rank = static_cast<int>(blockIdx.x % splits);
    first_row = static_cast<int>(blockIdx.x / splits) * args.rows_per_block;
    row_stride = static_cast<int>(gridDim.x / splits) * args.rows_per_block;
    num_passes = (args.num_rows - first_row + row_stride - 1) / row_stride;
    first_chunk = split_begin(args, rank);
    num_chunks = split_begin(args, rank + 1) - first_chunk;
  }
  __device__ static int split_begin(const StreamArguments& args, int split) {
    return args.num_chunks * split / args.num_splits;
  }
  __device__ int num_loads() const { return num_passes * num_chunks; }
};

// The ring of slots, as one side walks it.
struct Ring {
  std::uint32_t weights;  // barriers: a slot's weights are there
  std::uint32_t tokens;   // its part of x is there
  std::uint32_t empty;    // all warps have read it
  int num_slots;
  int slot = 0;
  std::uint32_t phase = 0;

  __device__ Ring(std::uint32_t barriers, int slots)
      : weights(barriers),
        tokens(barriers + 8U * static_cast<std::uint32_t>(slots)),
        empty(barriers + 16U * static_cast<std::uint32_t>(slots)),
        num_slots(slots) {}
  __device__ std::uint32_t weights_barrier() const {
    return weights + 8U * static_cast<std::uint32_t>(slot);
  }
  __device__ std::uint32_t tokens_barrier() const {
    return tokens + 8U * static_cast<std::uint32_t>(slot);
  }
  __device__ std::uint32_t empty_barrier() const {
    return empty + 8U * static_cast<std::uint32_t>(slot);
  }
  __device__ void advance(int steps = 1) {  // at most num_slots
    slot += steps;
    if (slot < num_slots) return;
    slot -= num_slots;
    phase ^= 1U;
  }
};

// Where the next load of a block lies in the weights.
struct Cursor {
  int column;
  int row;
  int chunks_left;

  __device__ explicit Cursor(const BlockWork& work)
      : column(work.first_chunk * kChunkColumns),
        row(work.first_row),
        chunks_left(work.num_chunks) {}
  __device__ void advance(const BlockWork& work) {
    column += kChunkColumns;
    if (--chunks_left > 0) return;
    chunks_left = work.num_chunks;
    column = work.first_chunk * kChunkColumns;
    row += work.row_stride;
  }
};

__device__ void init_ring(Ring ring, int arrivals) {
  for (ring.slot = 0; ring.slot < ring.num_slots; ++ring.slot) {
    init_barrier(ring.weights_barrier(), 1);
    init_barrier(ring.tokens_barrier(), 1);
    init_barrier(ring.empty_barrier(), arrivals);
  }
  fence_barrier_init();
}

// Copies a block's weights, which no earlier kernel writes: it waits for free slots only, and while
// max_copies are under way.
__device__ void copy_weights(const CUtensorMap* weights, const StreamArguments& args,
                             const BlockWork& work, Ring ring, std::uint32_t slots) {
  const std::uint64_t policy = evict_first_policy();
  const std::uint32_t bytes = args.layout.weight_slot_bytes;
  Ring landed = ring;
  Cursor cursor(work);
  const int num_loads = work.num_loads();
  for (int i = 0; i < num_loads; ++i) {
    wait_phase(ring.empty_barrier(), ring.phase ^ 1U);
    if (i >= args.max_copies) {
      wait_phase(landed.weights_barrier(), landed.phase);
      landed.advance();
    }
    arrive_and_expect(ring.weights_barrier(), bytes);
    copy_box(slots + static_cast<std::uint32_t>(ring.slot) * bytes, weights, cursor.column,
             cursor.row, ring.weights_barrier(), policy);
    ring.advance();
    cursor.advance(work);
  }
}

// Copies the columns of x that belong to the weights in each slot: of the tokens that there are, so
// that the other columns of the last tile are products with whatever lies there; nobody reads them.
// (Boxes that reach behind the last token were slower: 3.91 for 3.76 ms a step of one.) All blocks
// read them again and again while weights flow through the same cache: without the hint to keep
// them, a decode step of 25 tokens took 10 % longer.
__device__ void copy_tokens(const CUtensorMap* tokens, const StreamArguments& args,
                            const BlockWork& work, Ring ring, std::uint32_t slots) {
  const std::uint64_t policy = evict_last_policy();
  const std::uint32_t slot_bytes = args.layout.token_slot_bytes;
  const std::uint32_t bytes = static_cast<std::uint32_t>(args.num_tokens) * kChunkBytes;
  Cursor cursor(work);
  const int num_loads = work.num_loads();
  wait_for_inputs();
  for (int i = 0; i < num_loads; ++i) {
    wait_phase(ring.empty_barrier(), ring.phase ^ 1U);
    arrive_and_expect(ring.tokens_barrier(), bytes);
    copy_box(slots + static_cast<std::uint32_t>(ring.slot) * slot_bytes, tokens, cursor.column, 0,
             ring.tokens_barrier(), policy);
    ring.advance();
    cursor.advance(work);
  }
}

// A warp's share of one slot. `lane_offset` is where the lane's first 16 bytes of its row lie: the
// quad takes vectors 0, 2, 4, 6 and then 1, 3, 5, 7 of the 128 bytes, which the copy engine has
// permuted by the row's number, so that no two rows of a read meet in a bank.
template <typename T, int kTokenTiles>
__device__ __forceinline__ void multiply_slot(float4 (&sums)[kTokenTiles], std::uint32_t weights,
                                              std::uint32_t tokens, std::uint32_t lane_offset) {
#pragma unroll
  for (std::uint32_t half = 0; half < 2; ++half) {
    const std::uint32_t offset = lane_offset ^ (half * 16);
    const uint4 low = load_shared(weights + offset);
    const uint4 high = load_shared(weights + offset + 8 * kChunkBytes);
    uint4 fragments[kTokenTiles];
#pragma unroll
    for (std::uint32_t tile = 0; tile < kTokenTiles; ++tile) {
      fragments[tile] = load_shared(tokens + offset + tile * kTokenTileBytes);
    }
    // Neighbouring steps do not depend on each other: the tensor core is kept busy.
#pragma unroll
    for (int tile = 0; tile < kTokenTiles; ++tile) {
      multiply_add<T, 0>(sums[tile], low, high, fragments[tile]);
    }
#pragma unroll
    for (int tile = 0; tile < kTokenTiles; ++tile) {
      multiply_add<T, 1>(sums[tile], low, high, fragments[tile]);
    }
  }
}

// Which warp of a block this is: its rows, and its turn among the warps of the same rows.
struct WarpPlace {
  int warp;
  int num_warps;
  int tile;  // of the block's
  int group;
  int lane;
};

// Adds up the sums that `splits` blocks of a cluster and the warp groups of each have of the same
// rows. Fragment f belongs to block f % splits, which receives it from everyone, adds in a fixed
// order, and finishes it.
template <typename T, int kTokenTiles>
class Reduction {
 public:
  __device__ Reduction(const SkinnyOutput<T>& output, const StreamArguments& args,
                       const BlockWork& work, const WarpPlace& place, std::uint32_t shared)
      : output_(output),
        args_(args),
        work_(work),
        place_(place),
        splits_(args.num_splits),
        sources_(args.num_splits * args.warp_groups),
        source_(work.rank * args.warp_groups + place.group),
        num_tiles_((end_row() - work.first_row + kTileRows - 1) / kTileRows),
        received_(shared + args.layout.received + static_cast<std::uint32_t>(place.lane) * 16),
        fragment_(place.warp * args.num_splits + work.rank) {
    added_ = addend();  // early: it is wanted at the very end, when nothing hides its latency
  }

  __device__ void send(const float4 (&sums)[kTokenTiles]) const {
    if (place_.tile >= num_tiles_) return;
#pragma unroll
    for (int token_tile = 0; token_tile < kTokenTiles; ++token_tile) {
      const int fragment = place_.tile * kTokenTiles + token_tile;
      store_in_cluster(slot(fragment, source_), static_cast<std::uint32_t>(fragment % splits_),
                       sums[token_tile]);
    }
  }

  __device__ void finish() {
    while (fragment_ < num_tiles_ * kTokenTiles) {
      float4 sum = load_shared_floats(slot(fragment_, 0));
      for (int source = 1; source < sources_; ++source) {
        const float4 part = load_shared_floats(slot(fragment_, source));
        sum.x += part.x;
        sum.y += part.y;
        sum.z += part.z;
        sum.w += part.w;
      }
      output_.finish(fragment_row(), end_row(), fragment_ % kTokenTiles, place_.lane, sum, added_);
      fragment_ += place_.num_warps * splits_;
      added_ = addend();
    }
  }

 private:
  __device__ float4 addend() const {
    if (fragment_ >= num_tiles_ * kTokenTiles) return float4{0.0F, 0.0F, 0.0F, 0.0F};
    return output_.addend(fragment_row(), end_row(), fragment_ % kTokenTiles, place_.lane);
  }
  __device__ int end_row() const {
    return min(work_.first_row + args_.rows_per_block, args_.num_rows);
  }
  __device__ int fragment_row() const {
    return work_.first_row + fragment_ / kTokenTiles * kTileRows;
  }
  __device__ std::uint32_t slot(int fragment, int source) const {
    return received_ +
           static_cast<std::uint32_t>(fragment / splits_ * sources_ + source) * kFragmentBytes;
  }

  const SkinnyOutput<T>& output_;
  const StreamArguments& args_;
  const BlockWork& work_;
  WarpPlace place_;
  int splits_;
  int sources_;
  int source_;
  int num_tiles_;
  std::uint32_t received_;
  int fragment_;
  float4 added_;
};

#endif  // compute capability 9

template <typename T, int kTokenTiles>
__global__ void __launch_bounds__(2 * bounding_threads(kTokenTiles), 1)
    stream_kernel(const __grid_constant__ CUtensorMap weight_map,
                  const __grid_constant__ CUtensorMap token_map,
                  const __grid_constant__ StreamArguments args,
                  const __grid_constant__ SkinnyOutput<T> output) {
#if __CUDA_ARCH__ >= 900
  constexpr bool kReceivesInSlots = receives_in_slots(kTokenTiles);
  extern __shared__ unsigned char shared_memory[];
  const std::uint32_t shared =
      (shared_address(shared_memory) + kSharedAlignment - 1) / kSharedAlignment * kSharedAlignment;
  const int warp = static_cast<int>(threadIdx.x) / kWarpLanes;
  const int lane = static_cast<int>(threadIdx.x) % kWarpLanes;
  const int num_warps = static_cast<int>(blockDim.x) / kWarpLanes - kCopyingWarps;
  const bool is_split = args.num_splits > 1;
  const bool is_reduced = is_split || args.warp_groups > 1;
  const BlockWork work(args);
  const Ring first_slot(shared + args.layout.barriers, args.num_slots);

  if (warp >= num_warps) {
    const bool has_weights = warp == num_warps;
    if (lane == 0) {
      prefetch_map(has_weights ? &weight_map : &token_map);
      if (has_weights) init_ring(first_slot, args.tiles_per_block);
    }
    __syncwarp();
    __syncthreads();
    if (is_split && !kReceivesInSlots) arrive_at_cluster_relaxed();
    if (lane == 0) {
      if (has_weights) {
        copy_weights(&weight_map, args, work, first_slot, shared);
      } else {
        copy_tokens(&token_map, args, work, first_slot, shared + args.layout.token_slots);
      }
    }
    __syncwarp();
    // The barriers count these warps too.
    if (is_reduced && kReceivesInSlots) is_split ? arrive_at_cluster_relaxed() : __syncthreads();
    if (is_split) {
      wait_for_cluster();
      arrive_at_cluster_relaxed();
      wait_for_cluster();
    } else if (is_reduced) {
      __syncthreads();
    }
    return;
  }

  __syncthreads();
  if (is_split && !kReceivesInSlots) arrive_at_cluster_relaxed();
  wait_for_inputs();
  if (threadIdx.x == 0) allow_next();
  WarpPlace place;
  place.warp = warp;
  place.num_warps = num_warps;
  place.group = warp / args.tiles_per_block;
  place.tile = warp % args.tiles_per_block;
  place.lane = lane;
  const auto row = static_cast<std::uint32_t>(lane) / 4;
  const std::uint32_t lane_offset =
      row * kChunkBytes + (((static_cast<std::uint32_t>(lane) % 4 * 2) ^ row) * 16);
  const std::uint32_t weights = shared + static_cast<std::uint32_t>(place.tile) * kTileBytes;
  const std::uint32_t tokens = shared + args.layout.token_slots;
  Ring ring = first_slot;
  ring.advance(place.group);
  float4 sums[kTokenTiles] = {};

  const auto accumulate = [&] {
    for (int chunk = place.group; chunk < work.num_chunks; chunk += args.warp_groups) {
      const auto slot = static_cast<std::uint32_t>(ring.slot);
      wait_phase(ring.tokens_barrier(), ring.phase);
      wait_phase(ring.weights_barrier(), ring.phase);
      __syncwarp();
      multiply_slot<T, kTokenTiles>(sums, weights + slot * args.layout.weight_slot_bytes,
                                    tokens + slot * args.layout.token_slot_bytes, lane_offset);
      __syncwarp();
      if (lane == 0) arrive(ring.empty_barrier());
      ring.advance(args.warp_groups);
    }
  };

  if (is_reduced) {
    Reduction<T, kTokenTiles> reduction(output, args, work, place, shared);
    accumulate();
    if (kReceivesInSlots) is_split ? arrive_at_cluster() : __syncthreads();
    if (is_split) wait_for_cluster();
    reduction.send(sums);
    if (is_split) {
      arrive_at_cluster();
      wait_for_cluster();
    } else {
      __syncthreads();
    }
    reduction.finish();
    return;
  }
  for (int pass = 0; pass < work.num_passes; ++pass) {
    accumulate();
    const int block_row = work.first_row + pass * work.row_stride;
    const int tile_row = block_row + place.tile * kTileRows;
    const int end_row = min(block_row + args.rows_per_block, args.num_rows);
#pragma unroll
    for (int token_tile = 0; token_tile < kTokenTiles; ++token_tile) {
      output.finish(tile_row, end_row, token_tile, lane, sums[token_tile],
                    output.addend(tile_row, end_row, token_tile, lane));
      sums[token_tile] = float4{0.0F, 0.0F, 0.0F, 0.0F};
    }
  }
#endif
}

template <typename T, int kTokenTiles>
void launch_stream(const Launch& options, const LinearArguments& args,
                   const SkinnyStreamPlan& plan) {
  // A slot must be the same warps' in every round: a barrier tells neighbouring rounds apart, no
  // more.
  LLMRUN_CHECK(plan.num_slots > 0 && plan.num_slots % plan.warp_groups == 0);
  StreamArguments arguments{};
  arguments.layout = stream_layout(kTokenTiles, plan);
  arguments.rows_per_block = plan.rows_per_block;
  arguments.tiles_per_block = plan.tiles_per_block();
  arguments.num_splits = plan.num_splits;
  arguments.warp_groups = plan.warp_groups;
  arguments.num_slots = plan.num_slots;
  arguments.max_copies = std::min(plan.max_copies, plan.num_slots);
  arguments.num_tokens = static_cast<int>(args.num_tokens);
  arguments.num_rows = static_cast<int>(args.num_rows);
  arguments.num_chunks = static_cast<int>((args.num_columns + kChunkColumns - 1) / kChunkColumns);
  const CUtensorMap weights =
      tensor_map(args.weight, args.dtype, args.num_rows, args.num_columns, plan.rows_per_block);
  const CUtensorMap tokens =
      tensor_map(args.x, args.dtype, args.num_tokens, args.num_columns, arguments.num_tokens);
  const auto kernel = stream_kernel<T, kTokenTiles>;
  const char* name = "skinny linear (stream)";
  check_cuda(
      cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, kMaxSharedBytes),
      name);
  check_cuda(cudaFuncSetAttribute(kernel, cudaFuncAttributePreferredSharedMemoryCarveout,
                                  cudaSharedmemCarveoutMaxShared),
             name);
  const int warps = arguments.tiles_per_block * plan.warp_groups + kCopyingWarps;
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

SkinnyStreamDevice query_device() {
  SkinnyStreamDevice result;
  result.num_multiprocessors = device_attribute(cudaDevAttrMultiProcessorCount);
  // Blocks that take all shared memory of a multiprocessor: how many clusters of them fit at once.
  const auto kernel = stream_kernel<__nv_bfloat16, 1>;
  check_cuda(
      cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, kMaxSharedBytes),
      "cudaFuncSetAttribute");
  cudaLaunchAttribute attribute{};
  attribute.id = cudaLaunchAttributeClusterDimension;
  attribute.val.clusterDim = {4, 1, 1};
  cudaLaunchConfig_t config{};
  config.gridDim = dim3(4U * static_cast<unsigned>(result.num_multiprocessors));
  config.blockDim = dim3(8 * kWarpLanes);
  config.dynamicSmemBytes = kMaxSharedBytes;
  config.attrs = &attribute;
  config.numAttrs = 1;
  check_cuda(cudaOccupancyMaxActiveClusters(&result.max_clusters_of_4, kernel, &config),
             "cudaOccupancyMaxActiveClusters");
  return result;
}

}  // namespace

SkinnyStreamDevice skinny_stream_device() {
  int device = 0;
  check_cuda(cudaGetDevice(&device), "cudaGetDevice");
  thread_local int known_device = -1;
  thread_local SkinnyStreamDevice known;  // asking takes microseconds, a launch few more
  if (device != known_device) {
    known = query_device();
    known_device = device;
  }
  return known;
}

std::size_t skinny_stream_shared_bytes(const LinearArguments& args, const SkinnyStreamPlan& plan) {
  std::size_t bytes = 0;
  dispatch_token_tiles(args.num_tokens,
                       [&](auto tiles) { bytes = stream_layout(tiles, plan).total; });
  return bytes;
}

void skinny_linear_stream(const Launch& launch, const LinearArguments& args,
                          const SkinnyStreamPlan& plan) {
  dispatch_half_type(args.dtype, [&](auto element) {
    dispatch_token_tiles(args.num_tokens, [&](auto token_tiles) {
      launch_stream<decltype(element), token_tiles>(launch, args, plan);
    });
  });
}

}  // namespace llmrun::kernels
