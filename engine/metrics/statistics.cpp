#include "engine/metrics/statistics.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <numeric>

#include "engine/core/error.h"

namespace llmrun {
namespace {

double mean_of(std::span<const double> samples) {
  return std::accumulate(samples.begin(), samples.end(), 0.0) / static_cast<double>(samples.size());
}

double sum_of_squares(std::span<const double> samples, double mean) {
  return std::accumulate(samples.begin(), samples.end(), 0.0, [&](double sum, double sample) {
    return sum + (sample - mean) * (sample - mean);
  });
}

}  // namespace

double quantile(std::span<const double> sorted, double p) {
  LLMRUN_CHECK(!sorted.empty() && p >= 0 && p <= 1);
  const double h = static_cast<double>(sorted.size() - 1) * p;
  const auto below = static_cast<std::size_t>(h);
  const std::size_t above = std::min(below + 1, sorted.size() - 1);
  return sorted[below] + (h - static_cast<double>(below)) * (sorted[above] - sorted[below]);
}

std::pair<double, double> quantile_interval_95(std::span<const double> sorted, double p) {
  LLMRUN_CHECK(!sorted.empty() && p >= 0 && p <= 1);
  constexpr double kTail = 0.025;
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  const auto n = static_cast<double>(sorted.size());
  // The quantile lies below x[k] (k from 0) when at most k samples lie below it: x[k] is a lower
  // end when P(B <= k) <= kTail, and an upper end when P(B <= k) >= 1 - kTail.
  double low = -kInfinity;
  double high = kInfinity;
  double cumulative = 0;
  for (std::size_t k = 0; k < sorted.size(); ++k) {
    const auto i = static_cast<double>(k);
    if (p <= 0 || p >= 1) {
      cumulative = p <= 0 ? 1 : 0;
    } else {
      cumulative += std::exp(std::lgamma(n + 1) - std::lgamma(i + 1) - std::lgamma(n - i + 1) +
                             i * std::log(p) + (n - i) * std::log1p(-p));
    }
    if (cumulative <= kTail) low = sorted[k];
    if (cumulative >= 1 - kTail) {
      high = sorted[k];
      break;
    }
  }
  return {low, high};
}

double student_t_975(std::int64_t degrees_of_freedom) {
  LLMRUN_CHECK(degrees_of_freedom >= 1);
  constexpr std::array kTable = {12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306,
                                 2.262,  2.228, 2.201, 2.179, 2.160, 2.145, 2.131, 2.120,
                                 2.110,  2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064,
                                 2.060,  2.056, 2.052, 2.048, 2.045, 2.042};
  if (degrees_of_freedom <= std::ssize(kTable)) {
    return kTable[static_cast<std::size_t>(degrees_of_freedom - 1)];
  }
  // Cornish-Fisher expansion around the normal quantile; exact to three decimals from here on.
  constexpr double z = 1.959964;
  const auto n = static_cast<double>(degrees_of_freedom);
  return z + (z * z * z + z) / (4 * n) +
         (5 * std::pow(z, 5) + 16 * z * z * z + 3 * z) / (96 * n * n);
}

SampleStatistics summarize(std::span<const double> samples) {
  SampleStatistics result;
  result.count = std::ssize(samples);
  if (samples.empty()) return result;
  result.mean = mean_of(samples);
  if (result.count < 2) return result;
  const auto n = static_cast<double>(result.count);
  result.std = std::sqrt(sum_of_squares(samples, result.mean) / (n - 1));
  result.ci95_half_width = student_t_975(result.count - 1) * result.std / std::sqrt(n);
  if (result.mean != 0) result.coefficient_of_variation = result.std / std::abs(result.mean);
  return result;
}

double standard_error(std::span<const double> samples) {
  if (samples.size() < 2) return 0;
  const auto n = static_cast<double>(samples.size());
  return std::sqrt(sum_of_squares(samples, mean_of(samples)) / (n - 1) / n);
}

Interval wilson_interval(double num_successes, double num_trials) {
  if (num_trials <= 0) return {};
  constexpr double z = 1.959964;
  const double p = num_successes / num_trials;
  const double scale = 1 + z * z / num_trials;
  const double middle = (p + z * z / (2 * num_trials)) / scale;
  const double half_width =
      z * std::sqrt(p * (1 - p) / num_trials + z * z / (4 * num_trials * num_trials)) / scale;
  return {std::max(0.0, middle - half_width), std::min(1.0, middle + half_width)};
}

double sign_test(std::int64_t num_first, std::int64_t num_second) {
  const auto n = static_cast<double>(num_first + num_second);
  double tail = 0;
  for (std::int64_t i = 0; i <= std::min(num_first, num_second); ++i) {
    const auto k = static_cast<double>(i);
    tail += std::exp(std::lgamma(n + 1) - std::lgamma(k + 1) - std::lgamma(n - k + 1) -
                     n * std::log(2.0));
  }
  return std::min(1.0, 2 * tail);
}

CumulativeShares cumulative_shares(std::span<const double> sorted) {
  const std::size_t n = sorted.size();
  std::vector<std::size_t> counts;  // samples at or below the point
  if (n <= kMaxCdfPoints) {
    for (std::size_t i = 1; i <= n; ++i) counts.push_back(i);
  } else {
    constexpr std::size_t kEven = kMaxCdfPoints / 2;  // the others are for powers of two
    for (std::size_t i = 0; i < kEven; ++i) counts.push_back(1 + i * (n - 1) / kEven);
    for (std::size_t left = n; left > 0; left /= 2) counts.push_back(n - left + 1);
    counts.push_back(n);
    std::sort(counts.begin(), counts.end());
    counts.erase(std::unique(counts.begin(), counts.end()), counts.end());
  }
  CumulativeShares result;
  for (const std::size_t count : counts) {
    result.values.push_back(sorted[count - 1]);
    result.shares.push_back(static_cast<double>(count) / static_cast<double>(n));
  }
  return result;
}

Distribution distribution_of(std::vector<double> samples) {
  Distribution result;
  result.count = std::ssize(samples);
  if (samples.empty()) return result;
  std::sort(samples.begin(), samples.end());
  result.mean = mean_of(samples);
  result.std =
      std::sqrt(sum_of_squares(samples, result.mean) / static_cast<double>(samples.size()));
  result.min = samples.front();
  result.max = samples.back();
  result.p50 = quantile(samples, 0.50);
  result.p90 = quantile(samples, 0.90);
  result.p95 = quantile(samples, 0.95);
  result.p99 = quantile(samples, 0.99);
  return result;
}

}  // namespace llmrun
