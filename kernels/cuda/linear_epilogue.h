// What a matrix product does with its result, on the GPU.
#pragma once

#include <cstdint>

namespace llmrun::kernels {

enum class CudaLinearEpilogue : std::uint8_t {
  kStore,    // out = x W^T
  kAdd,      // out += x W^T: the residual stream
  kSiluMul,  // out = silu(x G^T) * (x U^T), gate and up interleaved in groups of 8 rows
};

}  // namespace llmrun::kernels
