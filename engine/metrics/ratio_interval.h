// How many times as large the figures of one set of runs are as those of another, with the interval
// in which the true ratio lies. Computed on logarithms, where a ratio is a difference.
#pragma once

#include <cstdint>
#include <optional>
#include <span>

namespace llmrun {

struct RatioInterval {
  double ratio = 0;
  double low = 0;
  double high = 0;
};

// The ratio of the geometric means of independent samples, new over base, with its 95 % interval by
// Welch's t. Nothing when a side has fewer than two samples.
// REQUIRES: samples are positive.
std::optional<RatioInterval> ratio_of_means(std::span<const double> base,
                                            std::span<const double> changed);

// The ratio of samples that were taken in turn, the i-th of both beside each other: what disturbs
// the machine for longer than one run cancels. Hodges-Lehmann estimate over the pairs' ratios, with
// the exact 95 % interval of Wilcoxon's signed ranks, which single disturbed runs hardly move.
// Nothing for fewer than kMinPairs, which cannot give such an interval.
// REQUIRES: as many samples on both sides; samples are positive.
inline constexpr std::int64_t kMinPairs = 6;
std::optional<RatioInterval> ratio_of_pairs(std::span<const double> base,
                                            std::span<const double> changed);

// The largest k with P(T <= k) <= 0.025, where T is the signed-rank statistic of n pairs without a
// difference; -1 when there is none (n < kMinPairs).
std::int64_t signed_rank_critical_value(std::int64_t n);

}  // namespace llmrun
