#include "engine/backend/cpu/cpu_sampling.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <map>
#include <numeric>
#include <random>
#include <vector>

#include <doctest/doctest.h>

#include "engine/core/error.h"

namespace llmrun {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

std::vector<float> normal_logits(std::size_t count, std::uint32_t seed, float stddev = 2.0F) {
  std::mt19937 generator(seed);
  std::normal_distribution<float> normal;
  std::vector<float> logits(count);
  for (float& logit : logits) logit = stddev * normal(generator);
  return logits;
}

// What the slot of a row has seen, for the reference.
struct History {
  std::vector<TokenId> prompt;
  std::vector<TokenId> output;
};

// The logits after masks, biases and penalties, from the definitions (vLLM's) in plain loops.
std::vector<double> reference_logits(const std::vector<float>& logits, const SamplingRow& row,
                                     const History& history) {
  std::vector<double> result(logits.begin(), logits.end());
  for (std::size_t id = 0; id < result.size(); ++id) {
    const auto token = static_cast<TokenId>(id);
    const auto has = [token](const auto& list) {
      return std::find(list.begin(), list.end(), token) != list.end();
    };
    if (!row.allowed_token_ids.empty() && !has(row.allowed_token_ids)) result[id] = -HUGE_VAL;
    if (has(row.banned_token_ids)) result[id] = -HUGE_VAL;
    for (const auto& [biased, bias] : row.logit_bias) {
      if (biased == token) result[id] += static_cast<double>(bias);
    }
    const auto count = std::count(history.output.begin(), history.output.end(), token);
    if (count > 0 || has(history.prompt)) {
      const auto penalty = static_cast<double>(row.repetition_penalty);
      result[id] = result[id] > 0 ? result[id] / penalty : result[id] * penalty;
    }
    result[id] -= static_cast<double>(row.frequency_penalty) * static_cast<double>(count);
    if (count > 0) result[id] -= static_cast<double>(row.presence_penalty);
  }
  return result;
}

std::vector<double> softmax(const std::vector<double>& logits) {
  const double max = *std::max_element(logits.begin(), logits.end());
  std::vector<double> result;
  for (const double logit : logits) result.push_back(std::exp(logit - max));
  const double sum = std::accumulate(result.begin(), result.end(), 0.0);
  for (double& p : result) p /= sum;
  return result;
}

void drop_unlisted(std::vector<double>& logits, const std::vector<bool>& kept) {
  for (std::size_t i = 0; i < logits.size(); ++i) {
    if (!kept[i]) logits[i] = -HUGE_VAL;
  }
}

// Probability of each token: each filter by its definition over sorted probabilities, as Hugging
// Face's logits processors do it, except that equal logits stay together.
std::vector<double> reference_probabilities(const std::vector<float>& raw, const SamplingRow& row,
                                            const History& history = {}) {
  std::vector<double> logits = reference_logits(raw, row, history);
  for (double& logit : logits) logit /= static_cast<double>(row.temperature);
  std::vector<bool> kept(logits.size(), true);

  std::vector<double> p = softmax(logits);
  const double p_max = *std::max_element(p.begin(), p.end());
  for (std::size_t i = 0; i < p.size(); ++i) {
    kept[i] = p[i] >= static_cast<double>(row.min_p) * p_max * (1 - 1e-6);
  }
  drop_unlisted(logits, kept);
  if (row.top_k > 0 && static_cast<std::size_t>(row.top_k) < logits.size()) {
    std::vector<double> sorted = logits;
    std::sort(sorted.begin(), sorted.end(), std::greater<>());
    const double kth = sorted[static_cast<std::size_t>(row.top_k) - 1];
    for (std::size_t i = 0; i < p.size(); ++i) kept[i] = logits[i] >= kth;
    drop_unlisted(logits, kept);
  }
  p = softmax(logits);
  for (std::size_t i = 0; i < p.size(); ++i) {
    double greater = 0;
    for (std::size_t j = 0; j < p.size(); ++j) greater += logits[j] > logits[i] ? p[j] : 0.0;
    kept[i] = greater < static_cast<double>(row.top_p);
  }
  drop_unlisted(logits, kept);
  return softmax(logits);
}

class Fixture {
 public:
  explicit Fixture(std::int32_t num_threads = 1, CpuIsa isa = best_cpu_isa())
      : pool_({.num_threads = num_threads}), sampler_(pool_, isa) {}

