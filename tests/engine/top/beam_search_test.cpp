#include "engine/beam_search.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <random>
#include <vector>

#include <doctest/doctest.h>

#include "engine/core/error.h"

namespace llmrun {
namespace {

using Ids = std::vector<TokenId>;
constexpr TokenId kEos = 0;

// The next token depends on the last one and on how many there are.
class MarkovModel {
 public:
  MarkovModel(std::int32_t vocab_size, std::uint32_t seed)
      : vocab_size_(vocab_size), generator_(seed) {
    std::normal_distribution<double> normal(0, 1.5);
    for (std::int32_t i = 0; i < kMaxLength * vocab_size * vocab_size; ++i) {
      logits_.push_back(normal(generator_));
    }
  }

  std::int32_t vocab_size() const { return vocab_size_; }

  float logprob(const Ids& tokens, TokenId next) const {
    double sum = 0;
    for (TokenId id = 0; id < vocab_size_; ++id) sum += std::exp(logit(tokens, id));
    return static_cast<float>(logit(tokens, next) - std::log(sum));
  }

  // All tokens, most likely first, cut to `count`.
  std::vector<TokenLogprob> candidates(const Ids& tokens, std::int32_t count) const {
    std::vector<TokenLogprob> result;
    for (TokenId id = 0; id < vocab_size_; ++id) result.push_back({id, logprob(tokens, id), 0});
    std::sort(result.begin(), result.end(),
              [](const TokenLogprob& a, const TokenLogprob& b) { return a.logprob > b.logprob; });
    for (std::size_t i = 0; i < result.size(); ++i) result[i].rank = static_cast<int>(i) + 1;
    result.resize(std::min(result.size(), static_cast<std::size_t>(count)));
    return result;
  }

 private:
  static constexpr std::int32_t kMaxLength = 16;

  double logit(const Ids& tokens, TokenId next) const {
    const auto position = static_cast<std::int32_t>(tokens.size());
    const TokenId last = tokens.empty() ? 0 : tokens.back();
    return logits_[static_cast<std::size_t>((position * vocab_size_ + last) * vocab_size_ + next)];
  }

