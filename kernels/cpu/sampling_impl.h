// The sampling passes over `Lanes`, a few floats or 32-bit integers side by side. Each source that
// includes this defines Lanes for its instruction set first; sampling_portable.cpp documents it.
// In an unnamed namespace, and without library templates, so that the linker never takes code for
// one instruction set for all.
#pragma once

#include "kernels/cpu/sampling.h"

namespace llmrun::kernels {
namespace {

constexpr float kMinusInfinity = -__builtin_inff();
constexpr unsigned kAllLanes = static_cast<unsigned>((1ULL << Lanes::kCount) - 1);

// Calls visit(first index, values, mask of valid lanes) for all of x [n]. Lanes past the end hold
// -infinity.
template <typename Visit>
void for_lanes(const float* x, std::int64_t n, Visit visit) {
  std::int64_t i = 0;
  for (; i + Lanes::kCount <= n; i += Lanes::kCount) visit(i, Lanes::load(x + i), kAllLanes);
  if (i == n) return;
  float tail[Lanes::kCount];
  for (int lane = 0; lane < Lanes::kCount; ++lane) {
    tail[lane] = i + lane < n ? x[i + lane] : kMinusInfinity;
  }
  visit(i, Lanes::load(tail), (1U << (n - i)) - 1U);
}

float max_value(const float* x, std::int64_t n) {
  Lanes::Floats greatest = Lanes::broadcast(kMinusInfinity);
  unsigned any_nan = 0;
  for_lanes(x, n, [&](std::int64_t /*i*/, Lanes::Floats values, unsigned /*valid*/) {
    greatest = Lanes::max(greatest, values);
    any_nan |= ~Lanes::at_least(values, values);
  });
  if ((any_nan & kAllLanes) != 0) return __builtin_nanf("");
  float lanes[Lanes::kCount];
  Lanes::store(lanes, greatest);
  float result = lanes[0];
  for (const float value : lanes) result = value > result ? value : result;
  return result;
}

std::int64_t count_at_least(const float* x, std::int64_t n, float bound) {
  const Lanes::Floats bounds = Lanes::broadcast(bound);
  std::int64_t count = 0;
  for_lanes(x, n, [&](std::int64_t /*i*/, Lanes::Floats values, unsigned valid) {
    count += __builtin_popcount(Lanes::at_least(values, bounds) & valid);
  });
  return count;
}

std::int64_t collect_at_least(std::int32_t* indices, const float* x, std::int64_t n, float bound) {
  const Lanes::Floats bounds = Lanes::broadcast(bound);
  std::int32_t* end = indices;
  for_lanes(x, n, [&](std::int64_t i, Lanes::Floats values, unsigned valid) {
    const unsigned kept = Lanes::at_least(values, bounds) & valid;
    if (kept != 0) end = Lanes::append_indices(end, static_cast<std::int32_t>(i), kept);
  });
  return end - indices;
}

// e^((x - max) / T) * 2^kWeightBits.
Lanes::Floats scaled_weight(Lanes::Floats x, Lanes::Floats max, Lanes::Floats inverse_temperature) {
  // e^-64 is below half a unit, and 2^n stays a normal float down to it.
  const Lanes::Floats z = Lanes::max(Lanes::multiply(Lanes::subtract(x, max), inverse_temperature),
                                     Lanes::broadcast(-64.0F));
  // Adding and subtracting 1.5 * 2^23 rounds to the nearest integer.
  const Lanes::Floats magic = Lanes::broadcast(12582912.0F);
  const Lanes::Floats n =
      Lanes::subtract(Lanes::fma(z, Lanes::broadcast(1.44269504F), magic), magic);
  Lanes::Floats r = Lanes::fma(n, Lanes::broadcast(-0.693145752F), z);
  r = Lanes::fma(n, Lanes::broadcast(-1.42860677e-6F), r);
  // e^r = 1 + r + r^2 p(r), a near-minimax fit on [-ln 2 / 2, ln 2 / 2].
  Lanes::Floats p = Lanes::broadcast(0.0013814597623422742F);
  p = Lanes::fma(p, r, Lanes::broadcast(0.008368716575205326F));
  p = Lanes::fma(p, r, Lanes::broadcast(0.04166838899254799F));
  p = Lanes::fma(p, r, Lanes::broadcast(0.1666652113199234F));
  p = Lanes::fma(p, r, Lanes::broadcast(0.4999999403953552F));
  p = Lanes::fma(p, Lanes::multiply(r, r), r);
  return Lanes::scale_by_power_of_two(Lanes::add(p, Lanes::broadcast(1.0F)), n, kWeightBits);
}

std::uint64_t sum_weights(std::uint64_t* weights, const float* x, std::int64_t n, float max,
                          float inverse_temperature) {
  const Lanes::Floats maxima = Lanes::broadcast(max);
  const Lanes::Floats factor = Lanes::broadcast(inverse_temperature);
  Lanes::WeightSum sum = {};
  for_lanes(x, n, [&](std::int64_t i, Lanes::Floats values, unsigned valid) {
    // Lanes past the end hold -infinity, whose weight is 0.
    const Lanes::Floats scaled = scaled_weight(values, maxima, factor);
    if (weights == nullptr) {
      Lanes::add_weights(sum, scaled);
      return;
    }
    std::uint64_t rounded[Lanes::kCount];
    Lanes::store_weights(rounded, scaled);
    Lanes::add_weights(sum, scaled);
    for (int lane = 0; lane < Lanes::kCount; ++lane) {
      if ((valid >> lane & 1U) != 0) weights[i + lane] = rounded[lane];
    }
  });
  return Lanes::total(sum);
}

// What no score of these tokens exceeds, from their random bits: the variate is below -log v, and
// log2 v is at least exponent + mantissa - 1 of v (Mitchell), that is the float's bits / 2^23 -
// 127. v is rounded down to 31 bits; 1e-3 covers all rounding.
Lanes::Floats score_bound(Lanes::Floats z_over_factor, Lanes::Floats factor, Lanes::Words random) {
  constexpr float kLn2 = 0.693147181F;
  const Lanes::Floats v = Lanes::to_floats(Lanes::shift_right<1>(random));
  const Lanes::Floats v_bits = Lanes::to_floats(Lanes::bits_of(v));
  const Lanes::Floats noise_bound = Lanes::fma(v_bits, Lanes::broadcast(-kLn2 * 0x1p-23F),
                                               Lanes::broadcast(kLn2 * (31.0F + 127.0F) + 1e-3F));
  return Lanes::fma(z_over_factor, factor, noise_bound);
}

Lanes::Words random_lanes(RandomKey key, Lanes::Words counters) {
  Lanes::Words x = Lanes::exclusive_or(counters, Lanes::broadcast_word(key.first));
  x = Lanes::exclusive_or(x, Lanes::shift_right<17>(x));
  x = Lanes::multiply_words(x, Lanes::broadcast_word(kRandomMultiplier1));
  x = Lanes::add_words(x, Lanes::broadcast_word(key.second));
  x = Lanes::exclusive_or(x, Lanes::shift_right<11>(x));
  x = Lanes::multiply_words(x, Lanes::broadcast_word(kRandomMultiplier2));
  x = Lanes::exclusive_or(x, Lanes::shift_right<15>(x));
  x = Lanes::multiply_words(x, Lanes::broadcast_word(kRandomMultiplier3));
  return Lanes::exclusive_or(x, Lanes::shift_right<14>(x));
}

// Only a token whose bound reaches the best score so far gets its score computed, by the one
// function that all variants share. That happens about log(n) times a row.
ScoredToken draw_token(const TokenDraw& draw, ScoredToken best) {
  const Lanes::Floats bounds = Lanes::broadcast(draw.bound);
  const Lanes::Floats maxima = Lanes::broadcast(draw.max);
  const Lanes::Floats factor = Lanes::broadcast(draw.inverse_temperature);
  const Lanes::Floats max_noise = Lanes::broadcast(kMaxGumbel);
  Lanes::Floats best_scores = Lanes::broadcast(best.score);
  for_lanes(draw.logits, draw.num_tokens, [&](std::int64_t i, Lanes::Floats x, unsigned valid) {
    const Lanes::Floats below_max = Lanes::subtract(x, maxima);
    unsigned possible = Lanes::at_least(x, bounds) & valid &
                        Lanes::at_least(Lanes::fma(below_max, factor, max_noise), best_scores);
    if (possible == 0) return;
    const Lanes::Words random =
        random_lanes(draw.key, Lanes::counters_from(static_cast<std::uint32_t>(i)));
    possible &= Lanes::at_least(score_bound(below_max, factor, random), best_scores);
    for (; possible != 0; possible &= possible - 1) {
      const auto id = static_cast<std::int32_t>(i) + __builtin_ctz(possible);
      const float score = token_score(draw, id);
      if (score > best.score || (score == best.score && id < best.id)) best = {score, id};
    }
    best_scores = Lanes::broadcast(best.score);
  });
  return best;
}

}  // namespace
}  // namespace llmrun::kernels
