// Activations of the kernels that multiply bf16 by bf16. Include after vec_avx512.h.
#pragma once

#include <cstdint>

#include "kernels/cpu/linear.h"
#include "kernels/cpu/vec_math.h"

namespace llmrun::kernels {
namespace {

// x rounded to bf16, [num_rows, padded_depth].
inline void pack_bf16_rows(void* packed, const ActivationSource& source, const PackRange& range) {
  for (std::int64_t row = range.row_begin; row < range.row_end; ++row) {
    std::uint16_t* to = static_cast<std::uint16_t*>(packed) + row * source.padded_depth;
    for (std::int64_t k = range.depth_begin; k < range.depth_end; k += Vec::kLanes) {
      load_up_to(source.x + row * source.stride, k, source.depth).store_bf16(to + k);
    }
  }
}

}  // namespace
}  // namespace llmrun::kernels