  std::int32_t vocab_size_;
  std::mt19937 generator_;
  std::vector<double> logits_;
};

struct Hypothesis {
  Ids tokens;
  double logprob = 0;
  bool ended = false;
};

double reference_score(const Hypothesis& hypothesis, const BeamSearch::Options& options) {
  const auto length = static_cast<double>(options.num_prompt_tokens) +
                      static_cast<double>(hypothesis.tokens.size()) - (hypothesis.ended ? 1 : 0);
  return hypothesis.logprob / std::pow(length, options.length_penalty);
}

void keep_best(std::vector<Hypothesis>& hypotheses, const BeamSearch::Options& options) {
  std::stable_sort(hypotheses.begin(), hypotheses.end(),
                   [&](const Hypothesis& a, const Hypothesis& b) {
                     return reference_score(a, options) > reference_score(b, options);
                   });
  if (std::ssize(hypotheses) > options.width) {
    hypotheses.resize(static_cast<std::size_t>(options.width));
  }
}

// vLLM's loop as it stands: every step up to the last, every completed beam remembered.
std::vector<Hypothesis> reference_search(const MarkovModel& model,
                                         const BeamSearch::Options& options) {
  std::vector<Hypothesis> running(1);
  std::vector<Hypothesis> completed;
  for (std::int64_t step = 0; step < options.max_output_tokens; ++step) {
    std::vector<Hypothesis> next;
    for (const Hypothesis& beam : running) {
      for (const TokenLogprob& candidate : model.candidates(beam.tokens, 2 * options.width)) {
        Hypothesis extended = beam;
        extended.tokens.push_back(candidate.token_id);
        extended.logprob += static_cast<double>(candidate.logprob);
        extended.ended = !options.end_token_ids.empty() && candidate.token_id == kEos;
        (extended.ended ? completed : next).push_back(extended);
      }
    }
    keep_best(next, options);
    running = next;
  }
  completed.insert(completed.end(), running.begin(), running.end());
  keep_best(completed, options);
  return completed;
}

// Runs the search as an engine does: one sequence a beam, continued from its parent's.
std::vector<BeamSearch::Beam> run(const MarkovModel& model, const BeamSearch::Options& options,
                                  std::int64_t& num_steps) {
  BeamSearch search(options);
  std::vector<Ids> sequences(1);
  num_steps = 0;
  while (!search.is_finished()) {
    std::vector<std::vector<TokenLogprob>> candidates;
    for (const Ids& sequence : sequences) {
      candidates.push_back(model.candidates(sequence, search.num_candidates()));
    }
    search.advance(candidates);
    ++num_steps;
    std::vector<Ids> next;
    for (const BeamSearch::Beam& beam : search.running()) {
      next.push_back(sequences.at(static_cast<std::size_t>(beam.parent)));
      next.back().push_back(beam.tokens.back().chosen.token_id);
      CHECK(next.back() == beam.token_ids());
    }
    sequences = next;
  }
  return search.best();
}

void check_likeliest(const MarkovModel& model, const BeamSearch::Beam& beam, std::int32_t count) {
  Ids before;
  for (const BeamSearch::Token& token : beam.tokens) {
    const std::vector<TokenLogprob> expected = model.candidates(before, count);
    if (count == 0) {
      CHECK(token.likeliest == nullptr);
      continue;
    }
    REQUIRE(token.likeliest->size() == expected.size());
    for (std::size_t k = 0; k < expected.size(); ++k) {
      CHECK(token.likeliest->at(k).token_id == expected[k].token_id);
      CHECK(token.likeliest->at(k).logprob == expected[k].logprob);
    }
    before.push_back(token.chosen.token_id);
  }
}

TEST_CASE("the result is that of the plain search, found sooner") {
  std::int64_t num_steps_saved = 0;
  for (std::uint32_t seed = 0; seed < 60; ++seed) {
    const MarkovModel model(6, seed);
    for (const std::int32_t width : {1, 2, 3, 5}) {
      for (const double length_penalty : {-1.0, 0.0, 0.6, 1.0, 2.0}) {
        for (const std::int32_t num_logprobs : {0, 3, 6}) {
          const bool has_eos = (seed + static_cast<std::uint32_t>(width)) % 3 > 0;
          BeamSearch::Options options{.width = width,
                                      .num_prompt_tokens = seed % 5 + 1,
                                      .max_output_tokens = 1 + seed % 9,
                                      .length_penalty = length_penalty,
                                      .num_logprobs = num_logprobs};
          if (has_eos) options.end_token_ids = {kEos};
          const std::vector<Hypothesis> expected = reference_search(model, options);
          std::int64_t num_steps = 0;
          const std::vector<BeamSearch::Beam> beams = run(model, options, num_steps);
          num_steps_saved += options.max_output_tokens - num_steps;
          REQUIRE(beams.size() == expected.size());
          const BeamSearch search(options);
          for (std::size_t i = 0; i < beams.size(); ++i) {
            CHECK(beams[i].token_ids() == expected[i].tokens);
            CHECK(beams[i].cumulative_logprob == expected[i].logprob);
            check_likeliest(model, beams[i], num_logprobs);
            CHECK(search.score(beams[i]) == reference_score(expected[i], options));
            CHECK(beams[i].finish_reason ==
                  (expected[i].ended ? FinishReason::kStop : FinishReason::kLength));
          }
        }
      }
    }
  }
  CHECK(num_steps_saved > 1000);
}

// All texts of at most `max_length` tokens.
void enumerate(const MarkovModel& model, std::int64_t max_length, const Hypothesis& beginning,
               std::vector<Hypothesis>& all) {
  for (TokenId id = 0; id < model.vocab_size(); ++id) {
    Hypothesis extended = beginning;
    extended.tokens.push_back(id);
    extended.logprob += static_cast<double>(model.logprob(beginning.tokens, id));
    extended.ended = id == kEos;
    if (extended.ended || std::ssize(extended.tokens) == max_length) {
      all.push_back(extended);
    } else {
      enumerate(model, max_length, extended, all);
    }
  }
}

TEST_CASE("beams enough for all texts find the best of all texts") {
  for (std::uint32_t seed = 0; seed < 20; ++seed) {
    const MarkovModel model(4, seed);
    for (const double length_penalty : {-0.5, 0.0, 1.0, 3.0}) {
      const BeamSearch::Options options{.width = 300,
                                        .num_prompt_tokens = 2,
                                        .max_output_tokens = 4,
                                        .length_penalty = length_penalty,
                                        .end_token_ids = {kEos}};
      std::vector<Hypothesis> all;
      enumerate(model, 4, {}, all);
      std::stable_sort(all.begin(), all.end(), [&](const Hypothesis& a, const Hypothesis& b) {
        return reference_score(a, options) > reference_score(b, options);
      });
      std::int64_t num_steps = 0;
      const std::vector<BeamSearch::Beam> beams = run(model, options, num_steps);
      REQUIRE(beams.size() == all.size());
      for (std::size_t i = 0; i < 10; ++i) CHECK(beams[i].token_ids() == all[i].tokens);
    }
  }
}

TEST_CASE("early_stopping ends the search with the first `width` completed beams") {
  BeamSearch search({.width = 2,
                     .num_prompt_tokens = 1,
                     .max_output_tokens = 10,
                     .length_penalty = 1.0,
                     .early_stopping = true,
                     .end_token_ids = {kEos, 9}});
  search.advance(std::vector<std::vector<TokenLogprob>>{
      {{1, -0.1F, 1}, {2, -2.0F, 2}, {9, -3.0F, 3}, {3, -4.0F, 4}}});
  CHECK_FALSE(search.is_finished());
  REQUIRE(search.running().size() == 2);
  CHECK(search.running()[0].token_ids() == Ids{1});
  CHECK(search.running()[1].token_ids() == Ids{2});
  search.advance(std::vector<std::vector<TokenLogprob>>{
      {{1, -0.1F, 1}, {kEos, -2.5F, 2}, {2, -4.0F, 3}, {3, -4.0F, 4}},
      {{1, -0.1F, 1}, {2, -4.0F, 2}, {3, -4.0F, 3}, {4, -4.0F, 4}}});
  CHECK(search.is_finished());
  const std::vector<BeamSearch::Beam> best = search.best();
  REQUIRE(best.size() == 2);
  CHECK(best[0].token_ids() == Ids{1, kEos});  // -2.6 / 2
  CHECK(best[1].token_ids() == Ids{9});        // -3 / 1
  CHECK(best[0].finish_reason == FinishReason::kStop);
  CHECK(best[0].tokens[1].chosen.rank == 2);
}

TEST_CASE("an aborted search gives the beams that run") {
  BeamSearch search({.width = 2, .num_prompt_tokens = 3, .max_output_tokens = 10});
  search.advance(std::vector<std::vector<TokenLogprob>>{{{1, -0.1F, 1}, {2, -2.0F, 2}}});
  const std::vector<BeamSearch::Beam> best = search.best();
  REQUIRE(best.size() == 2);
  CHECK(best[0].token_ids() == Ids{1});
  CHECK(best[0].finish_reason == FinishReason::kNone);
}

TEST_CASE("impossible tokens are no candidates") {
  const float impossible = -std::numeric_limits<float>::infinity();
  BeamSearch search({.width = 3, .num_prompt_tokens = 1, .max_output_tokens = 5});
  search.advance(std::vector<std::vector<TokenLogprob>>{
      {{1, 0.0F, 1}, {2, impossible, 2}, {3, impossible, 3}}});
  REQUIRE(search.running().size() == 1);
  search.advance(std::vector<std::vector<TokenLogprob>>{{{1, impossible, 1}}});
  CHECK(search.is_finished());
  CHECK(search.best().empty());
}

TEST_CASE("what only a bug can do is refused") {
  CHECK_THROWS_AS(BeamSearch({.width = 0, .max_output_tokens = 1}), Error);
  CHECK_THROWS_AS(BeamSearch({.width = 1, .max_output_tokens = 0}), Error);
  BeamSearch search({.width = 1, .max_output_tokens = 1});
  CHECK_THROWS_AS(search.advance({}), Error);
  search.advance(std::vector<std::vector<TokenLogprob>>{{{1, -1.0F, 1}}});
  CHECK(search.is_finished());
  CHECK_THROWS_AS(search.advance(std::vector<std::vector<TokenLogprob>>{}), Error);
}

}  // namespace
}  // namespace llmrun
