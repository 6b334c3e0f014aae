// Random numbers without state: a number is a function of (seed, position, counter), so it does not
// depend on who asks, when, in which order or on which device.
//
// The integer parts are exact everywhere, and the float parts are written with explicit fma and
// with no product that a compiler could contract into one: a CPU with or without FMA instructions
// and a GPU give the same bits. Everything is constexpr so that device code may share it.
//
// Sources: splitmix64 (Steele, Lea, Flood: Fast Splittable Pseudorandom Number Generators, OOPSLA
// 2014); triple32 (C. Wellons, hash-prospector), here with a key added between its rounds. The
// polynomials are near-minimax fits: relative error below 2e-7 over the whole range.
#pragma once

#include <bit>
#include <cmath>
#include <cstdint>

namespace llmrun {

// A bijection of 64 bits in which every input bit reaches every output bit (splitmix64).
constexpr std::uint64_t mix64(std::uint64_t x) {
  x += 0x9e3779b97f4a7c15ULL;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ULL;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebULL;
  return x ^ (x >> 31);
}

// A seed of its own for part `index` of what `seed` governs: a request of a run, a sample of a
// request. For one seed, different indices give different seeds.
constexpr std::uint64_t derive_seed(std::uint64_t seed, std::uint64_t index) {
  return mix64(mix64(seed) ^ mix64(~index));
}

// Key of one stream of 2^32 numbers.
struct RandomKey {
  std::uint32_t first = 0;
  std::uint32_t second = 0;
};

// The stream of one place in a sequence. For one seed, different positions have different keys.
constexpr RandomKey random_key(std::uint64_t seed, std::uint64_t position) {
  const std::uint64_t key = mix64(mix64(seed) + position);
  return {static_cast<std::uint32_t>(key), static_cast<std::uint32_t>(key >> 32)};
}

// Multipliers of random_bits, for vector code that repeats it lane by lane.
inline constexpr std::uint32_t kRandomMultiplier1 = 0xed5ad4bbU;
inline constexpr std::uint32_t kRandomMultiplier2 = 0xac4c1b51U;
inline constexpr std::uint32_t kRandomMultiplier3 = 0x31848babU;

// Number `counter` of the stream: 32 random bits. For one key a bijection of the counter, so that
// two tokens of a row never get the same number.
constexpr std::uint32_t random_bits(RandomKey key, std::uint32_t counter) {
  std::uint32_t x = counter ^ key.first;
  x = (x ^ (x >> 17)) * kRandomMultiplier1;
  x += key.second;
  x = (x ^ (x >> 11)) * kRandomMultiplier2;
  x = (x ^ (x >> 15)) * kRandomMultiplier3;
  return x ^ (x >> 14);
}

// log(1 + f) for f in [sqrt(1/2) - 1, sqrt(2) - 1], relative error below 1e-7.
constexpr float log1p_near_zero(float f) {
  float p = -0.07634474337100983F;
  p = std::fma(p, f, 0.12761567533016205F);
  p = std::fma(p, f, -0.13160187005996704F);
  p = std::fma(p, f, 0.14201758801937103F);
  p = std::fma(p, f, -0.16623356938362122F);
  p = std::fma(p, f, 0.20001226663589478F);
  p = std::fma(p, f, -0.2500081956386566F);
  p = std::fma(p, f, 0.3333333134651184F);
  const float square = f * f;
  const float cube_term = std::fma(p, f, -0.5F);  // log(1 + f) = f + f^2 (p f - 1/2)
  return std::fma(square, cube_term, f);
}

// log(x) for normal x > 0.
constexpr float log_of_positive(float x) {
  // x = m * 2^n with m in [sqrt(1/2), sqrt(2)): 0x3f3504f3 is sqrt(1/2).
  const std::int32_t bits = std::bit_cast<std::int32_t>(x) - 0x3f3504f3;
  const std::int32_t n = bits >> 23;
  const float m = std::bit_cast<float>((bits & 0x007fffff) + 0x3f3504f3);
  const auto exponent = static_cast<float>(n);
  const float low = std::fma(exponent, 1.42860677e-6F, log1p_near_zero(m - 1.0F));
  return std::fma(exponent, 0.693145752F, low);  // ln 2 in two parts, the first exact times n
}

// An Exp(1) variate from 32 random bits: -log(1 - v) with v = (bits + 1/2) / 2^32. Small variates,
// the ones that win a draw, are as precise as large ones; the smallest is 2^-33.
constexpr float exponential_variate(std::uint32_t bits) {
  if (bits < 0x4af00000U) {  // v < 0.2927, inside the range of log1p_near_zero(-v)
    const float v = (static_cast<float>(bits) + 0.5F) * 0x1p-32F;
    return -log1p_near_zero(-v);
  }
  const float u = (static_cast<float>(~bits) + 0.5F) * 0x1p-32F;  // 1 - v
  return -log_of_positive(u);
}

// A standard Gumbel variate from 32 random bits; between -3.2 and kMaxGumbel.
constexpr float gumbel_variate(std::uint32_t bits) {
  return -log_of_positive(exponential_variate(bits));
}
inline constexpr float kMaxGumbel = 22.875F;

}  // namespace llmrun
