// Loops that reach the device's limit of memory: what shares are measured against.
#pragma once

#include <cstddef>

#include "kernels/cuda/launch.h"

namespace llmrun::kernels {

// Reads `num_bytes` (a multiple of 16) once and writes a sum to out [1], which nobody needs.
// `num_blocks`: blocks of 512 threads; a few for each multiprocessor.
void read_memory(const Launch& launch, unsigned* out, const void* source, std::size_t num_bytes,
                 unsigned num_blocks);

}  // namespace llmrun::kernels
