#include "kernels/cpu/vec_avx512.h"
//
#include "kernels/cpu/amx_tiles.h"
#include "kernels/cpu/peak_impl.h"

namespace llmrun::kernels {
namespace {

// Operands of both signs whose sums stay small. Tiles of zeros would be multiplied faster than any
// real product: 32 against 17 TFLOP/s were measured on 16 threads of a shared Xeon.
struct Operand {
  alignas(64) std::uint16_t elements[16 * 32];
  explicit constexpr Operand(std::uint32_t seed) : elements() {
    for (std::uint16_t& element : elements) {
      seed = seed * 1664525U + 1013904223U;
      element = static_cast<std::uint16_t>(0x3f00U | (seed >> 31 << 15) | (seed >> 24 & 0x7fU));
    }
  }
};

double multiply_bf16(std::int64_t iterations) {
  static constexpr Operand kOperands[] = {Operand(1), Operand(2), Operand(3), Operand(4)};
  const AmxTiles tiles;
  _tile_zero(0);
  _tile_zero(1);
  _tile_zero(2);
  _tile_zero(3);
  _tile_loadd(4, kOperands[0].elements, 64);
  _tile_loadd(5, kOperands[1].elements, 64);
  _tile_loadd(6, kOperands[2].elements, 64);
  _tile_loadd(7, kOperands[3].elements, 64);
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
