#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <numeric>
#include <random>
#include <vector>

#include <doctest/doctest.h>

#include "engine/backend/cpu/cpu_sampling.h"

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

std::vector<double> softmax(const std::vector<float>& logits) {
  const auto max = static_cast<double>(*std::max_element(logits.begin(), logits.end()));
  std::vector<double> result;
  for (const float logit : logits) result.push_back(std::exp(static_cast<double>(logit) - max));
  const double sum = std::accumulate(result.begin(), result.end(), 0.0);
  for (double& p : result) p /= sum;
  return result;
}

class Fixture {
 public:
  SampledToken sample_one(const std::vector<float>& logits, const SamplingRow& row) {
    const auto count = static_cast<std::int64_t>(logits.size());
    return sampler_.sample(logits.data(), count, count, {&row, 1}).front();
  }

 private:
  ThreadPool pool_{{.num_threads = 1}};
  CpuSampler sampler_{pool_, best_cpu_isa()};
};

TEST_CASE("log-probabilities are those of the raw logits") {
  const std::vector<float> logits = normal_logits(2000, 6, 4.0F);
  const std::vector<double> p = softmax(logits);
  std::vector<TokenId> order(logits.size());
  std::iota(order.begin(), order.end(), 0);
  const auto value = [&](TokenId id) { return logits[static_cast<std::size_t>(id)]; };
  std::stable_sort(order.begin(), order.end(),
                   [&](TokenId a, TokenId b) { return value(a) > value(b); });
  Fixture fixture;
  for (const std::int32_t num_logprobs : {0, 1, 5, 100, 2000, 5000}) {
    // Filters and temperature must not show.
    const SampledToken sampled = fixture.sample_one(
        logits, {.temperature = 2.0F, .top_k = 300, .position = 8, .num_logprobs = num_logprobs});
    REQUIRE(sampled.logprobs.size() == 1 + static_cast<std::size_t>(std::min(num_logprobs, 2000)));
    CHECK(sampled.logprobs[0].token_id == sampled.token_id);
    const auto place = std::find(order.begin(), order.end(), sampled.token_id) - order.begin();
    CHECK(sampled.logprobs[0].rank == place + 1);
    double sum = 0;
    for (std::size_t i = 0; i < sampled.logprobs.size(); ++i) {
      const TokenLogprob& entry = sampled.logprobs[i];
      const double exact = std::log(p[static_cast<std::size_t>(entry.token_id)]);
      CHECK(std::abs(static_cast<double>(entry.logprob) - exact) < 2e-6 * (1 + std::abs(exact)));
      if (i == 0) continue;
      CHECK(entry.token_id == order[i - 1]);
      CHECK(entry.rank == static_cast<std::int32_t>(i));
      sum += std::exp(static_cast<double>(entry.logprob));
    }
    if (num_logprobs >= 2000) CHECK(std::abs(sum - 1) < 1e-5);
  }
}

TEST_CASE("ranks count equal logits by id") {
  Fixture fixture;
  const std::vector<float> logits = {1.0F, 2.0F, -kInfinity, 2.0F, 1.0F, -kInfinity};
  const std::vector<std::int32_t> ranks = {3, 1, 5, 2, 4, 6};
  for (TokenId token = 0; token < 6; ++token) {
    const SampledToken scored =
        fixture.sample_one(logits, {.target_token = token, .num_logprobs = 6});
    CHECK(scored.token_id == token);
    CHECK(scored.logprobs[0].token_id == token);
    CHECK(scored.logprobs[0].rank == ranks[static_cast<std::size_t>(token)]);
    for (std::size_t i = 1; i <= 6; ++i) {
      CHECK(ranks[static_cast<std::size_t>(scored.logprobs[i].token_id)] == static_cast<int>(i));
    }
  }
}

}  // namespace
}  // namespace llmrun
