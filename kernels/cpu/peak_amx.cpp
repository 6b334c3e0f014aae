#include "kernels/cpu/vec_avx512.h"
//
#include "kernels/cpu/amx_tiles.h"
#include "kernels/cpu/peak_impl.h"

namespace llmrun::kernels {
namespace {

double multiply_bf16(std::int64_t iterations) {
  const AmxTiles tiles;
  _tile_zero(0);
  _tile_zero(1);
  _tile_zero(2);
  _tile_zero(3);
  _tile_zero(4);
  _tile_zero(5);
  _tile_zero(6);
  _tile_zero(7);
  for (std::int64_t i = 0; i < iterations; ++i) {
    _tile_dpbf16ps(0, 4, 6);
    _tile_dpbf16ps(1, 4, 7);
    _tile_dpbf16ps(2, 5, 6);
    _tile_dpbf16ps(3, 5, 7);
  }
  return 4.0 * 2.0 * 16 * 16 * 32 * static_cast<double>(iterations);
}

}  // namespace

const PeakKernels& peak_amx() {
  static constexpr PeakKernels kKernels = {multiply_f32, multiply_bf16, read_all};
  return kKernels;
}

}  // namespace llmrun::kernels
