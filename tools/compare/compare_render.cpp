#include "tools/compare/compare_render.h"

#include <algorithm>

#include <fmt/format.h>

#include "engine/core/json.h"

namespace llmrun {
namespace {

using Json = nlohmann::ordered_json;

std::string case_text(const RunComparison& one) {
  const std::string& base = one.base_name;
  const std::string& changed = one.new_name;
  if (base == changed || changed.empty()) return base.empty() ? "-" : base;
  return base.empty() ? changed : base + " / " + changed;
}

std::string figure_text(double value) {
  return value >= 100 ? fmt::format("{:.1f}", value) : fmt::format("{:.4g}", value);
}

std::string points_text(double share) {
  return fmt::format("{:+.1f}", 100 * share);
}

std::string ratio_text(const RunComparison& one) {
  if (one.difference) return points_text(one.difference->difference) + " points";
  return fmt::format("{:.3f}", one.speed_ratio);
}

std::string interval_text(const RunComparison& one) {
  if (one.difference) {
    return fmt::format("{} to {}", points_text(one.difference->low),
                       points_text(one.difference->high));
  }
  if (!one.interval) return "-";
  return fmt::format("{:.3f} to {:.3f}", one.interval->low, one.interval->high);
}

std::string verdict_text(const RunComparison& one) {
  std::string text = to_string(one.verdict);
  if (one.verdict == Verdict::kFaster || one.verdict == Verdict::kSlower) {
    text += fmt::format(" ({:+.1f} %)", 100 * (one.speed_ratio - 1));
  }
  if (one.verdict == Verdict::kBetter || one.verdict == Verdict::kWorse) {
    text += " (" + ratio_text(one) + ")";
  }
  if (one.verdict == Verdict::kNotComparable) text += ": " + one.reason;
  return one.fails ? text + ", FAILS" : text;
}

Json to_json(const RunComparison& one) {
  Json json = {{"base_file", one.base_file},     {"new_file", one.new_file},
               {"base_case", one.base_name},     {"new_case", one.new_name},
               {"base_origin", one.base_origin}, {"new_origin", one.new_origin},
               {"workload", one.workload},       {"verdict", to_string(one.verdict)},
               {"reason", one.reason},           {"fails", one.fails}};
  if (one.verdict == Verdict::kNotComparable) return json;
  json["figure"] = one.figure;
  json["unit"] = one.unit;
  json["base_mean"] = one.base_mean;
  json["new_mean"] = one.new_mean;
  json["base_repeats"] = one.base_count;
  json["new_repeats"] = one.new_count;
  json["paired"] = one.is_paired;
  if (one.difference) {
    json["difference"] = one.difference->difference;
    json["difference_ci95_low"] = one.difference->low;
    json["difference_ci95_high"] = one.difference->high;
    return json;
  }
  json["speed_ratio"] = one.speed_ratio;
  json["ci95_low"] = one.interval ? Json(one.interval->low) : Json(nullptr);
  json["ci95_high"] = one.interval ? Json(one.interval->high) : Json(nullptr);
  return json;
}

std::string repeats_text(const RunComparison& one) {
  if (one.base_count == one.new_count) return fmt::format("{}", one.base_count);
  return fmt::format("{} / {}", one.base_count, one.new_count);
}

}  // namespace

ReportTable comparison_table(const std::vector<RunComparison>& results) {
  ReportTable table{.title = "Comparison",
                    .header = {"case", "workload", "figure", "base", "new", "repeats", "ratio",
                               "95 % interval", "verdict"},
                    .rows = {}};
  for (const RunComparison& one : results) {
    std::vector<std::string> row = {case_text(one), one.workload};
    if (one.verdict == Verdict::kNotComparable) {
      row.insert(row.end(), {"-", "-", "-", "-", "-", "-"});
    } else {
      row.insert(row.end(), {one.figure, figure_text(one.base_mean), figure_text(one.new_mean),
                             repeats_text(one), ratio_text(one), interval_text(one)});
    }
    row.push_back(verdict_text(one));
    table.rows.push_back(std::move(row));
  }
  return table;
}

std::string comparison_summary(const std::vector<RunComparison>& results) {
  std::string text;
  for (const Verdict verdict :
       {Verdict::kWorse, Verdict::kSlower, Verdict::kBetter, Verdict::kFaster,
        Verdict::kNoDifference, Verdict::kOneRun, Verdict::kNotComparable}) {
    const auto count = std::count_if(results.begin(), results.end(), [&](const RunComparison& one) {
      return one.verdict == verdict;
    });
    if (count == 0) continue;
    text += fmt::format("{}{} {}", text.empty() ? "" : ", ", count, to_string(verdict));
  }
  return text;
}

std::vector<std::string> comparison_notes(const std::vector<RunComparison>& results,
                                          double fail_below) {
  const auto any = [&](auto is) { return std::any_of(results.begin(), results.end(), is); };
  std::vector<std::string> notes = {
      "ratio: how many times as fast as base; new / base of rates, base / new of times"};
  if (any([](const RunComparison& one) { return one.interval && !one.is_paired; })) {
    notes.emplace_back(
        "95 % interval of the ratio of means: Welch's t on the logarithms of the repeats; repeats "
        "of "
        "one process do not show what differs between processes and hours: runs of both sides in "
        "turn do, compared with --paired");
  }
  if (any([](const RunComparison& one) { return one.interval && one.is_paired; })) {
    notes.emplace_back(
        "95 % interval of paired repeats: Hodges and Lehmann's estimate, Wilcoxon's signed ranks");
  }
  if (any([](const RunComparison& one) { return one.difference && one.is_paired; })) {
    notes.emplace_back(
        "accuracy: new - base in percentage points; 95 % interval of the same questions' scores, "
        "in pairs: Agresti and Min");
  }
  if (any([](const RunComparison& one) { return one.difference && !one.is_paired; })) {
    notes.emplace_back(
        "accuracy: new - base in percentage points; 95 % interval of two shares, since a report "
        "does not tell single questions: Newcombe");
  }
  if (any([](const RunComparison& one) { return one.verdict == Verdict::kOneRun; })) {
    notes.emplace_back(
        "one run each: without repeats nobody knows whether a difference is noise, and "
        "--fail-below "
        "does not look at it; use --repeats, or append runs to one file with --output jsonl");
  }
  for (const RunComparison& one : results) {
    if (one.verdict == Verdict::kNotComparable || one.reason.empty()) continue;
    std::string note = case_text(one) + ": " + one.reason;
    if (note != notes.back()) notes.push_back(std::move(note));  // once for all its figures
  }
  if (fail_below > 0) {
    notes.push_back(fmt::format("fails when the whole interval is below {:.4g}{}", fail_below,
                                any([](const RunComparison& one) { return one.difference; })
                                    ? " (accuracy: below that share of the base's)"
                                    : ""));
  }
  return notes;
}

std::string render_comparison_text(const std::vector<RunComparison>& results, double fail_below) {
  std::string text = comparison_summary(results) + "\n" + text_table(comparison_table(results));
  text += "\n";
  for (const std::string& note : comparison_notes(results, fail_below)) text += "  " + note + "\n";
  return text;
}

std::string render_comparison_markdown(const std::vector<RunComparison>& results,
                                       double fail_below) {
  const bool fails = std::any_of(results.begin(), results.end(),
                                 [](const RunComparison& one) { return one.fails; });
  std::string text =
      fmt::format("**{}{}**\n", fails ? "Significant drop: " : "", comparison_summary(results));
  text += markdown_table(comparison_table(results)) + "\n";
  for (const std::string& note : comparison_notes(results, fail_below)) text += "- " + note + "\n";
  return text;
}

nlohmann::ordered_json render_comparison_json(const std::vector<RunComparison>& results,
                                              double fail_below) {
  Json json = {{"schema_version", 1},
               {"command", "compare"},
               {"summary", comparison_summary(results)},
               {"fail_below", fail_below > 0 ? Json(fail_below) : Json(nullptr)},
               {"notes", comparison_notes(results, fail_below)},
               {"comparisons", Json::array()}};
  for (const RunComparison& one : results) json["comparisons"].push_back(to_json(one));
  return json;
}

std::string render_comparison_jsonl(const std::vector<RunComparison>& results) {
  std::string text;
  for (const RunComparison& one : results) text += dump_json(to_json(one)) + "\n";
  return text;
}

ReportTable comparison_records(const std::vector<RunComparison>& results) {
  ReportTable table{.title = "llmrun_compare",
                    .header = {"base_file",
                               "new_file",
                               "base_case",
                               "new_case",
                               "workload",
                               "figure",
                               "unit",
                               "base_mean",
                               "new_mean",
                               "base_repeats",
                               "new_repeats",
                               "speed_ratio",
                               "ci95_low",
                               "ci95_high",
                               "difference",
                               "difference_ci95_low",
                               "difference_ci95_high",
                               "verdict",
                               "fails",
                               "reason"},
                    .rows = {}};
  for (const RunComparison& one : results) {
    const bool has_figures = one.verdict != Verdict::kNotComparable;
    const auto number = [&](double value) {
      return has_figures ? fmt::format("{}", value) : std::string();
    };
    table.rows.push_back({one.base_file,
                          one.new_file,
                          one.base_name,
                          one.new_name,
                          one.workload,
                          one.figure,
                          one.unit,
                          number(one.base_mean),
                          number(one.new_mean),
                          fmt::format("{}", one.base_count),
                          fmt::format("{}", one.new_count),
                          one.difference ? std::string() : number(one.speed_ratio),
                          one.interval ? number(one.interval->low) : std::string(),
                          one.interval ? number(one.interval->high) : std::string(),
                          one.difference ? number(one.difference->difference) : std::string(),
                          one.difference ? number(one.difference->low) : std::string(),
                          one.difference ? number(one.difference->high) : std::string(),
                          to_string(one.verdict),
                          one.fails ? "true" : "false",
                          one.reason});
  }
  return table;
}

}  // namespace llmrun
