// What changed between two benchmark results.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "engine/metrics/accuracy_difference.h"
#include "engine/metrics/ratio_interval.h"
#include "tools/compare/benchmark_run.h"

namespace llmrun {

enum class Verdict : std::uint8_t {
  kFaster,         // the whole interval is above 1
  kSlower,         // the whole interval is below 1
  kBetter,         // of accuracies: the whole interval is above 0
  kWorse,          // of accuracies: the whole interval is below 0
  kNoDifference,   // the interval contains 1, or 0 of accuracies
  kOneRun,         // no repeats on a side, so no interval
  kNotComparable,  // see `reason`
};
const char* to_string(Verdict verdict);

struct RunComparison {
  std::string base_file, new_file;
  std::string base_name, new_name;      // of the cases
  std::string base_origin, new_origin;  // tool, model, dtype and device, as far as a file tells
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
  // Of accuracies, which have no ratio; their means are in percent.
  std::optional<AccuracyDifference> difference;
  bool is_paired = false;  // repeat by repeat; of accuracies question by question
  Verdict verdict = Verdict::kNotComparable;
  std::string reason;  // why it is not comparable, or what to know of it
  bool fails = false;  // below --fail-below times the base, the whole interval
};

struct CompareRules {
  // Empty: the accuracy, and the first of the usual rates, that both have.
  std::vector<std::string> figures;
  bool is_paired = false;  // the i-th samples of both were taken beside each other
  bool ignores_device = false;
  bool ignores_model = false;
  std::optional<double> fail_below;  // a speed ratio, or a share of the base's accuracy
};

// Each run of `base` with the run of `changed` that has its name and workload; where a side has
// only one run its name does not matter. What has no partner is told as not comparable.
std::vector<RunComparison> compare_runs(const std::vector<BenchmarkRun>& base,
                                        const std::vector<BenchmarkRun>& changed,
                                        const CompareRules& rules);

}  // namespace llmrun
