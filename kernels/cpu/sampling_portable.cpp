// Sampling passes with the baseline instruction set, one lane at a time.
#include <bit>
#include <cmath>
#include <cstdint>

#include "kernels/cpu/sampling.h"

namespace llmrun::kernels {
namespace {

// What sampling_impl.h computes with. Masks have bit i for lane i.
struct Lanes {
  using Floats = float;
  using Words = std::uint32_t;
  using WeightSum = std::uint64_t;
  static constexpr int kCount = 1;

  static Floats broadcast(float x) { return x; }
  static Floats load(const float* p) { return *p; }
  static void store(float* p, Floats x) { *p = x; }
  static Floats add(Floats a, Floats b) { return a + b; }
  static Floats subtract(Floats a, Floats b) { return a - b; }
  static Floats multiply(Floats a, Floats b) { return a * b; }
  static Floats fma(Floats a, Floats b, Floats c) { return std::fma(a, b, c); }
  static Floats max(Floats a, Floats b) { return a > b ? a : b; }  // b when either is NaN
  static unsigned at_least(Floats a, Floats b) { return a >= b ? 1U : 0U; }
  // x * 2^(n + bits); n holds an integer.
  static Floats scale_by_power_of_two(Floats x, Floats n, int bits) {
    return x * std::bit_cast<float>((static_cast<std::int32_t>(n) + bits + 127) << 23);
  }

  static Words broadcast_word(std::uint32_t x) { return x; }
  static Words counters_from(std::uint32_t first) { return first; }  // first, first + 1, ...
  static Words exclusive_or(Words a, Words b) { return a ^ b; }
  static Words add_words(Words a, Words b) { return a + b; }
  static Words multiply_words(Words a, Words b) { return a * b; }
  template <int kBits>
  static Words shift_right(Words x) {
    return x >> kBits;
  }
  static Words bits_of(Floats x) { return std::bit_cast<std::uint32_t>(x); }
  static Floats to_floats(Words x) { return static_cast<float>(x); }  // x < 2^31

  // Writes first + i for each bit i of `kept`; returns the end.
  static std::int32_t* append_indices(std::int32_t* out, std::int32_t first, unsigned /*kept*/) {
    *out = first;
    return out + 1;
  }

  // Weights round to the nearest integer, ties to even. 0 <= scaled <= 2^40.
  static void store_weights(std::uint64_t* out, Floats scaled) { *out = round(scaled); }
  static void add_weights(WeightSum& sum, Floats scaled) { sum += round(scaled); }
  static std::uint64_t total(WeightSum sum) { return sum; }

 private:
  static std::uint64_t round(float scaled) {
    constexpr double kMagic = 0x1p52;  // doubles from here on have no fraction
    return static_cast<std::uint64_t>((static_cast<double>(scaled) + kMagic) - kMagic);
  }
};

}  // namespace
}  // namespace llmrun::kernels

#include "kernels/cpu/sampling_impl.h"

namespace llmrun::kernels {

float token_score(const TokenDraw& draw, std::int32_t id) {
  const float noise = gumbel_variate(random_bits(draw.key, static_cast<std::uint32_t>(id)));
  return std::fma(draw.logits[id] - draw.max, draw.inverse_temperature, noise);
}

const SamplingKernels& sampling_portable() {
  static constexpr SamplingKernels kKernels = {"portable",       max_value,   count_at_least,
                                               collect_at_least, sum_weights, draw_token};
  return kKernels;
}

}  // namespace llmrun::kernels
