// A block computes tiles of 128 tokens by 256 rows of the weight, one after the other. Its last
// warpgroup copies 64 columns of both at a time into a ring of slots in shared memory; the two
// others multiply, each 64 tokens by all 256 rows. Two blocks, a cluster, take neighbouring tokens
// and the same rows of the weight: each copies half of those rows, to both.
//
// Bytes through the second-level cache per block and slot: 16 KiB of x and 16 of its 32 KiB of
// weights, for 2.1 million multiplications, which take the tensor cores 1,024 cycles.
#include <algorithm>

#include "kernels/cuda/bulk_copy.cuh"
#include "kernels/cuda/element.cuh"
#include "kernels/cuda/gate_up_linear.h"
#include "kernels/cuda/hopper.h"
#include "kernels/cuda/tensor_map.h"
#include "kernels/cuda/warpgroup_product.cuh"

namespace llmrun::kernels {
namespace {

constexpr int kTileTokens = 128;
constexpr int kTileRows = 256;               // of the weight
constexpr int kTileColumns = kTileRows / 2;  // of the output
constexpr int kDepth = kTensorMapColumns;    // columns of a slot
constexpr int kSlots = 4;
constexpr int kClusterBlocks = 2;
constexpr int kGroups = 2;  // of multiplying warps
constexpr int kGroupTokens = kTileTokens / kGroups;
constexpr int kThreads = (kGroups + 1) * kWarpgroupThreads;

constexpr int kRowBytes = kDepth * 2;
constexpr int kTokenBytes = kTileTokens * kRowBytes;  // of a slot
constexpr int kWeightBytes = kTileRows * kRowBytes;   // of a slot
constexpr int kSlotBytes = kTokenBytes + kWeightBytes;
// A group's outputs leave in boxes of 64 tokens by 64 columns.
constexpr int kStagedBoxes = kTileColumns / kDepth;
constexpr int kBoxBytes = kGroupTokens * kRowBytes;
constexpr int kStagedOffset = kSlots * kSlotBytes;
constexpr int kBarrierOffset = kStagedOffset + kGroups * kStagedBoxes * kBoxBytes;
constexpr int kAlignment = 1024;
constexpr int kSharedBytes = kBarrierOffset + 2 * kSlots * 8 + kAlignment;

struct Arguments {
  int num_pairs;      // of tiles of tokens
  int num_row_tiles;  // of the weight
  int num_chunks;     // of columns

  __host__ __device__ int num_turns() const { return num_pairs * num_row_tiles; }
};

#if !defined(__CUDA_ARCH__) || defined(__CUDA_ARCH_FEAT_SM90_ALL)

constexpr int kCopyRegisters = 40;
constexpr int kMultiplyRegisters = 232;
// Clusters next to each other in time take the same rows of the weight and up to so many pairs of
// tiles of tokens, whose x stays in the second-level cache.
constexpr int kBandPairs = 16;

// What a cluster works on in its turn.
struct Tile {
  int first_token;  // of this block
  int row_tile;

  __device__ Tile(const Arguments& args, int turn) {
    const int band_size = kBandPairs * args.num_row_tiles;
    const int band = turn / band_size;
    const int width = min(kBandPairs, args.num_pairs - band * kBandPairs);
    const int place = turn - band * band_size;
    const int pair = band * kBandPairs + place % width;
    first_token = (pair * kClusterBlocks + static_cast<int>(block_in_cluster())) * kTileTokens;
    row_tile = place / width;
  }
};

// The ring of slots as one side walks it.
struct Ring {
  std::uint32_t shared;
  int slot = 0;
  std::uint32_t phase = 0;

