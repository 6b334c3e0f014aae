#include "engine/metrics/repeated_sampling.h"

#include <bit>
#include <cmath>
#include <map>
#include <vector>

#include <doctest/doctest.h>

#include "engine/metrics/statistics.h"

namespace llmrun {
namespace {

constexpr int kNone = -1;

// Answers as labels: 0 is right, 1, 2, ... are wrong ones, kNone is no answer.
std::vector<int> labels_of(const AnswerCounts& counts) {
  std::vector<int> labels(static_cast<std::size_t>(counts.right), 0);
  for (std::size_t i = 0; i < counts.wrong.size(); ++i) {
    labels.insert(labels.end(), static_cast<std::size_t>(counts.wrong[i]), static_cast<int>(i + 1));
  }
  labels.insert(labels.end(), static_cast<std::size_t>(counts.none), kNone);
  return labels;
}

struct KScores {
  double pass = 0;
  double majority = 0;
};

// Every subset of k labels, one by one.
KScores by_brute_force(const std::vector<int>& labels, int k) {
  KScores sum;
  double num_subsets = 0;
  for (unsigned subset = 0; subset < (1U << labels.size()); ++subset) {
    if (std::popcount(subset) != k) continue;
    std::map<int, int> votes;
    for (std::size_t i = 0; i < labels.size(); ++i) {
      if ((subset >> i & 1U) != 0 && labels[i] != kNone) ++votes[labels[i]];
    }
    int most = 0;
    for (const auto& [label, count] : votes) most = std::max(most, count);
    int num_leaders = 0;
    for (const auto& [label, count] : votes) num_leaders += count == most ? 1 : 0;
    num_subsets += 1;
    if (!votes.contains(0)) continue;
    sum.pass += 1;
    if (votes.at(0) == most) sum.majority += 1.0 / num_leaders;
  }
  return {sum.pass / num_subsets, sum.majority / num_subsets};
}

}  // namespace

TEST_CASE("pass@k and maj@k are the means over all subsets") {
  const std::vector<AnswerCounts> cases = {
      {.right = 3, .wrong = {2, 1}, .none = 1}, {.right = 1, .wrong = {1, 1, 1}, .none = 0},
      {.right = 0, .wrong = {4}, .none = 2},    {.right = 5, .wrong = {}, .none = 0},
      {.right = 2, .wrong = {2}, .none = 0},    {.right = 2, .wrong = {3, 3}, .none = 1},
      {.right = 0, .wrong = {}, .none = 3},     {.right = 4, .wrong = {4, 2, 1, 1}, .none = 0},
      {.right = 1, .wrong = {}, .none = 0},
  };
  for (const AnswerCounts& counts : cases) {
    const std::vector<int> labels = labels_of(counts);
    const std::vector<double> pass = pass_at_k(counts);
    const std::vector<double> majority = majority_at_k(counts);
    REQUIRE(pass.size() == labels.size());
    REQUIRE(majority.size() == labels.size());
    for (int k = 1; k <= static_cast<int>(labels.size()); ++k) {
      CAPTURE(k);
      const KScores expected = by_brute_force(labels, k);
      CHECK(pass[static_cast<std::size_t>(k - 1)] == doctest::Approx(expected.pass));
      CHECK(majority[static_cast<std::size_t>(k - 1)] == doctest::Approx(expected.majority));
    }
  }
}

TEST_CASE("many samples stay exact: one of a kind each, and all but one right") {
  AnswerCounts scattered{.right = 1, .wrong = std::vector<std::int32_t>(127, 1), .none = 0};
  CHECK(majority_at_k(scattered).back() == doctest::Approx(1.0 / 128));
  CHECK(pass_at_k(scattered)[63] == doctest::Approx(0.5));
  AnswerCounts clear{.right = 127, .wrong = {1}, .none = 0};
  CHECK(majority_at_k(clear)[0] == doctest::Approx(127.0 / 128));
  CHECK(majority_at_k(clear)[2] == doctest::Approx(1.0));
}

TEST_CASE("a vote is decided when nothing that is missing can change it") {
  // By trying every way in which the missing votes can fall, a new answer included.
  for (int a = 0; a <= 4; ++a) {
    for (int b = 0; b <= a; ++b) {
      for (int missing = 1; missing <= 5; ++missing) {
        const bool can_tie = b + missing >= a;
        CHECK(is_vote_decided(std::vector<std::int32_t>{a, b}, missing) == !can_tie);
      }
    }
  }
  CHECK(is_vote_decided({}, 0));
  CHECK(votes_needed({}, 8) == 5);
  CHECK(votes_needed({}, 1) == 1);
  CHECK(votes_needed(std::vector<std::int32_t>{4}, 4) == 1);
  CHECK(votes_needed(std::vector<std::int32_t>{5}, 4) == 0);
  CHECK(votes_needed(std::vector<std::int32_t>{2, 2}, 2) == 2);
}

TEST_CASE("standard error, Wilson's interval and the sign test") {
  std::vector<double> zeros_and_ones(100, 0.0);
  for (std::size_t i = 0; i < 30; ++i) zeros_and_ones[i] = 1.0;
  CHECK(standard_error(zeros_and_ones) == doctest::Approx(std::sqrt(0.3 * 0.7 / 99)));
  CHECK(standard_error(std::vector<double>{1.0}) == 0);
  // Newcombe 1998, table I, method 3: 81 of 263, and 0 of 20.
  CHECK(wilson_interval(81, 263).low == doctest::Approx(0.2553).epsilon(0.001));
  CHECK(wilson_interval(81, 263).high == doctest::Approx(0.3662).epsilon(0.001));
  CHECK(wilson_interval(0, 20).low == 0);
  CHECK(wilson_interval(0, 20).high == doctest::Approx(0.1611).epsilon(0.001));
  CHECK(sign_test(0, 0) == doctest::Approx(1.0));
  CHECK(sign_test(0, 5) == doctest::Approx(2.0 / 32));
  CHECK(sign_test(1, 3) == doctest::Approx(2 * 5.0 / 16));
}

}  // namespace llmrun
