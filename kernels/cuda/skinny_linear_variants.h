// The two kernels behind skinny_linear(), for its choice, its tests and its benchmark.
#pragma once

#include "kernels/cuda/skinny_linear.h"

namespace llmrun::kernels {

constexpr int kSkinnyTileRows = 16;
constexpr int kSkinnyChunkColumns = 64;
constexpr int kMaxSkinnyTilesPerBlock = 12;
constexpr int kMaxSkinnySlots = 32;

// How the streaming kernel divides the weights. A block takes `rows_per_block` rows, a warp 16 of
// them, and 1 / num_splits of the columns; the num_splits blocks of the same rows are a cluster,
// and add up their sums in each other's shared memory.
struct SkinnyStreamPlan {
  int rows_per_block = 0;  // a multiple of 8, of 16 for kSiluMul; at most 12 tiles
  int num_splits = 1;      // 1, 2, 4 or 8
  int warp_groups = 1;     // sets of warps that take turns at the columns: tiles_per_block() times
                           // these is at most 12; more than 1 only if there is one pass
  int num_blocks = 0;      // a multiple of num_splits; without splits a block may take more rows
                           // when it is done with its first: further passes
  int num_slots = 0;       // pieces of 64 columns in shared memory, a multiple of warp_groups
  int max_copies = kMaxSkinnySlots;  // of weights into slots, asked for and not there yet

  int tiles_per_block() const { return (rows_per_block + kSkinnyTileRows - 1) / kSkinnyTileRows; }
};

// Shared memory that a block may take. With overlapping launches nearly all of a multiprocessor's:
// its block of the next kernel comes at the moment when its block of this one is done, and fills
// its slots while the others finish and the inputs come. (Where two fit, the next kernel's blocks
// crowd on the multiprocessors that are free first: measured up to 30 % slower than no overlap at
// all.) Without overlap there is nothing to do ahead.
constexpr std::size_t kSkinnySharedBytesOverlapping = 220 * 1024;
constexpr std::size_t kSkinnySharedBytesAlone = 112 * 1024;

struct SkinnyStreamDevice {
  int num_multiprocessors = 0;
  int max_clusters_of_4 = 0;  // with one block a multiprocessor
};

// Of the current device.
SkinnyStreamDevice skinny_stream_device();
SkinnyStreamPlan plan_skinny_stream(const LinearArguments& args, const SkinnyStreamDevice& device,
                                    std::size_t shared_bytes);
// Bytes of shared memory of a block.
std::size_t skinny_stream_shared_bytes(const LinearArguments& args, const SkinnyStreamPlan& plan);
// Weights through the bulk copy engine into a ring of shared memory; needs compute capability 9.
void skinny_linear_stream(const Launch& launch, const LinearArguments& args,
                          const SkinnyStreamPlan& plan);

// Weights from global memory straight to registers, 16 rows a block: any supported device.
void skinny_linear_direct(const Launch& launch, const LinearArguments& args);

}  // namespace llmrun::kernels
