#include "engine/metrics/statistics.h"

#include <algorithm>

#include <doctest/doctest.h>

namespace llmrun {

TEST_CASE("quantiles are numpy.percentile's") {
  // numpy.percentile([1, 2, 3, 4, 10], [50, 90, 95, 99])
  const Distribution small = distribution_of({10, 3, 1, 4, 2});
  CHECK(small.p50 == doctest::Approx(3.0));
  CHECK(small.p90 == doctest::Approx(7.6));
  CHECK(small.p95 == doctest::Approx(8.8));
  CHECK(small.p99 == doctest::Approx(9.76));
  CHECK(small.mean == doctest::Approx(4.0));
  CHECK(small.std == doctest::Approx(3.1622776601683795));
  CHECK(small.min == 1.0);
  CHECK(small.max == 10.0);

  // numpy.percentile(numpy.arange(100) ** 2, [50, 90, 95, 99])
  std::vector<double> squares;
  for (int i = 0; i < 100; ++i) squares.push_back(i * i);
  const Distribution many = distribution_of(squares);
  CHECK(many.p50 == doctest::Approx(2450.5));
  CHECK(many.p90 == doctest::Approx(7938.9));
  CHECK(many.p95 == doctest::Approx(8845.45));
  CHECK(many.p99 == doctest::Approx(9605.97));
}

TEST_CASE("one sample and no sample") {
  const Distribution one = distribution_of({5});
  CHECK(one.p50 == 5.0);
  CHECK(one.p99 == 5.0);
  CHECK(one.std == 0.0);
  CHECK(distribution_of({}).count == 0);
  CHECK(summarize({}).count == 0);
  const std::vector<double> single = {3.0};
  CHECK(summarize(single).mean == 3.0);
  CHECK(summarize(single).ci95_half_width == 0.0);
}

TEST_CASE("the interval of a mean is Student's") {
  // scipy.stats.t.interval(0.95, 2, loc=10, scale=1/sqrt(3)): 10 +- 2.484
  const std::vector<double> three = {9, 10, 11};
  const SampleStatistics statistics = summarize(three);
  CHECK(statistics.mean == doctest::Approx(10.0));
  CHECK(statistics.std == doctest::Approx(1.0));
  CHECK(statistics.ci95_half_width == doctest::Approx(2.484).epsilon(0.001));
  CHECK(statistics.coefficient_of_variation == doctest::Approx(0.1));
}

TEST_CASE("quantiles of Student's t") {
  CHECK(student_t_975(1) == doctest::Approx(12.706));
  CHECK(student_t_975(30) == doctest::Approx(2.042));
  CHECK(student_t_975(31) == doctest::Approx(2.0395).epsilon(0.0003));
  CHECK(student_t_975(120) == doctest::Approx(1.9799).epsilon(0.0003));
  CHECK(student_t_975(1000000) == doctest::Approx(1.95996).epsilon(0.0001));
}

TEST_CASE("cumulative shares: all of few samples, few of many with the ends") {
  CHECK(cumulative_shares({}).values.empty());
  const CumulativeShares few = cumulative_shares(std::vector<double>{1, 1, 4});
  CHECK(few.values == std::vector<double>{1, 1, 4});
  CHECK(few.shares[0] == doctest::Approx(1.0 / 3));
  CHECK(few.shares[2] == 1);

  std::vector<double> samples(1'000'000);
  for (std::size_t i = 0; i < samples.size(); ++i) samples[i] = static_cast<double>(i + 1);
  const CumulativeShares many = cumulative_shares(samples);
  REQUIRE(many.values.size() == many.shares.size());
  CHECK(many.values.size() <= kMaxCdfPoints);
  CHECK(many.values.front() == 1);
  CHECK(many.values.back() == 1e6);
  double largest_gap = 0;
  for (std::size_t i = 0; i < many.values.size(); ++i) {
    CHECK(many.shares[i] == doctest::Approx(many.values[i] / 1e6));  // points of the true curve
    if (i > 0) largest_gap = std::max(largest_gap, many.shares[i] - many.shares[i - 1]);
  }
  CHECK(largest_gap < 0.022);
  // The upper end is there in detail: beyond p99.9 too.
  CHECK(std::count_if(many.shares.begin(), many.shares.end(), [](double s) { return s > 0.999; }) >=
        8);
}

}  // namespace llmrun