  CpuSampler& sampler() { return sampler_; }

  SampledToken sample_one(const std::vector<float>& logits, const SamplingRow& row) {
    const auto count = static_cast<std::int64_t>(logits.size());
    return sampler_.sample(logits.data(), count, count, {&row, 1}).front();
  }

  // The tokens of `num_draws` rows that differ in their position only.
  std::vector<TokenId> draw_many(const std::vector<float>& logits, SamplingRow row,
                                 std::size_t num_draws) {
    std::vector<TokenId> tokens;
    for (std::size_t i = 0; i < num_draws; ++i, ++row.position) {
      tokens.push_back(sample_one(logits, row).token_id);
    }
    return tokens;
  }

 private:
  ThreadPool pool_;
  CpuSampler sampler_;
};

// Standard score of the chi-square statistic of `counts` (Wilson and Hilferty); cells that expect
// fewer than 5 are merged. 3.72 is p = 1e-4.
double chi_square_score(const std::vector<double>& counts, const std::vector<double>& p) {
  const double total = std::accumulate(counts.begin(), counts.end(), 0.0);
  double chi_square = 0;
  double degrees = -1;
  double rare_expected = 0;
  double rare_observed = 0;
  const auto add = [&](double observed, double expected) {
    chi_square += (observed - expected) * (observed - expected) / expected;
    degrees += 1;
  };
  for (std::size_t i = 0; i < p.size(); ++i) {
    if (p[i] * total >= 5) {
      add(counts[i], p[i] * total);
    } else {
      rare_expected += p[i] * total;
      rare_observed += counts[i];
    }
  }
  if (rare_expected >= 5) add(rare_observed, rare_expected);
  if (degrees < 1) return 0;
  const double variance = 2.0 / (9.0 * degrees);
  return (std::cbrt(chi_square / degrees) - (1.0 - variance)) / std::sqrt(variance);
}

struct NamedRow {
  const char* name;
  SamplingRow row;
};

const std::vector<TokenId> kAllowed = {1, 4, 9, 16, 25, 36};
const std::vector<TokenId> kBanned = {0, 5, 10, 15, 20, 40};
const std::vector<std::pair<TokenId, float>> kBias = {{3, 2.0F}, {4, -100.0F}, {5, 1.5F}};

// 24 parameter sets: each parameter alone, at its ends, and in combination.
std::vector<NamedRow> parameter_sets() {
  return {
      {"plain", {}},
      {"cold", {.temperature = 0.3F}},
      {"hot", {.temperature = 3.0F}},
      {"hottest", {.temperature = 100.0F}},
      {"top_k 1", {.top_k = 1}},
      {"top_k 7", {.top_k = 7}},
      {"top_k all but one", {.top_k = 40}},
      {"top_k beyond the vocabulary", {.top_k = 1000}},
      {"top_k -1", {.top_k = -1}},
      {"top_p 0.5", {.top_p = 0.5F}},
      {"top_p 0.95", {.top_p = 0.95F}},
      {"top_p 0.999", {.top_p = 0.999F}},
      {"top_p tiny", {.top_p = 1e-6F}},
      {"min_p 0.05", {.min_p = 0.05F}},
      {"min_p 0.5", {.min_p = 0.5F}},
      {"min_p 1", {.min_p = 1.0F}},
      {"top_k and top_p", {.top_p = 0.8F, .top_k = 12}},
      {"all filters", {.temperature = 1.7F, .top_p = 0.9F, .min_p = 0.02F, .top_k = 20}},
      {"hot with top_p", {.temperature = 2.0F, .top_p = 0.7F}},
      {"bias", {.logit_bias = kBias}},
      {"allowed", {.allowed_token_ids = kAllowed}},
      {"banned", {.top_p = 0.9F, .banned_token_ids = kBanned}},
      {"allowed, banned and biased",
       {.top_k = 4,
        .logit_bias = kBias,
        .allowed_token_ids = kAllowed,
        .banned_token_ids = kBanned}},
      {"greatest seed", {.temperature = 0.7F, .top_p = 0.95F, .top_k = 20, .seed = ~0ULL}},
  };
}

TEST_CASE("tokens are drawn with the probabilities the parameters define") {
  const std::vector<NamedRow> sets = parameter_sets();
  REQUIRE(sets.size() == 24);
  constexpr std::size_t kDraws = 100'000;  // 2.4 million in all
  const std::vector<float> logits = normal_logits(41, 7);
  Fixture fixture;
  for (std::size_t s = 0; s < sets.size(); ++s) {
    CAPTURE(sets[s].name);
    SamplingRow row = sets[s].row;
    if (row.seed == 0) row.seed = s;
    const std::vector<double> p = reference_probabilities(logits, row);
    std::vector<double> counts(logits.size());
    for (const TokenId token : fixture.draw_many(logits, row, kDraws)) {
      counts[static_cast<std::size_t>(token)] += 1;
    }
    for (std::size_t i = 0; i < p.size(); ++i) {
      if (p[i] == 0) CHECK(counts[i] == 0);
    }
    CHECK(chi_square_score(counts, p) < 3.72);
  }
}

TEST_CASE("the alarm rings for probabilities that are slightly wrong") {
  const std::vector<float> logits = normal_logits(41, 7);
  Fixture fixture;
  std::vector<double> counts(logits.size());
  for (const TokenId token : fixture.draw_many(logits, {.temperature = 1.03F}, 50'000)) {
    counts[static_cast<std::size_t>(token)] += 1;
  }
  CHECK(chi_square_score(counts, reference_probabilities(logits, {})) > 3.72);
}

TEST_CASE("draws along seeds are as good as draws along positions") {
  const std::vector<float> logits = normal_logits(41, 8);
  Fixture fixture;
  std::vector<double> counts(logits.size());
  for (std::uint64_t seed = 0; seed < 50'000; ++seed) {
    counts[static_cast<std::size_t>(
        fixture.sample_one(logits, {.seed = seed, .position = 3}).token_id)] += 1;
  }
  CHECK(chi_square_score(counts, reference_probabilities(logits, {})) < 3.72);
}

TEST_CASE("successive tokens are independent") {
  const std::vector<float> logits = normal_logits(6, 9, 0.7F);
  Fixture fixture;
  const std::vector<TokenId> tokens = fixture.draw_many(logits, {.seed = 11}, 60'001);
  const std::vector<double> p = reference_probabilities(logits, {});
  std::vector<double> pair_counts(36);
  std::vector<double> pair_p;
  for (std::size_t i = 0; i + 1 < tokens.size(); i += 2) {
    pair_counts[static_cast<std::size_t>(tokens[i] * 6 + tokens[i + 1])] += 1;
  }
  for (const double first : p) {
    for (const double second : p) pair_p.push_back(first * second);
  }
  CHECK(chi_square_score(pair_counts, pair_p) < 3.72);
}

TEST_CASE("penalties, biases and masks equal a plain reference") {
  std::mt19937 generator(5);
  const auto uniform = [&](float low, float high) {
    return std::uniform_real_distribution<float>(low, high)(generator);
  };
  constexpr std::int32_t kVocabSize = 67;
  const auto random_tokens = [&](std::size_t max_count) {
    std::vector<TokenId> tokens(generator() % (max_count + 1));
    for (TokenId& token : tokens) token = static_cast<TokenId>(generator() % kVocabSize);
    return tokens;
  };
  Fixture fixture;
  for (std::uint32_t trial = 0; trial < 300; ++trial) {
    CAPTURE(trial);
    const std::int32_t slot = static_cast<std::int32_t>(trial % 5);
    History history{random_tokens(30), random_tokens(30)};
    const std::vector<TokenId> banned = random_tokens(trial % 3 * 4);
    const std::vector<TokenId> allowed =
        trial % 4 == 0 ? random_tokens(40) : std::vector<TokenId>{};
    std::vector<std::pair<TokenId, float>> bias;
    for (TokenId id : random_tokens(5)) bias.emplace_back(id, uniform(-3, 3));
    SamplingRow row{.slot = slot, .temperature = 0.0F};
    row.repetition_penalty = uniform(0.5F, 2.0F);
    row.frequency_penalty = uniform(-2.0F, 2.0F);
    row.presence_penalty = uniform(-2.0F, 2.0F);
    row.banned_token_ids = banned;
    row.allowed_token_ids = allowed;
    row.logit_bias = bias;
    fixture.sampler().reset_penalty_state(slot, history.prompt, history.output);
    // Greedy decoding, so that the sampler's own counting is compared too.
    for (int step = 0; step < 20; ++step) {
      const std::vector<float> logits =
          normal_logits(kVocabSize, trial * 100 + static_cast<std::uint32_t>(step));
      const std::vector<double> expected = reference_logits(logits, row, history);
      const auto best = std::max_element(expected.begin(), expected.end());
      const SampledToken sampled = fixture.sample_one(logits, row);
      if (*best == -HUGE_VAL) {
        CHECK_FALSE(sampled.is_finite);
        CHECK(sampled.token_id == -1);
        break;
      }
      CHECK(sampled.token_id == best - expected.begin());
      CHECK(fixture.sampler().feedback_token(slot) == sampled.token_id);
      history.output.push_back(sampled.token_id);
    }
  }
}

TEST_CASE("a penalised draw has the probabilities of the reference") {
  const std::vector<float> logits = normal_logits(41, 12);
  const History history{{1, 2, 3, 3, 8}, {8, 9, 9, 9, 30}};
  SamplingRow row{.temperature = 0.9F, .top_p = 0.95F, .seed = 77};
  row.repetition_penalty = 1.3F;
  row.frequency_penalty = 0.4F;
  row.presence_penalty = -0.5F;
  Fixture fixture;
  std::vector<double> counts(logits.size());
  for (std::uint64_t i = 0; i < 50'000; ++i) {
    row.position = i;
    fixture.sampler().reset_penalty_state(0, history.prompt, history.output);
    counts[static_cast<std::size_t>(fixture.sample_one(logits, row).token_id)] += 1;
  }
  CHECK(chi_square_score(counts, reference_probabilities(logits, row, history)) < 3.72);
}

TEST_CASE("greedy takes the greatest logit, the lowest id on a tie") {
  Fixture fixture;
  std::vector<float> logits = normal_logits(5000, 1, 1.0F);
  logits[4998] = logits[2047] = logits[2048] = 50.0F;
  CHECK(fixture.sample_one(logits, {.temperature = 0.0F}).token_id == 2047);
  CHECK(fixture.sample_one(logits, {.temperature = 1e-6F}).token_id == 2047);
  CHECK(fixture.sample_one(logits, {.temperature = 0.0F, .seed = 9, .position = 4}).token_id ==
        2047);
  logits.assign(40, -3.0F);
  CHECK(fixture.sample_one(logits, {.temperature = 0.0F}).token_id == 0);
  CHECK(fixture.sample_one({1.0F}, {.temperature = 0.0F}).token_id == 0);
}

TEST_CASE("equal logits are kept or dropped together") {
  Fixture fixture;
  const std::vector<float> logits = {1.0F, 3.0F, 2.0F, 3.0F, 2.0F, 2.0F, -1.0F};
  const auto drawn = [&](const SamplingRow& row) {
    std::map<TokenId, int> counts;
    for (const TokenId token : fixture.draw_many(logits, row, 2000)) ++counts[token];
    std::vector<TokenId> tokens;
    for (const auto& [token, count] : counts) tokens.push_back(token);
    return tokens;
  };
  CHECK(drawn({.top_k = 1}) == std::vector<TokenId>{1, 3});
  CHECK(drawn({.top_k = 2}) == std::vector<TokenId>{1, 3});
  CHECK(drawn({.top_k = 3}) == std::vector<TokenId>{1, 2, 3, 4, 5});
  CHECK(drawn({.top_p = 0.01F}) == std::vector<TokenId>{1, 3});
  CHECK(drawn({.top_p = 0.7F}) == std::vector<TokenId>{1, 2, 3, 4, 5});
  CHECK(drawn({.min_p = 1.0F}) == std::vector<TokenId>{1, 3});
}

TEST_CASE("rows that are not numbers fail, and only they") {
  Fixture fixture;
  constexpr std::size_t kVocabSize = 33;
  const float nan = std::nanf("");
  std::vector<std::vector<float>> rows_logits(6, normal_logits(kVocabSize, 3));
  rows_logits[1][32] = nan;
  rows_logits[2][0] = kInfinity;
  rows_logits[3].assign(kVocabSize, -kInfinity);
  rows_logits[4].assign(kVocabSize, -kInfinity);
  rows_logits[4][20] = -5.0F;
  std::vector<float> logits;
  for (const auto& row : rows_logits) logits.insert(logits.end(), row.begin(), row.end());
  for (const float temperature : {0.0F, 1.0F}) {
    for (const std::int32_t top_k : {0, 5}) {
      for (const float top_p : {1.0F, 0.5F}) {
        std::vector<SamplingRow> rows(6);
        for (std::size_t r = 0; r < 6; ++r) {
          rows[r] = {.slot = static_cast<std::int32_t>(r),
                     .temperature = temperature,
                     .top_p = top_p,
                     .top_k = top_k,
                     .num_logprobs = 2};
        }
        const auto sampled = fixture.sampler().sample(logits.data(), kVocabSize, kVocabSize, rows);
        for (const std::size_t bad : {1UL, 2UL, 3UL}) {
          CHECK_FALSE(sampled[bad].is_finite);
          CHECK(sampled[bad].token_id == -1);
          CHECK(sampled[bad].logprobs.empty());
        }
        CHECK(sampled[0].is_finite);
        CHECK(sampled[0].token_id == sampled[5].token_id);
        CHECK(sampled[4].token_id == 20);
        CHECK(sampled[4].logprobs[0].logprob == 0.0F);
        CHECK(sampled[4].logprobs[0].rank == 1);
        CHECK(sampled[4].logprobs[2].logprob == -kInfinity);
      }
    }
  }
  SUBCASE("an infinity is found even under a mask, and a bias to infinity too") {
    const std::vector<TokenId> banned = {0};
    CHECK_FALSE(fixture.sample_one(rows_logits[2], {.banned_token_ids = banned}).is_finite);
    const std::vector<std::pair<TokenId, float>> bias = {{2, kInfinity}};
    CHECK_FALSE(fixture.sample_one(rows_logits[0], {.logit_bias = bias}).is_finite);
  }
  SUBCASE("everything banned") {
    std::vector<TokenId> banned(kVocabSize);
    std::iota(banned.begin(), banned.end(), 0);
    const SampledToken sampled = fixture.sample_one(rows_logits[0], {.banned_token_ids = banned});
    CHECK_FALSE(sampled.is_finite);
    CHECK(sampled.token_id == -1);
  }
}

TEST_CASE("one token, one allowed token, padding") {
  Fixture fixture;
  for (std::uint64_t position = 0; position < 50; ++position) {
    CHECK(fixture.sample_one({-7.5F}, {.top_p = 0.3F, .top_k = 3, .position = position}).token_id ==
          0);
  }
  const std::vector<TokenId> allowed = {13, 13};
  CHECK(fixture.sample_one(normal_logits(40, 2), {.top_p = 0.9F, .allowed_token_ids = allowed})
            .token_id == 13);
  // 30 real tokens, 10 columns of padding that would win, be NaN, or shift a probability.
  std::vector<float> logits = normal_logits(40, 2);
  std::fill(logits.begin() + 30, logits.end(), 100.0F);
  logits[39] = std::nanf("");
  for (std::uint64_t position = 0; position < 500; ++position) {
    const SamplingRow row{
        .temperature = 5.0F, .top_p = 0.99F, .position = position, .num_logprobs = 40};
    const SampledToken sampled = fixture.sampler().sample(logits.data(), 40, 30, {&row, 1}).front();
    CHECK(sampled.token_id < 30);
    CHECK(sampled.logprobs.size() == 31);
  }
}

// Rows of all kinds over random logits.
struct MixedBatch {
  static constexpr std::int64_t kVocabSize = 3001;
  static constexpr std::size_t kRows = 40;
  std::vector<float> logits = normal_logits(kRows * kVocabSize, 21, 3.0F);
  std::vector<SamplingRow> rows;

  MixedBatch() {
    for (std::size_t r = 0; r < kRows; ++r) {
      SamplingRow row{.slot = static_cast<std::int32_t>(r), .seed = r * 7, .position = r % 5};
      row.temperature = r % 4 == 0 ? 0.0F : 0.5F + static_cast<float>(r % 7) / 4.0F;
      row.top_k = r % 3 == 0 ? 20 : 0;
      row.top_p = r % 5 < 2 ? 0.9F : 1.0F;
      row.min_p = r % 6 == 1 ? 0.01F : 0.0F;
      row.num_logprobs = r % 4 == 1 ? 5 : -1;
      row.repetition_penalty = r % 7 == 2 ? 1.2F : 1.0F;
      if (r % 11 == 3) row.target_token = 12;
      if (r % 13 == 5) row.banned_token_ids = kBanned;
      rows.push_back(row);
    }
  }

  std::vector<SampledToken> run(Fixture& fixture, const std::vector<std::size_t>& order) const {
    std::vector<float> ordered_logits;
    std::vector<SamplingRow> ordered_rows;
    for (const std::size_t r : order) {
      const auto begin = logits.begin() + static_cast<std::ptrdiff_t>(r) * kVocabSize;
      ordered_logits.insert(ordered_logits.end(), begin, begin + kVocabSize);
      ordered_rows.push_back(rows[r]);
      const std::vector<TokenId> prompt = {5, 6, static_cast<TokenId>(r)};
      fixture.sampler().reset_penalty_state(rows[r].slot, prompt, {});
    }
    return fixture.sampler().sample(ordered_logits.data(), kVocabSize, kVocabSize, ordered_rows);
  }
};

void check_same(const SampledToken& a, const SampledToken& b) {
  CHECK(a.token_id == b.token_id);
  CHECK(a.is_finite == b.is_finite);
  REQUIRE(a.logprobs.size() == b.logprobs.size());
  for (std::size_t i = 0; i < a.logprobs.size(); ++i) {
    CHECK(a.logprobs[i].token_id == b.logprobs[i].token_id);
    CHECK(a.logprobs[i].logprob == b.logprobs[i].logprob);
    CHECK(a.logprobs[i].rank == b.logprobs[i].rank);
  }
}

TEST_CASE("I25: a row's token depends on nothing but its seed, position and logits") {
  const MixedBatch batch;
  std::vector<std::size_t> order(MixedBatch::kRows);
  std::iota(order.begin(), order.end(), std::size_t{0});
  Fixture reference(1, CpuIsa::kPortable);
  const std::vector<SampledToken> expected = batch.run(reference, order);

  for (const CpuIsa isa : supported_cpu_isas()) {
    for (const std::int32_t num_threads : {1, 2, 5}) {
      CAPTURE(to_string(isa));
      CAPTURE(num_threads);
      Fixture fixture(num_threads, isa);
      const std::vector<SampledToken> sampled = batch.run(fixture, order);
      for (std::size_t r = 0; r < order.size(); ++r) check_same(sampled[r], expected[r]);
    }
  }
  SUBCASE("in another order") {
    std::shuffle(order.begin(), order.end(), std::mt19937(3));
    const std::vector<SampledToken> sampled = batch.run(reference, order);
    for (std::size_t i = 0; i < order.size(); ++i) check_same(sampled[i], expected[order[i]]);
  }
  SUBCASE("alone") {
    for (std::size_t r = 0; r < order.size(); ++r) {
      check_same(batch.run(reference, {r}).front(), expected[r]);
    }
  }
}

TEST_CASE("seeds and positions each change the draw; 0 and the greatest are seeds like others") {
  const std::vector<float> logits = normal_logits(1000, 4, 0.1F);
  Fixture fixture;
  std::vector<std::vector<TokenId>> runs;
  for (const std::uint64_t seed : {0ULL, 1ULL, 0x7fffffffffffffffULL, ~0ULL}) {
    runs.push_back(fixture.draw_many(logits, {.seed = seed}, 20));
    CHECK(runs.back() == fixture.draw_many(logits, {.seed = seed}, 20));
    CHECK(std::count(runs.back().begin(), runs.back().end(), runs.back()[0]) < 3);
  }
  for (std::size_t i = 0; i < runs.size(); ++i) {
    for (std::size_t j = 0; j < i; ++j) CHECK(runs[i] != runs[j]);
  }
}

TEST_CASE("scoring a target changes no state") {
  Fixture fixture;
  std::vector<float> logits(50, 0.0F);
  logits[7] = 1.0F;
  SamplingRow row{.temperature = 0.0F};
  row.presence_penalty = 2.0F;
  SamplingRow target = row;
  target.target_token = 49;
  fixture.sampler().reset_penalty_state(0, {}, {});
  CHECK(fixture.sample_one(logits, row).token_id == 7);
  CHECK(fixture.sample_one(logits, target).token_id == 49);
  CHECK(fixture.sampler().feedback_token(0) == 7);
  logits[49] = 1.5F;
  CHECK(fixture.sample_one(logits, row).token_id == 49);  // not penalised before
  CHECK(fixture.sample_one(logits, row).token_id == 0);   // now it is, and token 7 still
}

TEST_CASE("what only a bug can ask is refused") {
  Fixture fixture;
  const std::vector<float> logits = normal_logits(10, 3);
  const std::vector<TokenId> outside = {10};
  const std::vector<std::pair<TokenId, float>> bias = {{-1, 1.0F}};
  SamplingRow no_state{.slot = 3};
  no_state.repetition_penalty = 2.0F;
  CHECK_THROWS_AS(fixture.sample_one(logits, {.banned_token_ids = outside}), Error);
  CHECK_THROWS_AS(fixture.sample_one(logits, {.allowed_token_ids = outside}), Error);
  CHECK_THROWS_AS(fixture.sample_one(logits, {.logit_bias = bias}), Error);
  CHECK_THROWS_AS(fixture.sample_one(logits, {.target_token = 10, .num_logprobs = 0}), Error);
  CHECK_THROWS_AS(fixture.sample_one(logits, no_state), Error);
  CHECK_THROWS_AS(fixture.sampler().feedback_token(5), Error);
}

}  // namespace
}  // namespace llmrun
