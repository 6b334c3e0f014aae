#include "tools/compare/comparison.h"

#include <algorithm>
#include <cctype>
#include <cmath>
#include <numeric>

#include <fmt/format.h>

#include "engine/core/counted.h"
#include "engine/core/error.h"

namespace llmrun {
namespace {

constexpr const char* kAccuracy = "accuracy";

double mean_of(const std::vector<double>& samples) {
  return std::accumulate(samples.begin(), samples.end(), 0.0) / static_cast<double>(samples.size());
}

// The last part of a path or of "organization/name", without "shape:", in lower case: one model has
// many spellings.
std::string model_name(std::string name) {
  while (name.size() > 1 && name.back() == '/') name.pop_back();
  name.erase(0, name.find_last_of("/:") + 1);
  for (char& c : name) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  return name;
}

bool differ(const std::string& a, const std::string& b) {
  return !a.empty() && !b.empty() && a != b;
}

bool numbers_differ(std::int64_t a, std::int64_t b) {
  return a >= 0 && b >= 0 && a != b;
}

bool is_same_workload(const BenchmarkWorkload& a, const BenchmarkWorkload& b) {
  if (a.kind != b.kind || differ(a.load, b.load)) return false;
  if (!a.sha256.empty() && !b.sha256.empty()) return a.sha256 == b.sha256;
  return !numbers_differ(a.num_requests, b.num_requests) &&
         !numbers_differ(a.num_prompt_tokens, b.num_prompt_tokens) &&
         !numbers_differ(a.num_output_tokens, b.num_output_tokens);
}

// Why two runs cannot be set against each other; empty: they can.
std::string obstacle(const BenchmarkRun& base, const BenchmarkRun& changed,
                     const CompareRules& rules) {
  if (!base.invalid.empty()) return "base is INVALID: " + base.invalid.front();
  if (!changed.invalid.empty()) return "new is INVALID: " + changed.invalid.front();
  if (!rules.ignores_model && differ(model_name(base.model), model_name(changed.model))) {
    return fmt::format("other model: {} and {} (--any-model compares them)", base.model,
                       changed.model);
  }
  if (!is_same_workload(base.workload, changed.workload)) {
    const bool only_ids =
        base.workload.to_text() == changed.workload.to_text();  // equal numbers, other requests
    return only_ids
               ? fmt::format("other requests: sha256 {} and {}", base.workload.sha256.substr(0, 12),
                             changed.workload.sha256.substr(0, 12))
               : fmt::format("other workload: {}; and {}", base.workload.to_text(),
                             changed.workload.to_text());
  }
  if (differ(base.dtype, changed.dtype)) {
    return fmt::format("other dtype: {} and {}", base.dtype, changed.dtype);
  }
  if (!rules.ignores_device && differ(base.device, changed.device)) {
    return fmt::format("other device: {} and {} (--any-device compares them)", base.device,
                       changed.device);
  }
  return "";
}

// What to know of a comparison that can be made.
std::string reservation(const BenchmarkRun& base, const BenchmarkRun& changed) {
  if (base.workload.sha256.empty() != changed.workload.sha256.empty()) {
    return "equal numbers of requests and tokens; whether the requests are equal is not told";
  }
  std::string text;
  for (const auto& [key, value] : base.sampling.items()) {
    const std::string other = changed.sampling.contains(key) ? changed.sampling[key].dump() : "?";
    if (value.dump() == other) continue;
    text += fmt::format("{}{} {} and {}", text.empty() ? "sampled differently: " : ", ", key,
                        value.dump(), other);
  }
  return text;
}

std::string origin_of(const BenchmarkRun& run) {
  std::string origin = run.tool;
  for (const std::string& part : {run.model, run.dtype, run.device}) {
    if (!part.empty()) origin += (origin.empty() ? "" : ", ") + part;
  }
  return origin;
}

RunComparison begin(const BenchmarkRun& base, const BenchmarkRun& changed) {
  RunComparison result;
  result.base_file = base.file;
  result.new_file = changed.file;
  result.base_name = base.name;
  result.new_name = changed.name;
  result.base_origin = origin_of(base);
  result.new_origin = origin_of(changed);
  result.workload = base.workload.to_text();
  return result;
}

RunComparison not_comparable(const BenchmarkRun& base, const BenchmarkRun& changed,
                             std::string reason) {
  RunComparison result = begin(base, changed);
  result.reason = std::move(reason);
  return result;
}

Verdict verdict_of(const std::optional<RatioInterval>& interval) {
  if (!interval) return Verdict::kOneRun;
  if (interval->low > 1) return Verdict::kFaster;
  if (interval->high < 1) return Verdict::kSlower;
  return Verdict::kNoDifference;
}

RunComparison compare_figure(const BenchmarkRun& base, const BenchmarkRun& changed,
                             const BenchmarkFigure& before, const BenchmarkFigure& after,
                             const CompareRules& rules) {
  RunComparison result = begin(base, changed);
  result.reason = reservation(base, changed);
  result.figure = before.name;
  result.unit = before.unit;
  result.base_mean = mean_of(before.samples);
  result.new_mean = mean_of(after.samples);
  result.base_count = before.samples.size();
  result.new_count = after.samples.size();
  const std::vector<double>& below = before.higher_is_better ? before.samples : after.samples;
  const std::vector<double>& above = before.higher_is_better ? after.samples : before.samples;
  result.speed_ratio = mean_of(above) / mean_of(below);
  if (rules.is_paired && below.size() == above.size()) {
    result.interval = ratio_of_pairs(below, above);
    result.is_paired = result.interval.has_value();
  } else if (rules.is_paired) {
    return not_comparable(base, changed,
                          fmt::format("--paired needs as many repeats on both sides, not {} and {}",
                                      below.size(), above.size()));
  }
  if (rules.is_paired && !result.interval) {
    if (!result.reason.empty()) result.reason += "; ";
    result.reason +=
        fmt::format("{} are too few for --paired, which needs 6: compared by their means",
                    counted(std::ssize(below), "pair"));
  }
  if (!result.interval) result.interval = ratio_of_means(below, above);
  if (result.interval) result.speed_ratio = result.interval->ratio;
  result.verdict = verdict_of(result.interval);
  result.fails = rules.fail_below && result.interval && result.interval->high < *rules.fail_below;
  return result;
}

// What each question scored on average over the repeats; nothing where a repeat does not tell it.
std::vector<double> mean_question_scores(const std::vector<BenchmarkAccuracy>& accuracies) {
  std::vector<double> means(accuracies.front().question_scores.size());
  for (const BenchmarkAccuracy& one : accuracies) {
    if (one.question_scores.size() != means.size()) return {};
    for (std::size_t i = 0; i < means.size(); ++i) {
      means[i] += one.question_scores[i] / static_cast<double>(accuracies.size());
    }
  }
  return means;
}

double mean_accuracy(const std::vector<BenchmarkAccuracy>& accuracies) {
  double sum = 0;
  for (const BenchmarkAccuracy& one : accuracies) sum += one.share;
  return sum / static_cast<double>(accuracies.size());
}

RunComparison compare_accuracy(const BenchmarkRun& base, const BenchmarkRun& changed,
                               const CompareRules& rules) {
  constexpr double kPercent = 100;
  const double before = mean_accuracy(base.accuracies);
  const double after = mean_accuracy(changed.accuracies);
  RunComparison result = begin(base, changed);
  result.reason = reservation(base, changed);
  result.figure = kAccuracy;
  result.unit = std::string(1, '%');
  result.base_mean = kPercent * before;
  result.new_mean = kPercent * after;
  result.base_count = base.accuracies.size();
  result.new_count = changed.accuracies.size();
  const std::vector<double> before_scores = mean_question_scores(base.accuracies);
  const std::vector<double> after_scores = mean_question_scores(changed.accuracies);
  result.is_paired = !before_scores.empty() && before_scores.size() == after_scores.size();
  result.difference =
      result.is_paired ? difference_of_pairs(before_scores, after_scores)
                       : difference_of_shares(
                             before, static_cast<double>(base.accuracies.front().num_questions),
                             after, static_cast<double>(changed.accuracies.front().num_questions));
  result.verdict = result.difference->low > 0    ? Verdict::kBetter
                   : result.difference->high < 0 ? Verdict::kWorse
                                                 : Verdict::kNoDifference;
  result.fails = rules.fail_below && before + result.difference->high < *rules.fail_below * before;
  return result;
}

std::vector<std::string> figures_to_compare(const BenchmarkRun& base, const BenchmarkRun& changed,
                                            const CompareRules& rules) {
  if (!rules.figures.empty()) return rules.figures;
  std::vector<std::string> figures;
  if (!base.accuracies.empty() && !changed.accuracies.empty()) figures.emplace_back(kAccuracy);
  for (const char* name : {"requests_per_s", "questions_per_s", "output_tokens_per_s",
                           "total_tokens_per_s", "tokens_per_s", "batch_latency_s"}) {
    if (base.find(name) == nullptr || changed.find(name) == nullptr) continue;
    figures.emplace_back(name);
    break;
  }
  return figures;
}

Error unknown_figure(const std::string& name, const BenchmarkRun& run) {
  std::vector<std::string> names;
  for (const BenchmarkFigure& figure : run.figures) names.push_back(figure.name);
  return {ErrorKind::kUsage,
          fmt::format("neither run has a figure {}; known: {}", name, fmt::join(names, ", "))};
}

void compare_pair(const BenchmarkRun& base, const BenchmarkRun& changed, const CompareRules& rules,
                  std::vector<RunComparison>& results) {
  if (std::string reason = obstacle(base, changed, rules); !reason.empty()) {
    results.push_back(not_comparable(base, changed, std::move(reason)));
    return;
  }
  const std::vector<std::string> figures = figures_to_compare(base, changed, rules);
  if (figures.empty()) results.push_back(not_comparable(base, changed, "no figure in common"));
  for (const std::string& name : figures) {
    if (name == kAccuracy && !base.accuracies.empty() && !changed.accuracies.empty()) {
      results.push_back(compare_accuracy(base, changed, rules));
      continue;
    }
    const BenchmarkFigure* before = base.find(name);
    const BenchmarkFigure* after = changed.find(name);
    if (before == nullptr && after == nullptr) throw unknown_figure(name, base);
    if (before == nullptr || after == nullptr) {
      results.push_back(not_comparable(base, changed,
                                       fmt::format("{} has no {}, or it is not positive",
                                                   before == nullptr ? "base" : "new", name)));
    } else {
      results.push_back(compare_figure(base, changed, *before, *after, rules));
    }
  }
}

const BenchmarkRun* partner_of(const BenchmarkRun& base, const std::vector<BenchmarkRun>& changed,
                               bool is_only_one) {
  const BenchmarkRun* same_name = nullptr;
  for (const BenchmarkRun& run : changed) {
    if (run.name != base.name) continue;
    if (is_same_workload(base.workload, run.workload)) return &run;
    if (same_name == nullptr) same_name = &run;
  }
  if (same_name != nullptr) return same_name;
  return is_only_one || changed.size() == 1 ? &changed.front() : nullptr;
}

// Stands for the partner that a run does not have in the other file.
BenchmarkRun nothing_of(const std::vector<BenchmarkRun>& runs) {
  BenchmarkRun run;
  run.file = runs.front().file;
  return run;
}

}  // namespace

const char* to_string(Verdict verdict) {
  switch (verdict) {
    case Verdict::kFaster: return "faster";
    case Verdict::kSlower: return "slower";
    case Verdict::kBetter: return "better";
    case Verdict::kWorse: return "worse";
    case Verdict::kNoDifference: return "no difference";
    case Verdict::kOneRun: return "one run each";
    case Verdict::kNotComparable: return "not comparable";
  }
  return "?";
}

std::vector<RunComparison> compare_runs(const std::vector<BenchmarkRun>& base,
                                        const std::vector<BenchmarkRun>& changed,
                                        const CompareRules& rules) {
  std::vector<RunComparison> results;
  std::vector<const BenchmarkRun*> used;
  for (const BenchmarkRun& run : base) {
    const BenchmarkRun* partner = partner_of(run, changed, base.size() == 1);
    const bool is_taken = std::find(used.begin(), used.end(), partner) != used.end();
    if (partner == nullptr || is_taken) {
      results.push_back(not_comparable(run, nothing_of(changed), "only in base"));
      continue;
    }
    used.push_back(partner);
    compare_pair(run, *partner, rules, results);
  }
  for (const BenchmarkRun& run : changed) {
    if (std::find(used.begin(), used.end(), &run) != used.end()) continue;
    if (base.size() == 1) continue;  // the one base run was told which of them it is compared with
    results.push_back(not_comparable(nothing_of(base), run, "only in new"));
  }
  return results;
}

}  // namespace llmrun
