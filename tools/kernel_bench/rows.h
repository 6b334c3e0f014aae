// The operations that are timed, a function for each kind. A new kernel is a row here, with the
// bytes it must move and the operations it must do.
#pragma once

#include "tools/kernel_bench/bench.h"

namespace llmrun {

// The matrix products of a layer and the logits, for all numbers of tokens.
void bench_linears(KernelBench& bench);
// Embedding, normalisation, rotation of q and k with the store of k and v.
void bench_elementwise(KernelBench& bench);
// Sequences that decode, and prompts, whole and in part.
void bench_attention(KernelBench& bench);

}  // namespace llmrun
