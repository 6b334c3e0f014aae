#include "engine/core/random.h"

#include <array>
#include <bit>
#include <cmath>
#include <cstdint>
#include <set>
#include <vector>

#include <doctest/doctest.h>

namespace llmrun {
namespace {

// The standard score of a chi-square statistic (Wilson and Hilferty): 3.72 is p = 1e-4.
double chi_square_score(double chi_square, double degrees) {
  const double variance = 2.0 / (9.0 * degrees);
  return (std::cbrt(chi_square / degrees) - (1.0 - variance)) / std::sqrt(variance);
}

// Chi-square of `bits(i)` for 0 <= i < count, cut to its top or its low byte, against uniformity.
template <typename Bits>
void check_uniform(Bits bits, std::uint32_t count) {
  for (const int shift : {0, 8, 16, 24}) {
    std::array<double, 256> histogram{};
    for (std::uint32_t i = 0; i < count; ++i) histogram[(bits(i) >> shift) & 0xffU] += 1.0;
    const double expected = count / 256.0;
    double chi_square = 0;
    for (const double observed : histogram) {
      chi_square += (observed - expected) * (observed - expected) / expected;
    }
    CHECK(std::abs(chi_square_score(chi_square, 255)) < 4.5);
  }
}

TEST_CASE("the stream is frozen: results of earlier runs stay reproducible") {
  CHECK(mix64(0) == 0xe220a8397b1dcdafULL);  // first output of splitmix64 seeded with 0
  CHECK(random_bits(random_key(0, 0), 0) == 0x29879a90U);
  CHECK(random_bits(random_key(1, 2), 3) == 0x32350217U);
  CHECK(random_bits(random_key(~0ULL, 1), 151935) == 0xbf9a4f00U);
  CHECK(derive_seed(0, 0) == 0x379c1e9f8d23af2aULL);
  CHECK(std::bit_cast<std::uint32_t>(gumbel_variate(12345)) == 0x414c2793U);
  CHECK(std::bit_cast<std::uint32_t>(gumbel_variate(0x80000000U)) == 0x3ebba795U);
  CHECK(std::bit_cast<std::uint32_t>(gumbel_variate(0xffffffffU)) == 0xc04851d5U);
}

TEST_CASE("variates are usable where constants are") {
  constexpr float kVariate = gumbel_variate(12345);
  CHECK(kVariate == gumbel_variate(12345));
}

TEST_CASE("exponential and Gumbel variates are precise from end to end") {
  double worst_exponential = 0;
  double worst_gumbel = 0;
  const auto check = [&](std::uint32_t bits) {
    const double v = (static_cast<double>(bits) + 0.5) * 0x1p-32;
    const double e = -std::log1p(-v);
    worst_exponential = std::max(worst_exponential,
                                 std::abs(static_cast<double>(exponential_variate(bits)) / e - 1));
    worst_gumbel =
        std::max(worst_gumbel, std::abs(static_cast<double>(gumbel_variate(bits)) + std::log(e)));
  };
  for (std::uint32_t i = 0; i < 200'000; ++i) {
    check(i);
    check(~i);
    check(i * 21'473U);
    check(0x4af00000U - 100'000U + i);  // where the formula changes
  }
  CHECK(worst_exponential < 2e-7);
  CHECK(worst_gumbel < 2e-6);  // one unit in the last place of 22 is 1.9e-6
  CHECK(gumbel_variate(0) < kMaxGumbel);
  CHECK(gumbel_variate(0) > 22.8F);
  CHECK(gumbel_variate(~0U) > -3.2F);
}

TEST_CASE("numbers are uniform along counters, positions and seeds") {
  constexpr std::uint32_t kCount = 1 << 18;
  for (const std::uint64_t seed : {0ULL, 1ULL, 0x7fffffffffffffffULL, ~0ULL}) {
    check_uniform([&](std::uint32_t i) { return random_bits(random_key(seed, 0), i); }, kCount);
    check_uniform([&](std::uint32_t i) { return random_bits(random_key(seed, i), 7); }, kCount);
    check_uniform([&](std::uint32_t i) { return random_bits(random_key(i, seed), 7); }, kCount);
    // Neighbours: what correlation would show as a preferred difference.
    check_uniform(
        [&](std::uint32_t i) {
          return random_bits(random_key(seed, 0), i) - random_bits(random_key(seed, 0), i + 1);
        },
        kCount);
    check_uniform(
        [&](std::uint32_t i) {
          return random_bits(random_key(seed, i), 7) ^ random_bits(random_key(seed, i + 1), 7);
        },
        kCount);
    check_uniform(
        [&](std::uint32_t i) {
          return random_bits(random_key(seed, i), i) ^ random_bits(random_key(seed, i + 1), i + 1);
        },
        kCount);
  }
}

TEST_CASE("each bit of seed, position and counter reaches each bit of the number") {
  constexpr int kTrials = 2000;
  for (int input = 0; input < 160; ++input) {
    std::array<int, 32> flips{};
    for (std::uint32_t trial = 0; trial < kTrials; ++trial) {
      std::uint64_t seed = mix64(trial);
      std::uint64_t position = mix64(seed);
      auto counter = static_cast<std::uint32_t>(mix64(position));
      const std::uint32_t before = random_bits(random_key(seed, position), counter);
      if (input < 64) {
        seed ^= 1ULL << input;
      } else if (input < 128) {
        position ^= 1ULL << (input - 64);
      } else {
        counter ^= 1U << (input - 128);
      }
      const std::uint32_t changed = before ^ random_bits(random_key(seed, position), counter);
      for (std::size_t bit = 0; bit < 32; ++bit) flips[bit] += static_cast<int>(changed >> bit & 1);
    }
    // 6 standard deviations of a fair coin.
    for (const int count : flips) CHECK(std::abs(count - kTrials / 2) < 134);
  }
}

TEST_CASE("streams with neighbouring keys are not permutations of one another") {
  // Were the key only added to the counter, the sorted values of two streams would share runs.
  std::set<std::uint32_t> first;
  for (std::uint32_t i = 0; i < 20'000; ++i) first.insert(random_bits({5, 1}, i));
  CHECK(first.size() == 20'000);  // a bijection: no number twice
  int shared = 0;
  for (std::uint32_t i = 0; i < 20'000; ++i) {
    shared += static_cast<int>(first.contains(random_bits({5, 2}, i)));
  }
  CHECK(shared < 10);  // 0.09 expected
}

TEST_CASE("derived seeds differ between requests and between runs") {
  std::set<std::uint64_t> seeds;
  for (std::uint64_t run = 0; run < 100; ++run) {
    for (std::uint64_t request = 0; request < 100; ++request) {
      seeds.insert(derive_seed(run, request));
    }
  }
  CHECK(seeds.size() == 10'000);
}

}  // namespace
}  // namespace llmrun
