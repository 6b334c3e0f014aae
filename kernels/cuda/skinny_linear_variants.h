// The two kernels behind skinny_linear(), for its choice, its tests and its benchmark.
#pragma once

#include "kernels/cuda/skinny_linear.h"

namespace llmrun::kernels {

// How the streaming kernel divides the weights. A block takes `tiles_per_block` tiles of 16 rows
// and 1 / num_splits of the columns; the num_splits blocks of the same rows are a cluster, and add
// up their sums in each other's shared memory.
struct SkinnyStreamPlan {
  int tiles_per_block = 0;  // 1 to 12
  int num_splits = 1;       // 1, 2, 4 or 8
  int num_blocks = 0;   // a multiple of num_splits; without splits a block may take more rows when
                        // it is done with its first
  int num_slots = 0;    // pieces of 64 columns in flight
  int lead_chunks = 0;  // the next kernel may start when this many loads are still to be issued
  int prefetch_chunks = 0;  // loads beyond the slots that are sent for to L2 before the inputs are
                            // there
};

// The most shared memory a block asks for: two kernels then fit a multiprocessor, and the next one
// fills its slots while this one drains.
constexpr int kSkinnyStreamSharedBytes = 112 * 1024;

bool supports_skinny_stream(int compute_capability_major);
SkinnyStreamPlan plan_skinny_stream(const SkinnyLinear& args, int num_multiprocessors);
// Bytes of shared memory of a block.
std::size_t skinny_stream_shared_bytes(const SkinnyLinear& args, const SkinnyStreamPlan& plan);
// Weights through the bulk copy engine into a ring of shared memory; needs compute capability 9.
void skinny_linear_stream(const Launch& launch, const SkinnyLinear& args,
                          const SkinnyStreamPlan& plan);

// Weights from global memory straight to registers, 16 rows a block: any supported device.
void skinny_linear_direct(const Launch& launch, const SkinnyLinear& args);

}  // namespace llmrun::kernels
