// What changed between two benchmark results.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "engine/metrics/ratio_interval.h"
#include "tools/compare/benchmark_run.h"

namespace llmrun {

enum class Verdict : std::uint8_t {
  kFaster,         // the whole interval is above 1
  kSlower,         // the whole interval is below 1
  kNoDifference,   // the interval contains 1
  kOneRun,         // no repeats on a side, so no interval
  kNotComparable,  // see `reason`
};
const char* to_string(Verdict verdict);

struct RunComparison {
  std::string base_file, new_file;
  std::string base_name, new_name;  // of the cases
  std::string workload;
  std::string figure;
  std::string unit;
  double base_mean = 0;
  double new_mean = 0;
  std::size_t base_count = 0;
  std::size_t new_count = 0;
  // How many times as fast: new / base of rates, base / new of times. Above 1 is better.
  double speed_ratio = 0;
  std::optional<RatioInterval> interval;
  bool is_paired = false;
  Verdict verdict = Verdict::kNotComparable;
  std::string reason;  // why it is not comparable, or what to know of it
  bool fails = false;  // below --fail-below, the whole interval
};

struct CompareRules {
  std::vector<std::string> figures;  // empty: the first of the usual rates that both have
  bool is_paired = false;            // the i-th samples of both were taken beside each other
  bool ignores_device = false;
  std::optional<double> fail_below;  // a speed ratio
};

// Each run of `base` with the run of `changed` that has its name and workload; where a side has
// only one run its name does not matter. What has no partner is told as not comparable.
std::vector<RunComparison> compare_runs(const std::vector<BenchmarkRun>& base,
                                        const std::vector<BenchmarkRun>& changed,
                                        const CompareRules& rules);

}  // namespace llmrun
