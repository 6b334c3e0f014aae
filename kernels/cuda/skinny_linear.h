// out = x W^T for the few tokens of a decode step. The work is to read the weights once: N K
// elements move through device memory, and the time is that over the memory's bandwidth. Faster
// than cuBLASLt up to 32 tokens; larger batches belong to linear.h.
//
// Sums are in float; an output element's order of summation depends on N, K and the kind of device,
// not on the number of tokens or their place in the batch, and never on timing: a token's result is
// the same bits alone and in any batch this kernel supports.
#pragma once

#include <cstdint>

#include "kernels/cuda/launch.h"
#include "kernels/cuda/linear_arguments.h"

namespace llmrun::kernels {

constexpr std::int64_t kMaxSkinnyTokens = 64;

// Whether skinny_linear() takes these arguments: at most kMaxSkinnyTokens tokens of a 16-bit type.
bool supports_skinny_linear(const LinearArguments& args);

// kAdd: out = round(out + (sum + bias)), in float before the one rounding. Needs no workspace. out
// may not overlap x. With launch.overlap it reads weights, and only weights, before the kernels
// ahead of it are done: no kernel of the stream may have them still to write. It lets the next
// kernel start as soon as its own inputs are there.
void skinny_linear(const Launch& launch, const LinearArguments& args);

}  // namespace llmrun::kernels
