// What samples say: moments, percentiles as numpy has them, Student's interval of a mean.
#pragma once

#include <cstdint>
#include <span>
#include <utility>
#include <vector>

namespace llmrun {

// Quantile by linear interpolation between order statistics (type 7, numpy.percentile's default):
// h = (n - 1) p, x[floor h] + (h - floor h) (x[floor h + 1] - x[floor h]). 0 <= p <= 1.
// REQUIRES: `sorted` is ascending and not empty.
double quantile(std::span<const double> sorted, double p);

// The 95 % interval of the quantile p that independent samples estimate, from two of them: x[l] and
// x[u - 1] with P(l < Binomial(n, p) < u) >= 0.95, at most 2.5 % on either side. An end that n
// samples cannot tell is infinite. REQUIRES: as quantile().
std::pair<double, double> quantile_interval_95(std::span<const double> sorted, double p);

// Of repeated measurements of one figure.
struct SampleStatistics {
  std::int64_t count = 0;
  double mean = 0;
  double std = 0;                       // of the sample, n - 1 below; 0 when count < 2
  double ci95_half_width = 0;           // of the mean, by Student's t; 0 when count < 2
  double coefficient_of_variation = 0;  // std / |mean|; 0 when the mean is 0
};
SampleStatistics summarize(std::span<const double> samples);

// Half the width of the 95 % interval of a mean is this times std / sqrt(n).
// The 0.975 quantile of Student's t with `degrees_of_freedom` >= 1.
double student_t_975(std::int64_t degrees_of_freedom);

// Standard error of a mean: std / sqrt(n). Of zeros and ones it is sqrt(p (1 - p) / (n - 1)). 0
// when there are fewer than two samples.
double standard_error(std::span<const double> samples);

// The interval that holds a proportion with 95 % confidence, by Wilson's score (Wilson 1927): also
// for proportions near 0 and 1, and never outside of them. {0, 1} when there are no trials.
struct Interval {
  double low = 0;
  double high = 1;
};
Interval wilson_interval(double num_successes, double num_trials);

// How likely so uneven a split is when both sides are equally likely (sign test, two-sided, exact):
// for the pairs of which just one is right (McNemar). 1 when there are none.
double sign_test(std::int64_t num_first, std::int64_t num_second);

// Of many samples of a latency or a length.
struct Distribution {
  std::int64_t count = 0;
  double mean = 0;
  double std = 0;  // of the population, as numpy.std
  double min = 0;
  double max = 0;
  double p50 = 0;
  double p90 = 0;
  double p95 = 0;
  double p99 = 0;
};

// Points of the share of samples that are at most a value, ascending, to draw it by: at most
// kMaxCdfPoints of them, all samples where there are no more, else evenly spread over the samples
// and closer together at the upper end.
inline constexpr std::size_t kMaxCdfPoints = 96;
struct CumulativeShares {
  std::vector<double> values;
  std::vector<double> shares;  // 0 to 1; the last is 1
};
// REQUIRES: `sorted` is ascending.
CumulativeShares cumulative_shares(std::span<const double> sorted);

// All zeros when there are no samples.
Distribution distribution_of(std::vector<double> samples);

}  // namespace llmrun
