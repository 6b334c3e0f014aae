// Linear kernels in AVX2 + FMA.
#include "kernels/cpu/vec_avx2.h"
//
#include "kernels/cpu/linear_impl.h"

namespace llmrun::kernels {
namespace {

constexpr TileShape kShape = {4, 4, {0, 4, 2, 1, 1}, 512, 512};

}  // namespace

const LinearKernel& linear_f32_avx2() {
  static constexpr LinearKernel kKernel = {
      "f32 avx2", 1, 4, kTileScratchBytes, DType::kF32, nullptr, run_linear<OpF32, kShape>};
  return kKernel;
}

const LinearKernel& linear_bf16_avx2() {
  static constexpr LinearKernel kKernel = {"bf16 avx2",
                                           1,
                                           4,
                                           kTileScratchBytes,
                                           DType::kF32,
                                           pack_rounded_activations,
                                           run_linear<OpWidenedBf16, kShape>};
  return kKernel;
}

}  // namespace llmrun::kernels
