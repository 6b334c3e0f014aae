// Sampling passes in AVX-512, 16 lanes. Lanes is documented in sampling_portable.cpp.
#include <cstdint>

// GCC 12 warns about the deliberately undefined operands inside its own intrinsics (bug 105593).
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif
#include <immintrin.h>
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic pop
#endif

#include "kernels/cpu/sampling.h"

namespace llmrun::kernels {
namespace {

struct Lanes {
  using Floats = __m512;
  using Words = __m512i;
  using WeightSum = __m512i;  // 8 x 64 bits
  static constexpr int kCount = 16;

  static Floats broadcast(float x) { return _mm512_set1_ps(x); }
  static Floats load(const float* p) { return _mm512_loadu_ps(p); }
  static void store(float* p, Floats x) { _mm512_storeu_ps(p, x); }
  static Floats add(Floats a, Floats b) { return _mm512_add_ps(a, b); }
  static Floats subtract(Floats a, Floats b) { return _mm512_sub_ps(a, b); }
  static Floats multiply(Floats a, Floats b) { return _mm512_mul_ps(a, b); }
  static Floats fma(Floats a, Floats b, Floats c) { return _mm512_fmadd_ps(a, b, c); }
  static Floats max(Floats a, Floats b) { return _mm512_max_ps(a, b); }
  static unsigned at_least(Floats a, Floats b) { return _mm512_cmp_ps_mask(a, b, _CMP_GE_OQ); }
  static Floats scale_by_power_of_two(Floats x, Floats n, int bits) {
    const __m512i exponents =
        _mm512_add_epi32(_mm512_cvtps_epi32(n), _mm512_set1_epi32(bits + 127));
    return _mm512_mul_ps(x, _mm512_castsi512_ps(_mm512_slli_epi32(exponents, 23)));
  }

  static Words broadcast_word(std::uint32_t x) { return _mm512_set1_epi32(static_cast<int>(x)); }
  static Words counters_from(std::uint32_t first) {
    return _mm512_add_epi32(broadcast_word(first), _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9,
                                                                     10, 11, 12, 13, 14, 15));
  }
  static Words exclusive_or(Words a, Words b) { return _mm512_xor_si512(a, b); }
  static Words add_words(Words a, Words b) { return _mm512_add_epi32(a, b); }
  static Words multiply_words(Words a, Words b) { return _mm512_mullo_epi32(a, b); }
  template <int kBits>
  static Words shift_right(Words x) {
    return _mm512_srli_epi32(x, kBits);
  }
  static Words bits_of(Floats x) { return _mm512_castps_si512(x); }
  static Floats to_floats(Words x) { return _mm512_cvtepi32_ps(x); }

  // Compressed in a register: a compressing store is slow on Zen 4.
  static std::int32_t* append_indices(std::int32_t* out, std::int32_t first, unsigned kept) {
    const __m512i indices = counters_from(static_cast<std::uint32_t>(first));
    const auto mask = static_cast<__mmask16>(kept);
    const auto count = static_cast<unsigned>(__builtin_popcount(kept));
    _mm512_mask_storeu_epi32(out, static_cast<__mmask16>((1U << count) - 1U),
                             _mm512_maskz_compress_epi32(mask, indices));
    return out + count;
  }

  static void store_weights(std::uint64_t* out, Floats scaled) {
    _mm512_storeu_si512(out, low_weights(scaled));
    _mm512_storeu_si512(out + 8, high_weights(scaled));
  }
  static void add_weights(WeightSum& sum, Floats scaled) {
    sum = _mm512_add_epi64(sum, _mm512_add_epi64(low_weights(scaled), high_weights(scaled)));
  }
  static std::uint64_t total(WeightSum sum) {
    return static_cast<std::uint64_t>(_mm512_reduce_add_epi64(sum));
  }

 private:
  static __m512i low_weights(Floats scaled) {
    return _mm512_cvtps_epi64(_mm512_castps512_ps256(scaled));
  }
  static __m512i high_weights(Floats scaled) {
    return _mm512_cvtps_epi64(_mm512_extractf32x8_ps(scaled, 1));
  }
};

}  // namespace
}  // namespace llmrun::kernels

#include "kernels/cpu/sampling_impl.h"

namespace llmrun::kernels {

const SamplingKernels& sampling_avx512() {
  static constexpr SamplingKernels kKernels = {"avx512",         max_value,   count_at_least,
                                               collect_at_least, sum_weights, draw_token};
  return kKernels;
}

}  // namespace llmrun::kernels
