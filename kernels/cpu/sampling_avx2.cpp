// Sampling passes in AVX2 + FMA, 8 lanes. Lanes is documented in sampling_portable.cpp.
#include <cstdint>

#include <immintrin.h>

#include "kernels/cpu/sampling.h"

namespace llmrun::kernels {
namespace {

struct Lanes {
  using Floats = __m256;
  using Words = __m256i;
  using WeightSum = __m256i;  // 4 x 64 bits
  static constexpr int kCount = 8;

  static Floats broadcast(float x) { return _mm256_set1_ps(x); }
  static Floats load(const float* p) { return _mm256_loadu_ps(p); }
  static void store(float* p, Floats x) { _mm256_storeu_ps(p, x); }
  static Floats add(Floats a, Floats b) { return _mm256_add_ps(a, b); }
  static Floats subtract(Floats a, Floats b) { return _mm256_sub_ps(a, b); }
  static Floats multiply(Floats a, Floats b) { return _mm256_mul_ps(a, b); }
  static Floats fma(Floats a, Floats b, Floats c) { return _mm256_fmadd_ps(a, b, c); }
  static Floats max(Floats a, Floats b) { return _mm256_max_ps(a, b); }
  static unsigned at_least(Floats a, Floats b) {
    return static_cast<unsigned>(_mm256_movemask_ps(_mm256_cmp_ps(a, b, _CMP_GE_OQ)));
  }
  static Floats scale_by_power_of_two(Floats x, Floats n, int bits) {
    const __m256i exponents =
        _mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(bits + 127));
    return _mm256_mul_ps(x, _mm256_castsi256_ps(_mm256_slli_epi32(exponents, 23)));
  }

  static Words broadcast_word(std::uint32_t x) { return _mm256_set1_epi32(static_cast<int>(x)); }
  static Words counters_from(std::uint32_t first) {
    return _mm256_add_epi32(broadcast_word(first), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
  }
  static Words exclusive_or(Words a, Words b) { return _mm256_xor_si256(a, b); }
  static Words add_words(Words a, Words b) { return _mm256_add_epi32(a, b); }
  static Words multiply_words(Words a, Words b) { return _mm256_mullo_epi32(a, b); }
  template <int kBits>
  static Words shift_right(Words x) {
    return _mm256_srli_epi32(x, kBits);
  }
  static Words bits_of(Floats x) { return _mm256_castps_si256(x); }
  static Floats to_floats(Words x) { return _mm256_cvtepi32_ps(x); }

  static std::int32_t* append_indices(std::int32_t* out, std::int32_t first, unsigned kept) {
    for (; kept != 0; kept &= kept - 1) *out++ = first + __builtin_ctz(kept);
    return out;
  }

  static void store_weights(std::uint64_t* out, Floats scaled) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(out), low_weights(scaled));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(out + 4), high_weights(scaled));
  }
  static void add_weights(WeightSum& sum, Floats scaled) {
    sum = _mm256_add_epi64(sum, _mm256_add_epi64(low_weights(scaled), high_weights(scaled)));
  }
  static std::uint64_t total(WeightSum sum) {
    std::uint64_t parts[4];
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(parts), sum);
    return parts[0] + parts[1] + parts[2] + parts[3];
  }

 private:
  // The low bits of x + 2^52 are x, rounded.
  static __m256i round(__m128 scaled) {
    const __m256d magic = _mm256_set1_pd(0x1p52);
    const __m256d shifted = _mm256_add_pd(_mm256_cvtps_pd(scaled), magic);
    return _mm256_sub_epi64(_mm256_castpd_si256(shifted), _mm256_castpd_si256(magic));
  }
  static __m256i low_weights(Floats scaled) { return round(_mm256_castps256_ps128(scaled)); }
  static __m256i high_weights(Floats scaled) { return round(_mm256_extractf128_ps(scaled, 1)); }
};

}  // namespace
}  // namespace llmrun::kernels

#include "kernels/cpu/sampling_impl.h"

namespace llmrun::kernels {

const SamplingKernels& sampling_avx2() {
  static constexpr SamplingKernels kKernels = {"avx2",           max_value,   count_at_least,
                                               collect_at_least, sum_weights, draw_token};
  return kKernels;
}

}  // namespace llmrun::kernels