  __device__ std::uint32_t tokens() const {
    return shared + static_cast<std::uint32_t>(slot * kSlotBytes);
  }
  __device__ std::uint32_t weights() const { return tokens() + kTokenBytes; }
  __device__ std::uint32_t full() const {
    return shared + static_cast<std::uint32_t>(kBarrierOffset + slot * 8);
  }
  __device__ std::uint32_t empty() const { return full() + kSlots * 8; }
  __device__ void advance() {
    if (++slot < kSlots) return;
    slot = 0;
    phase ^= 1U;
  }
};

// One thread of each block.
__device__ __forceinline__ void copy_operands(const CUtensorMap* tokens, const CUtensorMap* weights,
                                              const Arguments& args, std::uint32_t shared) {
  const std::uint64_t token_policy = evict_last_policy();
  const std::uint64_t weight_policy = evict_normal_policy();
  constexpr std::uint16_t kAllBlocks = (1U << kClusterBlocks) - 1;
  constexpr int kShareRows = kTileRows / kClusterBlocks;
  const auto rank = static_cast<int>(block_in_cluster());
  const auto share = static_cast<std::uint32_t>(rank * kShareRows * kRowBytes);
  const int step = static_cast<int>(gridDim.x) / kClusterBlocks;
  Ring ring{shared};
  for (int turn = static_cast<int>(blockIdx.x) / kClusterBlocks; turn < args.num_turns();
       turn += step) {
    const Tile tile(args, turn);
    const int row = tile.row_tile * kTileRows + rank * kShareRows;
    for (int chunk = 0; chunk < args.num_chunks; ++chunk) {
      wait_phase(ring.empty(), ring.phase ^ 1U);
      arrive_and_expect(ring.full(), kSlotBytes);
      copy_box(ring.tokens(), tokens, chunk * kDepth, tile.first_token, ring.full(), token_policy);
      copy_box_to_blocks(ring.weights() + share, weights, chunk * kDepth, row, ring.full(),
                         kAllBlocks, weight_policy);
      ring.advance();
    }
  }
}

// Tells all blocks, which all copy into a slot, that this warp has read it.
__device__ __forceinline__ void release(std::uint32_t empty) {
  const std::uint32_t lane = threadIdx.x % 32;
  if (lane < kClusterBlocks) arrive_in_cluster(empty, lane);
}

template <typename T>
__device__ __forceinline__ void multiply_tile(float (&sums)[128], Ring& ring, int group,
                                              int num_chunks) {
  std::uint32_t last_empty = 0;
  for (int chunk = 0; chunk < num_chunks; ++chunk) {
    wait_phase(ring.full(), ring.phase);
    const std::uint32_t tokens =
        ring.tokens() + static_cast<std::uint32_t>(group * kGroupTokens * kRowBytes);
    begin_products();
#pragma unroll
    for (int k = 0; k < kDepth / 16; ++k) {
      const auto offset = static_cast<std::uint32_t>(k * 32);
      multiply_rows_by_rows<T>(sums, describe_operand(tokens + offset, 16),
                               describe_operand(ring.weights() + offset, 16), chunk + k > 0);
    }
    commit_products();
    wait_products<1>();
    if (chunk > 0) release(last_empty);
    last_empty = ring.empty();
    ring.advance();
  }
  wait_products<0>();
  pin_registers(sums);
  release(last_empty);
}

__device__ __forceinline__ float silu_mul(float gate, float up) {
  return __fdividef(gate, 1.0F + exp2_fast(gate * -1.44269504F)) * up;
}

// Through shared memory, so that whole lines are written. A thread has tokens r and r + 8 of 16,
// and of every 8 rows of the weight the same two: a gate's and its up's.
template <typename T>
__device__ __forceinline__ void store_tile(const float (&sums)[128], const CUtensorMap* out,
                                           std::uint32_t staged, int group, const Tile& tile) {
  const int thread = static_cast<int>(threadIdx.x) % kWarpgroupThreads;
  const int row = thread / 32 * 16 + thread % 32 / 4;
  if (thread == 0) wait_for_stores();
  sync_warpgroup(group);
#pragma unroll
  for (int half = 0; half < 2; ++half) {
#pragma unroll
    for (int unit = 0; unit < kTileColumns / 8; ++unit) {
      const float* gate = &sums[unit * 8 + half * 2];
      const float* up = gate + 4;
      store_shared(staged + static_cast<std::uint32_t>(unit / 8 * kBoxBytes + thread % 4 * 4) +
                       swizzled_offset(row + half * 8, unit % 8),
                   pack<T>(silu_mul(gate[0], up[0]), silu_mul(gate[1], up[1])));
    }
  }
  fence_async_proxy();
  sync_warpgroup(group);
  if (thread > 0) return;
  for (int box = 0; box < kStagedBoxes; ++box) {
    store_box(out, tile.row_tile * kTileColumns + box * kDepth,
              tile.first_token + group * kGroupTokens,
              staged + static_cast<std::uint32_t>(box * kBoxBytes));
  }
  commit_stores();
}

#endif

template <typename T>
__global__ void __launch_bounds__(kThreads, 1)
    gate_up_kernel(const __grid_constant__ CUtensorMap tokens,
                   const __grid_constant__ CUtensorMap weights,
                   const __grid_constant__ CUtensorMap out,
                   const __grid_constant__ Arguments args) {
#if !defined(__CUDA_ARCH__) || defined(__CUDA_ARCH_FEAT_SM90_ALL)
  extern __shared__ unsigned char memory[];
  const std::uint32_t shared = (shared_address(memory) + kAlignment - 1) / kAlignment * kAlignment;
  const int group = static_cast<int>(threadIdx.x) / kWarpgroupThreads;
  Ring ring{shared};
  if (threadIdx.x == 0) {
    for (ring.slot = 0; ring.slot < kSlots; ++ring.slot) {
      init_barrier(ring.full(), 1);
      init_barrier(ring.empty(), kClusterBlocks * kGroups * kWarpgroupThreads / 32);
    }
    ring.slot = 0;
    fence_barrier_init();
  }
  arrive_at_cluster();
  wait_for_cluster();
  allow_next();
  wait_for_inputs();
  if (group == kGroups) {
    asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(kCopyRegisters));
    if (threadIdx.x == kGroups * kWarpgroupThreads) copy_operands(&tokens, &weights, args, shared);
  } else {
    asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(kMultiplyRegisters));
    const std::uint32_t staged =
        shared + static_cast<std::uint32_t>(kStagedOffset + group * kStagedBoxes * kBoxBytes);
    const int step = static_cast<int>(gridDim.x) / kClusterBlocks;
    for (int turn = static_cast<int>(blockIdx.x) / kClusterBlocks; turn < args.num_turns();
         turn += step) {
      float sums[128];
      multiply_tile<T>(sums, ring, group, args.num_chunks);
      store_tile<T>(sums, &out, staged, group, Tile(args, turn));
    }
    wait_for_stores();
  }
  // The other block may still copy into this one's memory, and wait for its arrivals.
  __syncwarp();
  arrive_at_cluster();
  wait_for_cluster();
#endif
}

