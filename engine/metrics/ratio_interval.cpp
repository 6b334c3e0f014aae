#include "engine/metrics/ratio_interval.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "engine/core/error.h"
#include "engine/metrics/statistics.h"

namespace llmrun {
namespace {

std::vector<double> logarithms(std::span<const double> samples) {
  std::vector<double> logs;
  logs.reserve(samples.size());
  for (const double sample : samples) {
    LLMRUN_CHECK(sample > 0);
    logs.push_back(std::log(sample));
  }
  return logs;
}

RatioInterval interval_of_logs(double middle, double low, double high) {
  return {.ratio = std::exp(middle), .low = std::exp(low), .high = std::exp(high)};
}

// Squared standard error of the mean.
double squared_error(const SampleStatistics& statistics) {
  return statistics.std * statistics.std / static_cast<double>(statistics.count);
}

// Welch and Satterthwaite's, rounded down.
std::int64_t degrees_of_freedom(const SampleStatistics& a, const SampleStatistics& b) {
  const double error_a = squared_error(a);
  const double error_b = squared_error(b);
  const double below = error_a * error_a / static_cast<double>(a.count - 1) +
                       error_b * error_b / static_cast<double>(b.count - 1);
  if (below <= 0) return a.count + b.count - 2;
  const double degrees = (error_a + error_b) * (error_a + error_b) / below;
  constexpr double kRoundingError = 1e-9;
  return std::max<std::int64_t>(1, static_cast<std::int64_t>(degrees + kRoundingError));
}

}  // namespace

std::optional<RatioInterval> ratio_of_means(std::span<const double> base,
                                            std::span<const double> changed) {
  if (base.size() < 2 || changed.size() < 2) return std::nullopt;
  const SampleStatistics a = summarize(logarithms(base));
  const SampleStatistics b = summarize(logarithms(changed));
  const double middle = b.mean - a.mean;
  const double half_width =
      student_t_975(degrees_of_freedom(a, b)) * std::sqrt(squared_error(a) + squared_error(b));
  return interval_of_logs(middle, middle - half_width, middle + half_width);
}

std::optional<RatioInterval> ratio_of_pairs(std::span<const double> base,
                                            std::span<const double> changed) {
  LLMRUN_CHECK(base.size() == changed.size());
  const auto n = static_cast<std::int64_t>(base.size());
  const std::int64_t critical = signed_rank_critical_value(n);
  if (critical < 0) return std::nullopt;
  std::vector<double> differences = logarithms(changed);
  const std::vector<double> before = logarithms(base);
  for (std::size_t i = 0; i < differences.size(); ++i) differences[i] -= before[i];
  std::vector<double> averages;  // Walsh's: of each pair of differences, with itself too
  averages.reserve(differences.size() * (differences.size() + 1) / 2);
  for (std::size_t i = 0; i < differences.size(); ++i) {
    for (std::size_t j = i; j < differences.size(); ++j) {
      averages.push_back((differences[i] + differences[j]) / 2);
    }
  }
  std::sort(averages.begin(), averages.end());
  const auto from_end = static_cast<std::size_t>(critical);
  return interval_of_logs(quantile(averages, 0.5), averages[from_end],
                          averages[averages.size() - 1 - from_end]);
}

std::int64_t signed_rank_critical_value(std::int64_t n) {
  constexpr double kTail = 0.025;
  constexpr std::int64_t kExactUpTo = 50;
  if (n < kMinPairs) return -1;
  const std::int64_t largest = n * (n + 1) / 2;
  if (n > kExactUpTo) {
    constexpr double z = 1.959964;
    const auto size = static_cast<double>(n);
    const double deviation = std::sqrt(size * (size + 1) * (2 * size + 1) / 24);
    return static_cast<std::int64_t>(static_cast<double>(largest) / 2 - z * deviation - 0.5);
  }
  // probability[s]: that the ranks with a positive sign add up to s.
  std::vector<double> probability(static_cast<std::size_t>(largest) + 1, 0);
  probability[0] = 1;
  for (std::int64_t rank = 1; rank <= n; ++rank) {
    for (std::int64_t sum = largest; sum >= 0; --sum) {
      const double with_rank = sum >= rank ? probability[static_cast<std::size_t>(sum - rank)] : 0;
      double& here = probability[static_cast<std::size_t>(sum)];
      here = (here + with_rank) / 2;
    }
  }
  double below = 0;
  std::int64_t sum = 0;
  while ((below += probability[static_cast<std::size_t>(sum)]) <= kTail) ++sum;
  return sum - 1;
}

}  // namespace llmrun
