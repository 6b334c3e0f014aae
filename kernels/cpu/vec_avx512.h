// Vec: one register of floats, AVX-512 F/BW/VL/DQ + BF16 (16 lanes). See vec_portable.h.
#pragma once

#include <cstdint>

// GCC 12 warns about the deliberately undefined operands inside its own intrinsics (GCC bug
// 105593).
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif
#include <immintrin.h>
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic pop
#endif

namespace llmrun::kernels {
namespace {

struct Vec {
  static constexpr std::int64_t kLanes = 16;

  __m512 v;

  static Vec broadcast(float x) { return {_mm512_set1_ps(x)}; }
  static Vec load(const float* p) { return {_mm512_loadu_ps(p)}; }
  static Vec load_first(const float* p, int n) { return {_mm512_maskz_loadu_ps(first(n), p)}; }
  static Vec load_bf16(const std::uint16_t* p) {
    return widen(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
  }
  static void load_bf16_pairs(const std::uint16_t* p, Vec& even, Vec& odd) {
    const __m512i words = _mm512_loadu_si512(p);
    even.v = _mm512_castsi512_ps(_mm512_slli_epi32(words, 16));
    odd.v = _mm512_castsi512_ps(
        _mm512_and_si512(words, _mm512_set1_epi32(static_cast<int>(0xffff0000U))));
  }
  static void interleave_bf16(const std::uint16_t* even, const std::uint16_t* odd, Vec& low,
                              Vec& high) {
    const __m512i a = _mm512_loadu_si512(even);
    const __m512i b = _mm512_loadu_si512(odd);
    // Pair i of `low` is elements i and 32 + i of the two registers.
    const __m512i lane = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    const __m512i pairs = _mm512_add_epi32(_mm512_or_si512(lane, _mm512_slli_epi32(lane, 16)),
                                           _mm512_set1_epi32(32 << 16));
    const __m512i upper_pairs = _mm512_add_epi16(pairs, _mm512_set1_epi16(kLanes));
    low.v = _mm512_castsi512_ps(_mm512_permutex2var_epi16(a, pairs, b));
    high.v = _mm512_castsi512_ps(_mm512_permutex2var_epi16(a, upper_pairs, b));
  }
  void store(float* p) const { _mm512_storeu_ps(p, v); }
  void store_first(float* p, int n) const { _mm512_mask_storeu_ps(p, first(n), v); }
  void store_bf16(std::uint16_t* p) const {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), narrow());
  }
  void store_bf16_first(std::uint16_t* p, int n) const {
    _mm256_mask_storeu_epi16(p, first(n), narrow());
  }

  friend Vec operator+(Vec a, Vec b) { return {_mm512_add_ps(a.v, b.v)}; }
  friend Vec operator-(Vec a, Vec b) { return {_mm512_sub_ps(a.v, b.v)}; }
  friend Vec operator*(Vec a, Vec b) { return {_mm512_mul_ps(a.v, b.v)}; }
  friend Vec operator/(Vec a, Vec b) { return {_mm512_div_ps(a.v, b.v)}; }
  static Vec fma(Vec a, Vec b, Vec c) { return {_mm512_fmadd_ps(a.v, b.v, c.v)}; }
  static Vec max(Vec a, Vec b) { return {_mm512_max_ps(a.v, b.v)}; }
  static Vec min(Vec a, Vec b) { return {_mm512_min_ps(a.v, b.v)}; }
  static Vec select_at_least(Vec x, Vec limit, Vec value) {
    return {_mm512_maskz_mov_ps(_mm512_cmp_ps_mask(limit.v, x.v, _CMP_LE_OQ), value.v)};
  }
  static Vec scale_by_power_of_two(Vec x, Vec n) { return {_mm512_scalef_ps(x.v, n.v)}; }
  static Vec sqrt(Vec x) { return {_mm512_sqrt_ps(x.v)}; }
  float sum() const { return _mm512_reduce_add_ps(v); }
  float largest() const { return _mm512_reduce_max_ps(v); }
  static void transpose(Vec (&rows)[kLanes]) {
    __m512 pairs[kLanes];
#pragma GCC unroll 16
    for (int i = 0; i < kLanes; i += 2) {
      pairs[i] = _mm512_unpacklo_ps(rows[i].v, rows[i + 1].v);
      pairs[i + 1] = _mm512_unpackhi_ps(rows[i].v, rows[i + 1].v);
    }
    __m512 quads[kLanes];  // quads[4 b + c]: columns c, c + 4, c + 8, c + 12 of rows 4 b .. 4 b + 3
#pragma GCC unroll 16
    for (int i = 0; i < kLanes; i += 4) {
      quads[i] = _mm512_shuffle_ps(pairs[i], pairs[i + 2], 0x44);
      quads[i + 1] = _mm512_shuffle_ps(pairs[i], pairs[i + 2], 0xee);
      quads[i + 2] = _mm512_shuffle_ps(pairs[i + 1], pairs[i + 3], 0x44);
      quads[i + 3] = _mm512_shuffle_ps(pairs[i + 1], pairs[i + 3], 0xee);
    }
#pragma GCC unroll 16
    for (int i = 0; i < 4; ++i) {
      const __m512 low_even = _mm512_shuffle_f32x4(quads[i], quads[i + 4], 0x88);
      const __m512 low_odd = _mm512_shuffle_f32x4(quads[i], quads[i + 4], 0xdd);
      const __m512 high_even = _mm512_shuffle_f32x4(quads[i + 8], quads[i + 12], 0x88);
      const __m512 high_odd = _mm512_shuffle_f32x4(quads[i + 8], quads[i + 12], 0xdd);
      rows[i].v = _mm512_shuffle_f32x4(low_even, high_even, 0x88);
      rows[i + 8].v = _mm512_shuffle_f32x4(low_even, high_even, 0xdd);
      rows[i + 4].v = _mm512_shuffle_f32x4(low_odd, high_odd, 0x88);
      rows[i + 12].v = _mm512_shuffle_f32x4(low_odd, high_odd, 0xdd);
    }
  }

 private:
  static __mmask16 first(int n) {
    return static_cast<__mmask16>((1U << n) - 1U);
  }
  static Vec widen(__m256i halves) {
    return {_mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(halves), 16))};
  }
  // vcvtneps2bf16 would flush subnormals to zero, which the other instruction sets do not.
  __m256i narrow() const {
    const __m512i bits = _mm512_castps_si512(v);
    const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
    const __m512i rounded = _mm512_srli_epi32(
        _mm512_add_epi32(bits, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff))), 16);
    const __m512i quiet = _mm512_or_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(0x40));
    const __mmask16 is_nan = _mm512_cmp_ps_mask(v, v, _CMP_UNORD_Q);
    return _mm512_cvtepi32_epi16(_mm512_mask_mov_epi32(rounded, is_nan, quiet));
  }
};

}  // namespace
}  // namespace llmrun::kernels
