#include "kernels/cpu/vec_avx512.h"
//
#include "kernels/cpu/amx_tiles.h"
#include "kernels/cpu/peak_impl.h"

namespace llmrun::kernels {
namespace {

// Operands of both signs whose sums stay small. Tiles of zeros would be multiplied faster than any
// real product: 2.66 against 2.35 TFLOP/s were measured on a core of a Xeon, whose clock rises.
struct Operand {
  alignas(64) std::uint16_t elements[16 * 32];
  explicit constexpr Operand(std::uint32_t seed) : elements() {
    for (std::uint16_t& element : elements) {
      seed = seed * 1664525U + 1013904223U;
      element = static_cast<std::uint16_t>(0x3f00U | (seed >> 31 << 15) | (seed >> 24 & 0x7fU));
    }
  }
};

// Six tiles in use: with eight, threads that share a core run out of registers for tiles
// (linear_amx.cpp), and 16 threads multiply at 7 to 16 instead of 18.6 TFLOP/s.
double multiply_bf16(std::int64_t iterations) {
  static constexpr Operand kActivations(1);
  static constexpr Operand kWeights(2);
  const AmxTiles tiles;
  _tile_zero(0);
  _tile_zero(1);
  _tile_zero(2);
  _tile_zero(3);
  _tile_loadd(4, kActivations.elements, 64);
  _tile_loadd(6, kWeights.elements, 64);
  for (std::int64_t i = 0; i < iterations; ++i) {
    _tile_dpbf16ps(0, 4, 6);
    _tile_dpbf16ps(1, 4, 6);
    _tile_dpbf16ps(2, 4, 6);
    _tile_dpbf16ps(3, 4, 6);
  }
  return 4.0 * 2.0 * 16 * 16 * 32 * static_cast<double>(iterations);
}

}  // namespace

const PeakKernels& peak_amx() {
  static constexpr PeakKernels kKernels = {multiply_f32, multiply_bf16, read_all};
  return kKernels;
}

}  // namespace llmrun::kernels
