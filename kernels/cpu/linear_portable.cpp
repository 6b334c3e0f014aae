// Linear kernels in the baseline instruction set.
#include "kernels/cpu/vec_portable.h"
//
#include "kernels/cpu/linear_impl.h"

namespace llmrun::kernels {
namespace {

constexpr TileShape kShape = {2, 2, {0, 2, 1}, 512, 512};

}  // namespace

const LinearKernel& linear_f32_portable() {
  static constexpr LinearKernel kKernel = {
      "f32 portable", 1, 4, kTileScratchBytes, DType::kF32, nullptr, run_linear<OpF32, kShape>};
  return kKernel;
}

const LinearKernel& linear_bf16_portable() {
  static constexpr LinearKernel kKernel = {"bf16 portable",
                                           1,
                                           4,
                                           kTileScratchBytes,
                                           DType::kF32,
                                           pack_rounded_activations,
                                           run_linear<OpWidenedBf16, kShape>};
  return kKernel;
}

}  // namespace llmrun::kernels
