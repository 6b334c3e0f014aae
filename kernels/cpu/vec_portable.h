// Vec: one register of floats, baseline instruction set (4 lanes, GCC vector extensions).
//
// vec_portable.h, vec_avx2.h and vec_avx512.h define the same type, and each kernel source includes
// exactly one of them. Everything here and in the *_impl.h files is in an unnamed namespace: code
// compiled for AVX-512 must never be the copy that the linker keeps for the rest of the program.
#pragma once

#include <cstdint>

namespace llmrun::kernels {
namespace {

struct Vec {
  typedef float Floats __attribute__((vector_size(16)));
  typedef std::uint32_t Words __attribute__((vector_size(16)));
  static constexpr std::int64_t kLanes = 4;

  Floats v;

  static Vec broadcast(float x) { return {Floats{x, x, x, x}}; }
  static Vec load(const float* p) {
    Vec result;
    __builtin_memcpy(&result.v, p, sizeof(result.v));
    return result;
  }
  // The first n lanes; the others are 0. 0 <= n <= kLanes.
  static Vec load_first(const float* p, int n) {
    Vec result = broadcast(0.0F);
    for (int i = 0; i < n; ++i) result.v[i] = p[i];
    return result;
  }
  static Vec load_bf16(const std::uint16_t* p) {
    const Words words = {p[0], p[1], p[2], p[3]};
    return {reinterpret_cast<Floats>(words << 16)};
  }
  // p holds kLanes pairs: the even elements go to `even`, the odd ones to `odd`.
  static void load_bf16_pairs(const std::uint16_t* p, Vec& even, Vec& odd) {
    Words words;
    __builtin_memcpy(&words, p, sizeof(words));
    even.v = reinterpret_cast<Floats>(words << 16);
    odd.v = reinterpret_cast<Floats>(words & 0xffff0000U);
  }
  // Of two rows of 2 kLanes elements: lane i of `low` holds the pair of their elements i, lane i of
  // `high` that of their elements kLanes + i.
  static void interleave_bf16(const std::uint16_t* even, const std::uint16_t* odd, Vec& low,
                              Vec& high) {
    Words first = {};
    Words second = {};
    for (int i = 0; i < kLanes; ++i) {
      first[i] = even[i] | static_cast<std::uint32_t>(odd[i]) << 16;
      second[i] = even[kLanes + i] | static_cast<std::uint32_t>(odd[kLanes + i]) << 16;
    }
    low.v = reinterpret_cast<Floats>(first);
    high.v = reinterpret_cast<Floats>(second);
  }
  void store(float* p) const { __builtin_memcpy(p, &v, sizeof(v)); }
  void store_first(float* p, int n) const {
    for (int i = 0; i < n; ++i) p[i] = v[i];
  }
  // Rounds to nearest even; NaN stays NaN.
  void store_bf16(std::uint16_t* p) const { store_bf16_first(p, kLanes); }
  void store_bf16_first(std::uint16_t* p, int n) const {
    const Words bits = reinterpret_cast<Words>(v);
    const Words rounded = (bits + 0x7fffU + ((bits >> 16) & 1U)) >> 16;
    const Words quiet = (bits >> 16) | 0x40U;
    const Words is_nan = (bits & 0x7fffffffU) > 0x7f800000U;
    const Words halves = (rounded & ~is_nan) | (quiet & is_nan);
    for (int i = 0; i < n; ++i) p[i] = static_cast<std::uint16_t>(halves[i]);
  }

  friend Vec operator+(Vec a, Vec b) { return {a.v + b.v}; }
  friend Vec operator-(Vec a, Vec b) { return {a.v - b.v}; }
  friend Vec operator*(Vec a, Vec b) { return {a.v * b.v}; }
  friend Vec operator/(Vec a, Vec b) { return {a.v / b.v}; }
  static Vec fma(Vec a, Vec b, Vec c) { return {a.v * b.v + c.v}; }  // a * b + c
  static Vec max(Vec a, Vec b) { return {a.v > b.v ? a.v : b.v}; }   // b when either is NaN
  static Vec min(Vec a, Vec b) { return {a.v < b.v ? a.v : b.v}; }

  // The value where limit <= x, else 0.
  static Vec select_at_least(Vec x, Vec limit, Vec value) {
    const Words keep = limit.v <= x.v;
    return {reinterpret_cast<Floats>(reinterpret_cast<Words>(value.v) & keep)};
  }
  // x * 2^n; n holds integers in [-126, 127].
  static Vec scale_by_power_of_two(Vec x, Vec n) {
    typedef std::int32_t Ints __attribute__((vector_size(16)));
    const Ints exponents = (__builtin_convertvector(n.v, Ints) + 127) << 23;
    return {x.v * reinterpret_cast<Floats>(exponents)};
  }
  static Vec sqrt(Vec x) {
    return {Floats{__builtin_sqrtf(x.v[0]), __builtin_sqrtf(x.v[1]), __builtin_sqrtf(x.v[2]),
                   __builtin_sqrtf(x.v[3])}};
  }
  float sum() const { return (v[0] + v[2]) + (v[1] + v[3]); }
  float largest() const {
    const float a = v[0] > v[1] ? v[0] : v[1];
    const float b = v[2] > v[3] ? v[2] : v[3];
    return a > b ? a : b;
  }
  // Lane i of row j becomes lane j of row i.
  static void transpose(Vec (&rows)[kLanes]) {
    for (int i = 0; i < kLanes; ++i) {
      for (int j = 0; j < i; ++j) {
        const float swapped = rows[i].v[j];
        rows[i].v[j] = rows[j].v[i];
        rows[j].v[i] = swapped;
      }
    }
  }
};

}  // namespace
}  // namespace llmrun::kernels
