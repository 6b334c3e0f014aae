#include "engine/metrics/accuracy_difference.h"

#include <algorithm>
#include <cmath>

#include "engine/core/error.h"
#include "engine/metrics/statistics.h"

namespace llmrun {

AccuracyDifference difference_of_pairs(std::span<const double> base,
                                       std::span<const double> changed) {
  LLMRUN_CHECK(base.size() == changed.size());
  constexpr double kNormal975 = 1.959964;
  double sum = 0;
  double sum_of_squares = 0;
  for (std::size_t i = 0; i < base.size(); ++i) {
    const double difference = changed[i] - base[i];
    sum += difference;
    sum_of_squares += difference * difference;
  }
  const auto n = static_cast<double>(base.size());
  // The two pairs: a half each of +1 and -1, and one without a difference.
  const double mean = sum / (n + 2);
  const double variance = (sum_of_squares + 1) / (n + 2) - mean * mean;
  const double half_width = kNormal975 * std::sqrt(variance / (n + 2));
  return {.difference = n > 0 ? sum / n : 0.0,
          .low = std::max(mean - half_width, -1.0),
          .high = std::min(mean + half_width, 1.0)};
}

AccuracyDifference difference_of_shares(double base, double base_questions, double changed,
                                        double changed_questions) {
  const Interval before = wilson_interval(base * base_questions, base_questions);
  const Interval after = wilson_interval(changed * changed_questions, changed_questions);
  const double difference = changed - base;
  return {.difference = difference,
          .low = difference - std::hypot(changed - after.low, before.high - base),
          .high = difference + std::hypot(after.high - changed, base - before.low)};
}

}  // namespace llmrun
