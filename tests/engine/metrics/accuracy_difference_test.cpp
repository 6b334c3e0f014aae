#include "engine/metrics/accuracy_difference.h"

#include <random>
#include <vector>

#include <doctest/doctest.h>

namespace llmrun {

TEST_CASE("paired accuracies: Agresti and Min's interval by hand") {
  // 100 questions: 60 right on both sides, 12 only in base, 4 only in new, 24 on neither.
  std::vector<double> base, changed;
  const auto add = [&](int count, double before, double after) {
    base.insert(base.end(), static_cast<std::size_t>(count), before);
    changed.insert(changed.end(), static_cast<std::size_t>(count), after);
  };
  add(60, 1, 1);
  add(12, 1, 0);
  add(4, 0, 1);
  add(24, 0, 0);
  const AccuracyDifference result = difference_of_pairs(base, changed);
  CHECK(result.difference == doctest::Approx(-0.08));
  // (4.5 - 12.5) / 102 -+ 1.96 sqrt(17 - 8^2 / 102) / 102
  CHECK(result.low == doctest::Approx(-0.1562).epsilon(0.001));
  CHECK(result.high == doctest::Approx(-0.0007).epsilon(0.1));
  // Equal answers leave a doubt that shrinks with their number.
  const AccuracyDifference equal = difference_of_pairs(base, base);
  CHECK(equal.difference == 0);
  CHECK(equal.low == doctest::Approx(-1.96 / 102).epsilon(0.001));
  CHECK(equal.high == -equal.low);
  CHECK(difference_of_pairs({}, {}).high == doctest::Approx(0.98).epsilon(0.01));
}

TEST_CASE("accuracies without their questions: Newcombe's published examples") {
  // Newcombe 1998, method 10: 56/70 - 48/80 and 9/10 - 3/10.
  const AccuracyDifference many = difference_of_shares(48.0 / 80, 80, 56.0 / 70, 70);
  CHECK(many.difference == doctest::Approx(0.2));
  CHECK(many.low == doctest::Approx(0.0524).epsilon(0.001));
  CHECK(many.high == doctest::Approx(0.3339).epsilon(0.001));
  const AccuracyDifference few = difference_of_shares(0.3, 10, 0.9, 10);
  CHECK(few.low == doctest::Approx(0.1705).epsilon(0.001));
  CHECK(few.high == doctest::Approx(0.8090).epsilon(0.001));
}

TEST_CASE("the interval of paired accuracies holds the true difference 95 times of 100") {
  std::mt19937_64 random(3);
  std::uniform_real_distribution<double> uniform(0, 1);
  constexpr int kEvaluations = 2000;
  int num_inside = 0;
  for (int i = 0; i < kEvaluations; ++i) {
    std::vector<double> base, changed;
    for (int question = 0; question < 200; ++question) {
      const double kind = uniform(random);  // 4 % right only before, 1 % only after
      base.push_back(kind < 0.84 ? 1 : 0);
      changed.push_back(kind < 0.80 || kind >= 0.99 ? 1 : 0);
    }
    const AccuracyDifference result = difference_of_pairs(base, changed);
    num_inside += result.low <= -0.03 && -0.03 <= result.high ? 1 : 0;
  }
  CHECK(num_inside >= 0.93 * kEvaluations);
  CHECK(num_inside <= 0.98 * kEvaluations);
}

}  // namespace llmrun
