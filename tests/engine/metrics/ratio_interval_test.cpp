#include "engine/metrics/ratio_interval.h"

#include <cmath>
#include <random>
#include <vector>

#include <doctest/doctest.h>

#include "engine/core/file.h"
#include "engine/core/json.h"

namespace llmrun {
namespace {

using Samples = std::vector<double>;

// One benchmark job: `num_pairs` runs of base and new in turn on a machine whose speed drifts, with
// noise of single runs, some of them badly disturbed. `speed`: of new against base.
struct SimulatedJob {
  Samples base, changed;
};
SimulatedJob simulate(std::mt19937_64& random, int num_pairs, double speed, double noise) {
  std::normal_distribution<double> normal(0, 1);
  std::uniform_real_distribution<double> uniform(0, 1);
  SimulatedJob job;
  double drift = 0;
  const auto one_run = [&](double true_speed) {
    const bool is_disturbed = uniform(random) < 0.08;  // somebody else took the machine
    return true_speed * std::exp(drift + noise * normal(random)) * (is_disturbed ? 0.6 : 1.0);
  };
  for (int i = 0; i < num_pairs; ++i) {
    drift += 0.03 * normal(random);
    job.base.push_back(100 * one_run(1));
    job.changed.push_back(100 * one_run(speed));
  }
  return job;
}

bool is_reported(const SimulatedJob& job, double fail_below) {
  return ratio_of_pairs(job.base, job.changed)->high < fail_below;
}

}  // namespace

TEST_CASE("critical values of the signed-rank statistic, as in the tables") {
  CHECK(signed_rank_critical_value(5) == -1);
  CHECK(signed_rank_critical_value(6) == 0);
  CHECK(signed_rank_critical_value(7) == 2);
  CHECK(signed_rank_critical_value(8) == 3);
  CHECK(signed_rank_critical_value(10) == 8);
  CHECK(signed_rank_critical_value(15) == 25);
  CHECK(signed_rank_critical_value(20) == 52);
  CHECK(signed_rank_critical_value(30) == 137);
  CHECK(signed_rank_critical_value(50) == 434);
  CHECK(signed_rank_critical_value(60) == 648);  // by the normal distribution: 915 - 1.96 * 135.84
}

TEST_CASE("a ratio of means by Welch's t on logarithms") {
  // Equal variances and sizes: Student's t with 4 degrees of freedom.
  const double step = std::log(1.02);
  const Samples base = {std::exp(-step), 1, std::exp(step)};
  const Samples changed = {2 * std::exp(-step), 2, 2 * std::exp(step)};
  const auto interval = ratio_of_means(base, changed);
  REQUIRE(interval);
  CHECK(interval->ratio == doctest::Approx(2));
  const double half_width = 2.776 * step * std::sqrt(2.0 / 3);
  CHECK(interval->low == doctest::Approx(2 * std::exp(-half_width)));
  CHECK(interval->high == doctest::Approx(2 * std::exp(half_width)));

  CHECK(!ratio_of_means(Samples{1}, changed));
  const auto exact = ratio_of_means(Samples{4, 4}, Samples{5, 5});
  CHECK(exact->low == doctest::Approx(1.25));
  CHECK(exact->high == doctest::Approx(1.25));
}

TEST_CASE("a ratio of pairs does not see what both sides share, nor single disturbed runs") {
  const Samples base = {100, 50, 100, 120, 90, 70, 100, 100};
  Samples changed;
  for (const double sample : base) changed.push_back(1.1 * sample);
  CHECK(ratio_of_pairs(base, changed)->low == doctest::Approx(1.1));
  CHECK(ratio_of_pairs(base, changed)->high == doctest::Approx(1.1));
  changed[3] = 1;  // one run nearly stood still
  CHECK(ratio_of_pairs(base, changed)->ratio == doctest::Approx(1.1));
  CHECK(ratio_of_pairs(base, changed)->high == doctest::Approx(1.1));
  CHECK(!ratio_of_pairs(Samples{1, 1, 1, 1, 1}, Samples{1, 1, 1, 1, 1}));

  // Six pairs: from the least to the largest ratio.
  const auto six = ratio_of_pairs(Samples(6, 1.0), Samples{1, 2, 3, 4, 5, 6});
  CHECK(six->low == doctest::Approx(1));
  CHECK(six->high == doctest::Approx(6));
}

TEST_CASE("the interval of pairs holds the true ratio 95 times of 100") {
  std::mt19937_64 random(1);
  int num_inside = 0;
  constexpr int kJobs = 2000;
  for (int i = 0; i < kJobs; ++i) {
    const SimulatedJob job = simulate(random, 20, 0.9, 0.05);
    const auto interval = ratio_of_pairs(job.base, job.changed);
    num_inside += interval->low <= 0.9 && 0.9 <= interval->high ? 1 : 0;
  }
  CHECK(num_inside >= 0.935 * kJobs);
  CHECK(num_inside <= 0.975 * kJobs);
}

TEST_CASE("a benchmark job of 40 pairs catches 10 % and cries wolf for nothing") {
  constexpr double kFailBelow = 0.97;
  std::mt19937_64 random(2);
  // Runs that scatter by 5 %, every twelfth disturbed, on a machine that drifts.
  int num_caught = 0, num_false = 0;
  constexpr int kJobs = 1000;
  for (int i = 0; i < kJobs; ++i) {
    num_caught += is_reported(simulate(random, 40, 0.9, 0.05), kFailBelow) ? 1 : 0;
    num_false += is_reported(simulate(random, 40, 1.0, 0.05), kFailBelow) ? 1 : 0;
  }
  CHECK(num_caught >= 0.90 * kJobs);
  // 20 jobs without a change: not one alarm in 97 of 100 such series.
  CHECK(num_false <= 0.0015 * kJobs);
  // Runs that scatter by 2 %, as on a quiet machine: practically always, and never.
  num_caught = num_false = 0;
  for (int i = 0; i < kJobs; ++i) {
    num_caught += is_reported(simulate(random, 40, 0.9, 0.02), kFailBelow) ? 1 : 0;
    num_false += is_reported(simulate(random, 40, 1.0, 0.02), kFailBelow) ? 1 : 0;
  }
  CHECK(num_caught >= 0.97 * kJobs);
  CHECK(num_false == 0);
}

// The jobs that were run of equal programs, and with 10 % planted, on a busy machine of two cores.
TEST_CASE("recorded jobs: no alarm without a change, 10 % is caught") {
  constexpr double kFailBelow = 0.97;
  const auto runs = nlohmann::json::parse(
      read_file(LLMRUN_SOURCE_DIR "/results/ci/runs.json", 1 << 24, ErrorKind::kInput));
  int num_without_change = 0, num_planted = 0;
  Samples all_ratios;
  for (const auto& run : runs) {
    CAPTURE(run.at("run").get<std::string>());
    const bool is_planted = !run.at("new_flags").get<std::string>().empty();
    ++(is_planted ? num_planted : num_without_change);
    CHECK((run.at("ci95_high").get<double>() < kFailBelow) == is_planted);
    if (!run.contains("pair_ratios")) continue;
    const Samples ratios = run.at("pair_ratios").get<Samples>();
    const auto interval = ratio_of_pairs(Samples(ratios.size(), 1), ratios);
    CHECK(interval->high == doctest::Approx(run.at("ci95_high").get<double>()).epsilon(0.001));
    CHECK((interval->high < kFailBelow) == is_planted);
    if (!is_planted) all_ratios.insert(all_ratios.end(), ratios.begin(), ratios.end());
  }
  CHECK(num_without_change >= 20);
  CHECK(num_planted >= 1);

  // Jobs drawn from their noise, which is far above that of a machine of its own.
  std::mt19937_64 random(4);
  std::uniform_int_distribution<std::size_t> pick(0, all_ratios.size() - 1);
  constexpr int kJobs = 400;
  const auto num_reported = [&](double speed) {
    int count = 0;
    for (int i = 0; i < kJobs; ++i) {
      SimulatedJob job{.base = Samples(40, 1), .changed = {}};
      for (int pair = 0; pair < 40; ++pair) job.changed.push_back(speed * all_ratios[pick(random)]);
      count += is_reported(job, kFailBelow) ? 1 : 0;
    }
    return count;
  };
  CHECK(num_reported(1) <= 0.025 * kJobs);
  CHECK(num_reported(0.9) >= 0.6 * kJobs);
  CHECK(num_reported(0.85) >= 0.95 * kJobs);
}

}  // namespace llmrun
