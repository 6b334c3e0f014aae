#include "engine/backend/cpu/sampling_bounds.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <limits>
#include <random>
#include <vector>

#include <doctest/doctest.h>

#include "engine/core/cpu_info.h"

namespace llmrun {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

std::vector<float> normal_logits(std::size_t count, std::uint32_t seed, float stddev) {
  std::mt19937 generator(seed);
  std::normal_distribution<float> normal;
  std::vector<float> logits(count);
  for (float& logit : logits) logit = stddev * normal(generator);
  return logits;
}

TEST_CASE("bounds of large rows equal a sort") {
  for (const CpuIsa isa : supported_cpu_isas()) {
    CAPTURE(to_string(isa));
    const kernels::SamplingKernels& kernels = isa == CpuIsa::kPortable
                                                  ? kernels::sampling_portable()
                                              : isa == CpuIsa::kAvx2 ? kernels::sampling_avx2()
                                                                     : kernels::sampling_avx512();
    SamplingScratch scratch;
    for (const std::size_t n : {1UL, 5UL, 1023UL, 1025UL, 6000UL, 20'011UL}) {
      for (const float stddev : {0.01F, 1.0F, 6.0F}) {
        std::vector<float> logits = normal_logits(n, static_cast<std::uint32_t>(n), stddev);
        for (std::size_t i = 0; i < n; i += 3) logits[i] = std::round(logits[i] * 4.0F) / 4.0F;
        std::vector<float> sorted = logits;
        std::sort(sorted.begin(), sorted.end(), std::greater<>());
        for (const std::size_t k : {1UL, 2UL, 50UL, 1024UL, 5000UL, n}) {
          if (k > n) continue;
          CHECK(top_k_bound(kernels, logits, static_cast<std::int64_t>(k), scratch) ==
                sorted[k - 1]);
        }
        const SoftmaxScale scale{sorted[0], 0.8F, 1.0F / 0.8F};
        std::vector<std::uint64_t> weights(n);
        const auto count = static_cast<std::int64_t>(n);
        kernels.sum_weights(weights.data(), sorted.data(), count, scale.max,
                            scale.inverse_temperature);
        for (const std::size_t num_kept : {n, (n + 1) / 2}) {
          const float bound = num_kept == n ? -kInfinity : sorted[num_kept - 1];
          std::uint64_t total = 0;
          for (std::size_t i = 0; i < n; ++i) total += sorted[i] >= bound ? weights[i] : 0;
          for (const float top_p : {1e-9F, 0.1F, 0.5F, 0.9F, 0.999F, 0.9999999F}) {
            const double target = static_cast<double>(top_p) * static_cast<double>(total);
            std::size_t last = 0;
            for (std::uint64_t sum = weights[0]; static_cast<double>(sum) < target;) {
              sum += weights[++last];
            }
            CHECK(top_p_bound(kernels, logits, scale, top_p, bound, scratch) == sorted[last]);
          }
        }
      }
    }
  }
}

TEST_CASE("masked tokens are no candidates, and extreme logits end the search") {
  const kernels::SamplingKernels& kernels = kernels::sampling_portable();
  SamplingScratch scratch;
  std::vector<float> logits(5000, -kInfinity);
  logits[10] = 1.0F;
  logits[20] = 0.0F;
  for (const float top_p : {0.1F, 0.9F, 0.9999999F}) {
    const float expected = top_p < 0.7F ? 1.0F : 0.0F;
    CHECK(top_p_bound(kernels, logits, {1.0F, 1.0F, 1.0F}, top_p, -kInfinity, scratch) == expected);
    CHECK(top_p_bound(kernels, logits, {1.0F, 1.0F, 1.0F}, top_p, -5.0F, scratch) == expected);
  }
  CHECK(top_k_bound(kernels, logits, 2, scratch) == 0.0F);
  CHECK(top_k_bound(kernels, logits, 3, scratch) == -kInfinity);

  // Logits whose distances span the range of a float: equal ranges tell few apart.
  for (std::size_t i = 0; i < logits.size(); ++i) {
    logits[i] = -std::ldexp(1.0F, static_cast<int>(i % 250) - 125);
  }
  const float max = *std::max_element(logits.begin(), logits.end());
  const float bound = top_p_bound(kernels, logits, {max, 1.0F, 1.0F}, 0.5F, -kInfinity, scratch);
  std::vector<float> sorted = logits;
  std::sort(sorted.begin(), sorted.end(), std::greater<>());
  double total = 0;
  for (const float logit : sorted) total += std::exp(static_cast<double>(logit));
  double above = 0;
  double kept = 0;
  for (const float logit : sorted) {
    above += logit > bound ? std::exp(static_cast<double>(logit)) : 0;
    kept += logit >= bound ? std::exp(static_cast<double>(logit)) : 0;
  }
  CHECK(above < 0.5 * total);
  CHECK(kept >= 0.5 * total);
}

TEST_CASE("tokens that reach top_p exactly are enough") {
  // Two logits so close that their weights are equal: the greater half is half of the probability.
  std::vector<float> logits(128, 0.0F);
  std::fill(logits.begin() + 64, logits.end(), -1e-9F);
  SamplingScratch scratch;
  const SoftmaxScale scale{0.0F, 1.0F, 1.0F};
  for (const float bound : {-kInfinity, -1.0F}) {
    const auto find = [&](float top_p) {
      return top_p_bound(kernels::sampling_portable(), logits, scale, top_p, bound, scratch);
    };
    CHECK(find(0.5F) == 0.0F);
    CHECK(find(std::nextafter(0.5F, 1.0F)) == -1e-9F);
  }
}

}  // namespace
}  // namespace llmrun
