#include "kernels/cpu/vec_avx512.h"
//
#include "kernels/cpu/peak_impl.h"

namespace llmrun::kernels {
namespace {

double multiply_bf16(std::int64_t iterations) {
  Vec chains[kChains];
#pragma GCC unroll 32
  for (int c = 0; c < kChains; ++c) chains[c] = Vec::broadcast(1.0F);
  Vec factor = Vec::broadcast(0.5F);
  make_opaque(factor);
  const auto pairs = reinterpret_cast<__m512bh>(factor.v);
  for (std::int64_t i = 0; i < iterations; ++i) {
#pragma GCC unroll 32
    for (int c = 0; c < kChains; ++c) {
      chains[c].v = _mm512_dpbf16_ps(chains[c].v, pairs, pairs);
      asm volatile("" : "+v"(chains[c].v));
    }
  }
  return 4.0 * Vec::kLanes * kChains * static_cast<double>(iterations);
}

}  // namespace

const PeakKernels& peak_avx512() {
  static constexpr PeakKernels kKernels = {multiply_f32, multiply_bf16, read_all};
  return kKernels;
}

}  // namespace llmrun::kernels