template <typename T>
void launch_gate_up(const Launch& options, const LinearArguments& args) {
  constexpr std::int64_t kPairTokens = kClusterBlocks * kTileTokens;
  Arguments arguments{};
  arguments.num_pairs = static_cast<int>((args.num_tokens + kPairTokens - 1) / kPairTokens);
  arguments.num_row_tiles = static_cast<int>((args.num_rows + kTileRows - 1) / kTileRows);
  arguments.num_chunks = static_cast<int>((args.num_columns + kDepth - 1) / kDepth);
  const CUtensorMap tokens =
      tensor_map(args.x, args.dtype, args.num_tokens, args.num_columns, kTileTokens);
  const CUtensorMap weights = tensor_map(args.weight, args.dtype, args.num_rows, args.num_columns,
                                         kTileRows / kClusterBlocks);
  const CUtensorMap out =
      tensor_map(args.out, args.dtype, args.num_tokens, args.num_rows / 2, kGroupTokens);
  const auto kernel = gate_up_kernel<T>;
  check_cuda(
      cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, kSharedBytes),
      "gate and up");
  const int num_clusters = std::min(
      device_attribute(cudaDevAttrMultiProcessorCount) / kClusterBlocks, arguments.num_turns());
  Launch in_clusters = options;
  in_clusters.cluster_blocks = kClusterBlocks;
  launch(in_clusters, "gate and up", kernel,
         dim3(static_cast<unsigned>(num_clusters * kClusterBlocks)), dim3(kThreads), kSharedBytes,
         tokens, weights, out, arguments);
}

}  // namespace

bool supports_gate_up_linear(const LinearArguments& args) {
  constexpr std::int64_t kMaxExtent = std::int64_t{1} << 30;
  if (args.epilogue != CudaLinearEpilogue::kSiluMul || args.bias != nullptr) return false;
  if (args.dtype != DType::kBf16 && args.dtype != DType::kF16) return false;
  if (args.out_dtype != args.dtype) return false;
  if (args.num_tokens < 1 || args.num_tokens > kMaxExtent) return false;
  if (args.num_rows < 16 || args.num_rows % 16 != 0 || args.num_rows > kMaxExtent) return false;
  if (args.num_columns < 8 || args.num_columns % 8 != 0 || args.num_columns > kMaxExtent) {
    return false;
  }
  return is_16_byte_aligned(args.x) && is_16_byte_aligned(args.weight) &&
         is_16_byte_aligned(args.out) && runs_hopper_code();
}

void gate_up_linear(const Launch& launch, const LinearArguments& args) {
  LLMRUN_CHECK(supports_gate_up_linear(args));
  if (args.dtype == DType::kF16) {
    launch_gate_up<__half>(launch, args);
  } else {
    launch_gate_up<__nv_bfloat16>(launch, args);
  }
}

}  // namespace llmrun::kernels
