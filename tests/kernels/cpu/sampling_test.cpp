#include "kernels/cpu/sampling.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <random>
#include <vector>

#include <doctest/doctest.h>

#include "engine/core/cpu_info.h"

namespace llmrun::kernels {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

std::vector<const SamplingKernels*> variants() {
  std::vector<const SamplingKernels*> result;
  for (const CpuIsa isa : supported_cpu_isas()) {
    if (isa == CpuIsa::kPortable) result.push_back(&sampling_portable());
    if (isa == CpuIsa::kAvx2) result.push_back(&sampling_avx2());
    if (isa == CpuIsa::kAvx512Bf16) result.push_back(&sampling_avx512());
  }
  return result;
}

const std::vector<std::int64_t> kSizes = {1,  2,  3,  7,  8,   9,   15,   16,  17,
                                          31, 33, 64, 65, 127, 500, 1000, 4099};

// Normal logits with some ties and some masked tokens.
std::vector<float> random_logits(std::int64_t n, std::uint32_t seed, float stddev) {
  std::mt19937 generator(seed);
  std::normal_distribution<float> normal;
  std::vector<float> logits(static_cast<std::size_t>(n));
  for (float& logit : logits) {
    const auto kind = generator() % 8;
    logit = kind == 0 ? -kInfinity : stddev * normal(generator);
    if (kind < 3 && kind > 0) logit = std::round(logit);
  }
  logits[generator() % logits.size()] = 4.0F * stddev;
  return logits;
}

TEST_CASE("max_value finds the greatest, and any NaN") {
  for (const SamplingKernels* kernels : variants()) {
    CAPTURE(kernels->name);
    CHECK(kernels->max_value(nullptr, 0) == -kInfinity);
    for (const std::int64_t n : kSizes) {
      std::vector<float> x = random_logits(n, 1, 3.0F);
      CHECK(kernels->max_value(x.data(), n) == *std::max_element(x.begin(), x.end()));
      for (const std::int64_t place : {std::int64_t{0}, n / 2, n - 1}) {
        std::vector<float> bad = x;
        bad[static_cast<std::size_t>(place)] = std::nanf("");
        CHECK(std::isnan(kernels->max_value(bad.data(), n)));
        bad[static_cast<std::size_t>(place)] = kInfinity;
        CHECK(kernels->max_value(bad.data(), n) == kInfinity);
      }
    }
  }
}

TEST_CASE("count_at_least and collect_at_least equal a plain loop") {
  for (const SamplingKernels* kernels : variants()) {
    CAPTURE(kernels->name);
    for (const std::int64_t n : kSizes) {
      const std::vector<float> x = random_logits(n, 2, 3.0F);
      for (const float bound : {-kInfinity, -3.0F, 0.0F, 2.0F, 12.0F, 12.5F, kInfinity}) {
        std::vector<std::int32_t> expected;
        for (std::int64_t i = 0; i < n; ++i) {
          if (x[static_cast<std::size_t>(i)] >= bound) {
            expected.push_back(static_cast<std::int32_t>(i));
          }
        }
        CHECK(kernels->count_at_least(x.data(), n, bound) == std::ssize(expected));
        std::vector<std::int32_t> indices(static_cast<std::size_t>(n));
        const std::int64_t count = kernels->collect_at_least(indices.data(), x.data(), n, bound);
        indices.resize(static_cast<std::size_t>(count));
        CHECK(indices == expected);
      }
    }
  }
}

TEST_CASE("weights are e^z in units of 2^-40, the same bits in every variant") {
  for (const float inverse_temperature : {0.01F, 0.7F, 1.0F, 1.0F / 0.3F, 100.0F}) {
    for (const std::int64_t n : kSizes) {
      const std::vector<float> x = random_logits(n, 3, 5.0F);
      const float max = *std::max_element(x.begin(), x.end());
      std::vector<std::uint64_t> reference(x.size());
      const std::uint64_t total =
          sampling_portable().sum_weights(reference.data(), x.data(), n, max, inverse_temperature);
      std::uint64_t sum = 0;
      for (std::size_t i = 0; i < x.size(); ++i) {
        sum += reference[i];
        const double z = static_cast<double>((x[i] - max) * inverse_temperature);
        const double exact = std::ldexp(std::exp(z), kWeightBits);
        CHECK(std::abs(static_cast<double>(reference[i]) - exact) <= 0.51 + 3e-7 * exact);
      }
      CHECK(total == sum);
      for (const SamplingKernels* kernels : variants()) {
        CAPTURE(kernels->name);
        std::vector<std::uint64_t> weights(x.size());
        CHECK(kernels->sum_weights(weights.data(), x.data(), n, max, inverse_temperature) == total);
        CHECK(weights == reference);
        CHECK(kernels->sum_weights(nullptr, x.data(), n, max, inverse_temperature) == total);
      }
    }
  }
}

TEST_CASE("a draw finds the greatest score: no token that could win is skipped") {
  std::uint32_t seed = 0;
  for (const float stddev : {0.0F, 0.5F, 3.0F, 12.0F}) {
    for (const std::int64_t n : kSizes) {
      for (int trial = 0; trial < 12; ++trial) {
        const std::vector<float> x = random_logits(n, ++seed, stddev);
        TokenDraw draw;
        draw.logits = x.data();
        draw.num_tokens = n;
        draw.max = *std::max_element(x.begin(), x.end());
        draw.bound = trial % 3 == 0 ? draw.max - stddev : -kInfinity;
        draw.inverse_temperature = trial % 2 == 0 ? 1.0F : 2.5F;
        draw.key = random_key(seed, 17);
        ScoredToken expected{-kInfinity, -1};
        for (std::int32_t id = 0; id < n; ++id) {
          if (x[static_cast<std::size_t>(id)] < draw.bound) continue;
          const float score = token_score(draw, id);
          if (score > expected.score) expected = {score, id};
        }
        // Whatever token the search starts from.
        const auto start =
            static_cast<std::int32_t>(std::max_element(x.begin(), x.end()) - x.begin());
        for (const SamplingKernels* kernels : variants()) {
          CAPTURE(kernels->name);
          const ScoredToken drawn = kernels->draw(draw, {token_score(draw, start), start});
          CHECK(drawn.id == expected.id);
          CHECK(drawn.score == expected.score);
        }
      }
    }
  }
}

TEST_CASE("of equal scores the lower id wins") {
  // Identical logits and a temperature so low that the noise is lost in the rounding of z.
  const std::vector<float> x(100, -1.0F);
  TokenDraw draw;
  draw.logits = x.data();
  draw.num_tokens = 100;
  draw.max = 1e9F;
  draw.inverse_temperature = 1e9F;
  draw.bound = -kInfinity;
  const float score = token_score(draw, 0);
  for (std::int32_t id = 1; id < 100; ++id) CHECK(token_score(draw, id) == score);
  for (const SamplingKernels* kernels : variants()) {
    CAPTURE(kernels->name);
    CHECK(kernels->draw(draw, {score, 40}).id == 0);
    CHECK(kernels->draw(draw, {score, 0}).id == 0);
  }
}

}  // namespace
}  // namespace llmrun::kernels
