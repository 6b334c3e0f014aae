// Vec: one register of floats, AVX2 + FMA (8 lanes). See vec_portable.h.
#pragma once

#include <cstdint>

#include <immintrin.h>

namespace llmrun::kernels {
namespace {

struct Vec {
  static constexpr std::int64_t kLanes = 8;

  __m256 v;

  static Vec broadcast(float x) { return {_mm256_set1_ps(x)}; }
  static Vec load(const float* p) { return {_mm256_loadu_ps(p)}; }
  static Vec load_first(const float* p, int n) { return {_mm256_maskload_ps(p, first(n))}; }
  static Vec load_bf16(const std::uint16_t* p) {
    return widen(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
  }
  static void load_bf16_pairs(const std::uint16_t* p, Vec& even, Vec& odd) {
    const __m256i words = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
    even.v = _mm256_castsi256_ps(_mm256_slli_epi32(words, 16));
    odd.v = _mm256_castsi256_ps(
        _mm256_and_si256(words, _mm256_set1_epi32(static_cast<int>(0xffff0000U))));
  }
  static void interleave_bf16(const std::uint16_t* even, const std::uint16_t* odd, Vec& low,
                              Vec& high) {
    const __m256i a = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(even));
    const __m256i b = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(odd));
    const __m256i first = _mm256_unpacklo_epi16(a, b);  // quarters 0 and 2
    const __m256i second = _mm256_unpackhi_epi16(a, b);
    low.v = _mm256_castsi256_ps(_mm256_permute2x128_si256(first, second, 0x20));
    high.v = _mm256_castsi256_ps(_mm256_permute2x128_si256(first, second, 0x31));
  }
  void store(float* p) const { _mm256_storeu_ps(p, v); }
  void store_first(float* p, int n) const { _mm256_maskstore_ps(p, first(n), v); }
  void store_bf16(std::uint16_t* p) const {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(p), narrow());
  }
  void store_bf16_first(std::uint16_t* p, int n) const {
    alignas(16) std::uint16_t halves[kLanes];
    store_bf16(halves);
    for (int i = 0; i < n; ++i) p[i] = halves[i];
  }

  friend Vec operator+(Vec a, Vec b) { return {_mm256_add_ps(a.v, b.v)}; }
  friend Vec operator-(Vec a, Vec b) { return {_mm256_sub_ps(a.v, b.v)}; }
  friend Vec operator*(Vec a, Vec b) { return {_mm256_mul_ps(a.v, b.v)}; }
  friend Vec operator/(Vec a, Vec b) { return {_mm256_div_ps(a.v, b.v)}; }
  static Vec fma(Vec a, Vec b, Vec c) { return {_mm256_fmadd_ps(a.v, b.v, c.v)}; }
  static Vec max(Vec a, Vec b) { return {_mm256_max_ps(a.v, b.v)}; }
  static Vec min(Vec a, Vec b) { return {_mm256_min_ps(a.v, b.v)}; }
  static Vec select_at_least(Vec x, Vec limit, Vec value) {
    return {_mm256_and_ps(value.v, _mm256_cmp_ps(limit.v, x.v, _CMP_LE_OQ))};
  }
  static Vec scale_by_power_of_two(Vec x, Vec n) {
    const __m256i exponents = _mm256_add_epi32(_mm256_cvtps_epi32(n.v), _mm256_set1_epi32(127));
    return {_mm256_mul_ps(x.v, _mm256_castsi256_ps(_mm256_slli_epi32(exponents, 23)))};
  }
  static Vec sqrt(Vec x) { return {_mm256_sqrt_ps(x.v)}; }
  float sum() const {
    const __m128 half = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    const __m128 quarter = _mm_add_ps(half, _mm_movehl_ps(half, half));
    return _mm_cvtss_f32(_mm_add_ss(quarter, _mm_movehdup_ps(quarter)));
  }
  float largest() const {
    const __m128 half = _mm_max_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    const __m128 quarter = _mm_max_ps(half, _mm_movehl_ps(half, half));
    return _mm_cvtss_f32(_mm_max_ss(quarter, _mm_movehdup_ps(quarter)));
  }
  static void transpose(Vec (&rows)[kLanes]) {
    __m256 pairs[kLanes];
#pragma GCC unroll 16
    for (int i = 0; i < kLanes; i += 2) {
      pairs[i] = _mm256_unpacklo_ps(rows[i].v, rows[i + 1].v);
      pairs[i + 1] = _mm256_unpackhi_ps(rows[i].v, rows[i + 1].v);
    }
    __m256 quads[kLanes];
#pragma GCC unroll 16
    for (int i = 0; i < kLanes; i += 4) {
      quads[i] = _mm256_shuffle_ps(pairs[i], pairs[i + 2], 0x44);
      quads[i + 1] = _mm256_shuffle_ps(pairs[i], pairs[i + 2], 0xee);
      quads[i + 2] = _mm256_shuffle_ps(pairs[i + 1], pairs[i + 3], 0x44);
      quads[i + 3] = _mm256_shuffle_ps(pairs[i + 1], pairs[i + 3], 0xee);
    }
#pragma GCC unroll 16
    for (int i = 0; i < 4; ++i) {
      rows[i].v = _mm256_permute2f128_ps(quads[i], quads[i + 4], 0x20);
      rows[i + 4].v = _mm256_permute2f128_ps(quads[i], quads[i + 4], 0x31);
    }
  }

 private:
  static __m256i first(int n) {
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(n), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
  }
  static Vec widen(__m128i halves) {
    return {_mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(halves), 16))};
  }
  __m128i narrow() const {
    const __m256i bits = _mm256_castps_si256(v);
    const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
    const __m256i rounded = _mm256_srli_epi32(
        _mm256_add_epi32(bits, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff))), 16);
    const __m256i quiet = _mm256_or_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(0x40));
    const __m256i is_nan = _mm256_castps_si256(_mm256_cmp_ps(v, v, _CMP_UNORD_Q));
    const __m256i words = _mm256_blendv_epi8(rounded, quiet, is_nan);
    return _mm_packus_epi32(_mm256_castsi256_si128(words), _mm256_extracti128_si256(words, 1));
  }
};

}  // namespace
}  // namespace llmrun::kernels
