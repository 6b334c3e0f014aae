// The page of `llmrun eval`.
#include <algorithm>
#include <cmath>
#include <set>

#include <fmt/format.h>

#include "engine/core/counted.h"
#include "engine/metrics/statistics.h"
#include "tools/number_text.h"
#include "tools/report/report_page.h"
#include "tools/report/report_parts.h"

namespace llmrun {
namespace {

constexpr std::size_t kShownDifferences = 100;
constexpr std::size_t kShownGroups = 16;

const ReportJson& score_of(const ReportJson& one, const std::string& rule) {
  return member(member(one, "scores"), rule);
}

std::string score_text(const ReportJson& score) {
  const auto mean = number_of(score, "mean");
  if (!mean) return "";
  return fmt::format("{:.1f} \u00b1 {:.1f} %", 100 * *mean,
                     100 * number_of(score, "stderr").value_or(0));
}

std::string majority_key(const ReportJson& report) {
  return fmt::format("maj@{}", text_of(report, "repetitions"));
}

// Cases of one backend have one color.
class BackendColors {
 public:
  int of(const ReportJson& one) {
    const std::string backend = text_of(one, "backend");
    const auto found = std::find(backends_.begin(), backends_.end(), backend);
    const auto place = found - backends_.begin();
    if (found == backends_.end()) backends_.push_back(backend);
    return static_cast<int>(place);
  }

 private:
  std::vector<std::string> backends_;
};

bool is_sweep(const ReportJson& report) {
  return !list_of(report, "knees").empty();
}

RowChart accuracy_bars(const ReportJson& report, int width) {
  const std::string rule = text_of(report, "main_rule");
  RowChart chart{
      .text = {.title = "Accuracy",
               .note = fmt::format("{} on {}, {}; whiskers: 95 % interval (Wilson) of one "
                                   "sample a question",
                                   text_of(member(report, "model"), "name"),
                                   text_of(member(report, "dataset"), "task"), rule)},
      .axis = "% of questions right",
      .rows = {},
      .axis_end = 100,
      .width = width};
  BackendColors colors;
  for (const ReportJson& one : list_of(report, "cases")) {
    const int color = colors.of(one);
    const ReportJson& score = score_of(one, rule);
    const std::vector<double> interval = numbers_of(score, "wilson95");
    ChartRow row{.label = text_of(one, "name"),
                 .value = 100 * number_of(score, "mean").value_or(std::nan("")),
                 .value_text = score_text(score),
                 .color = color};
    if (interval.size() == 2) {
      row.low = 100 * interval[0];
      row.high = 100 * interval[1];
    }
    chart.rows.push_back(row);
    if (const ReportJson& majority = member(one, majority_key(report)); majority.is_object()) {
      const double mean = 100 * number_of(majority, "mean").value_or(std::nan(""));
      const double error = 196 * number_of(majority, "stderr").value_or(0);
      chart.rows.push_back({.label = fmt::format("{}, {}", row.label, majority_key(report)),
                            .value = mean,
                            .low = std::max(mean - error, 0.0),
                            .high = std::min(mean + error, 100.0),
                            .value_text = score_text(majority),
                            .color = color});
    }
  }
  return chart;
}

RowChart time_bars(const ReportJson& report, int width) {
  RowChart chart{
      .text = {.title = "Time",
               .note =
                   "from the first question to the last answer; loading and warm-up are not in it"},
      .axis = "seconds",
      .rows = {},
      .width = width};
  BackendColors colors;
  for (const ReportJson& one : list_of(report, "cases")) {
    const auto seconds = number_of(one, "elapsed_s");
    const auto speed_up = number_of(one, "speed_up");
    chart.rows.push_back(
        {.label = text_of(one, "name"),
         .value = seconds.value_or(std::nan("")),
         .value_text = figure_text(seconds) +
                       (speed_up ? fmt::format(" s ({:.2f} \u00d7 as fast)", *speed_up) : " s"),
         .color = colors.of(one)});
  }
  return chart;
}

// pass@k and maj@k of each backend, with standard errors. Nothing without repetitions.
std::optional<XyChart> repeated_chart(const ReportJson& report, int width) {
  XyChart chart{
      .text = {.title = "Of k samples: pass@k and the majority vote maj@k",
               .note = fmt::format("{}; means over all subsets of {}; whiskers: standard "
                                   "error over questions",
                                   text_of(report, "main_rule"), text_of(report, "repetitions"))},
      .x = {.label = "k, samples of a question", .counts = true},
      .y = {.label = "% of questions"},
      .series = {},
      .width = width,
      .height = 380};
  int color = 0;
  const bool has_names = list_of(report, "cases").size() > 1;
  for (const ReportJson& one : list_of(report, "cases")) {
    for (const auto& [key, label] : {std::pair("pass", "pass@k"), std::pair("majority", "maj@k")}) {
      ChartSeries series{.name = has_names ? text_of(one, "name") + " " + label : label,
                         .points = {},
                         .color = color++,
                         .has_marks = true};
      for (const ReportJson& score : list_of(one, "repeated")) {
        const auto k = number_of(score, "k");
        const auto mean = number_of(member(score, key), "mean");
        if (!k || !mean) continue;
        series.points.push_back({*k, 100 * *mean});
        series.errors.push_back(100 * number_of(member(score, key), "stderr").value_or(0));
      }
      if (!series.points.empty()) chart.series.push_back(std::move(series));
    }
  }
  chart.x.low = 1;
  chart.x.high = number_of(report, "repetitions").value_or(1);
  if (chart.series.empty()) return std::nullopt;
  return chart;
}

// Throughput over --max-num-seqs, with the knee. Nothing when it was no sweep.
std::optional<XyChart> sweep_chart(const ReportJson& report, int width) {
  if (!is_sweep(report)) return std::nullopt;
  XyChart chart{.text = {.title = "Throughput by concurrency",
                         .note = "the knee: the smallest level with 90 % of the best throughput"},
                .x = {.label = "--max-num-seqs, log scale", .kind = ScaleKind::kLog},
                .y = {.label = "questions/s", .low = 0},
                .series = {},
                .width = width,
                .height = 340};
  for (const ReportJson& one : list_of(report, "cases")) {
    const std::string backend = text_of(one, "backend");
    auto series = std::find_if(chart.series.begin(), chart.series.end(),
                               [&](const ChartSeries& other) { return other.name == backend; });
    if (series == chart.series.end()) {
      chart.series.push_back({.name = backend,
                              .points = {},
                              .color = static_cast<int>(chart.series.size()),
                              .has_marks = true});
      series = chart.series.end() - 1;
    }
    const auto level = number_of(one, "max_num_seqs");
    const auto rate = number_of(one, "questions_per_s");
    if (level && rate) series->points.push_back({*level, *rate});
  }
  double best = 0;
  for (ChartSeries& series : chart.series) {
    for (const ChartPoint& point : series.points) best = std::max(best, point.y);
    std::stable_sort(series.points.begin(), series.points.end(),
                     [](const ChartPoint& a, const ChartPoint& b) { return a.x < b.x; });
  }
  chart.y.high = 1.25 * best;  // room for the knees' names
  for (const ReportJson& knee : list_of(report, "knees")) {
    const auto level = number_of(knee, "max_num_seqs");
    if (!level) continue;
    chart.marks.push_back(
        {*level,
         fmt::format("knee{}: {}",
                     chart.series.size() > 1 ? fmt::format(" of {}", text_of(knee, "backend")) : "",
                     significant(*level))});
  }
  return chart;
}

// The groups with the most wrong answers, in the color of the case's other bars.
std::string group_bars(const ReportJson& one, int color) {
  const ReportJson& groups = member(one, "groups");
  if (!groups.is_object() || groups.empty()) return "";
  RowChart chart{.text = {.title = text_of(one, "name") + ": accuracy by group, the worst first",
                          .note = "whiskers: 95 % interval (Wilson); in brackets the questions"},
                 .axis = "% of questions right",
                 .rows = {},
                 .axis_end = 100,
                 .width = kHalfChart};
  for (const auto& [name, group] : groups.items()) {
    const double share = number_of(group, "accuracy").value_or(std::nan(""));
    const double count = number_of(group, "num_questions").value_or(0);
    const Interval interval = wilson_interval(share * count, count);
    chart.rows.push_back({.label = fmt::format("{} ({:.0f})", name, count),
                          .value = 100 * share,
                          .low = 100 * interval.low,
                          .high = 100 * interval.high,
                          .value_text = percent_text(share),
                          .color = color});
  }
  std::erase_if(chart.rows, [](const ChartRow& row) { return !std::isfinite(row.value); });
  std::stable_sort(chart.rows.begin(), chart.rows.end(),
                   [](const ChartRow& a, const ChartRow& b) { return a.value < b.value; });
  if (chart.rows.size() > kShownGroups) {
    const ChartRow& next = chart.rows[kShownGroups];
    chart.text.note += fmt::format("; {} more have {}{}", chart.rows.size() - kShownGroups,
                                   next.value_text, next.value < 100 ? " or better" : "");
    chart.rows.resize(kShownGroups);
  }
  return row_chart_svg(chart);
}

ReportTable accuracy_table(const ReportJson& report) {
  ReportTable table{.title = "", .header = {"backend"}, .rows = {}};
  const ReportJson& cases = list_of(report, "cases");
  std::vector<std::string> rules;
  if (!cases.empty() && member(cases[0], "scores").is_object()) {
    for (const auto& [rule, score] : member(cases[0], "scores").items()) rules.push_back(rule);
  }
  table.header.insert(table.header.end(), rules.begin(), rules.end());
  const bool has_votes = number_of(report, "repetitions").value_or(1) > 1;
  if (has_votes) table.header.push_back(majority_key(report));
  for (const char* name : {"seconds", "speed-up", "questions/s", "output tokens/s", "failed"}) {
    table.header.emplace_back(name);
  }
  for (const ReportJson& one : cases) {
    std::vector<std::string> row = {text_of(one, "name")};
    for (const std::string& rule : rules) row.push_back(score_text(score_of(one, rule)));
    if (has_votes) row.push_back(score_text(member(one, majority_key(report))));
    const auto speed_up = number_of(one, "speed_up");
    row.push_back(figure_text(number_of(one, "elapsed_s")));
    row.push_back(speed_up ? fmt::format("{:.2f} \u00d7 {}", *speed_up, text_of(one, "baseline"))
                           : "baseline");
    row.push_back(figure_text(number_of(one, "questions_per_s")));
    row.push_back(figure_text(number_of(one, "output_tokens_per_s")));
    row.push_back(text_of(one, "num_failed"));
    table.rows.push_back(std::move(row));
  }
  return table;
}

ReportTable run_table(const ReportJson& report) {
  ReportTable table{.title = "",
                    .header = {"backend", "questions", "samples", "failed", "cut by max_tokens",
                               "no answer", "left out by early stop", "prompt tokens",
                               "output tokens", "load s", "warm-up s", "warm-up requests"},
                    .rows = {}};
  for (const ReportJson& one : list_of(report, "cases")) {
    std::vector<std::string> row;
    for (const char* key :
         {"name", "num_questions", "num_samples", "num_failed", "num_cut_by_max_tokens",
          "num_without_answer", "num_left_out_by_early_stop", "num_prompt_tokens",
          "num_output_tokens"}) {
      row.push_back(text_of(one, key));
    }
    row.push_back(figure_text(number_of(one, "load_s")));
    row.push_back(figure_text(number_of(member(one, "warm_up"), "seconds")));
    row.push_back(text_of(member(one, "warm_up"), "requests"));
    table.rows.push_back(std::move(row));
  }
  return table;
}

void add_agreement(const ReportJson& report, HtmlPage& page) {
  ReportTable agreement{.title = "",
                        .header = {"backend", "with", "equal texts", "samples", "right only here",
                                   "right only there", "p (sign test)"},
                        .rows = {}};
  ReportTable differences{
      .title = "",
      .header = {"backend", "line", "sample", "at byte", "text", "the other's", "answers"},
      .rows = {}};
  const auto judged = [](const ReportJson& one, const char* answer, const char* right) {
    return fmt::format("{} ({})", text_of(one, answer),
                       text_of(one, right) == "true" ? "right" : "wrong");
  };
  for (const ReportJson& comparison : list_of(report, "comparisons")) {
    const std::string name = text_of(comparison, "case");
    agreement.rows.push_back(
        {name, text_of(comparison, "baseline"), text_of(comparison, "num_equal_texts"),
         text_of(comparison, "num_samples"), text_of(comparison, "num_right_only_here"),
         text_of(comparison, "num_right_only_there"),
         figure_text(number_of(comparison, "p_value"))});
    for (const ReportJson& one : list_of(comparison, "differences")) {
      if (differences.rows.size() == kShownDifferences) break;
      differences.rows.push_back({name, text_of(one, "line"), text_of(one, "sample"),
                                  text_of(one, "byte"), text_of(one, "text"),
                                  text_of(one, "baseline_text"),
                                  judged(one, "answer", "right") + ", " +
                                      judged(one, "baseline_answer", "baseline_right")});
    }
  }
  if (agreement.rows.empty()) return;
  page.heading("Agreement of the backends");
  page.table(agreement);
  if (differences.rows.empty()) return;
  page.heading(fmt::format("Where they first differ ({} shown)", differences.rows.size()));
  page.table(differences);
}

}  // namespace

std::vector<Chart> eval_charts(const ReportJson& report) {
  std::vector<Chart> charts;
  if (auto chart = repeated_chart(report, 720)) charts.emplace_back(std::move(*chart));
  if (auto chart = sweep_chart(report, 720)) charts.emplace_back(std::move(*chart));
  charts.emplace_back(accuracy_bars(report, 720));
  charts.emplace_back(time_bars(report, 720));
  return charts;
}

std::string eval_page(const ReportJson& report) {
  const ReportJson& dataset = member(report, "dataset");
  const ReportJson& prompt = member(report, "prompt");
  const ReportJson& model = member(report, "model");
  const ReportJson& device = member(report, "device");
  HtmlPage page("llmrun eval", fmt::format("{} on {}; {} of {}; {}", text_of(model, "name"),
                                           text_of(device, "description"),
                                           count_text(dataset, "num_questions", "question"),
                                           text_of(dataset, "path"), text_of(report, "date")));
  double num_failed = 0;
  for (const ReportJson& one : list_of(report, "cases")) {
    num_failed += number_of(one, "num_failed").value_or(0);
  }
  if (text_of(report, "valid") == "false") {
    page.note(NoteKind::kBad, "INVALID: stopped before all questions were answered");
  }
  if (num_failed > 0) {
    page.note(NoteKind::kBad, counted(static_cast<std::int64_t>(num_failed),
                                      "sample failed; it counts", "samples failed; they count") +
                                  " as wrong");
  }
  page.table(accuracy_table(report));
  page.paragraph(
      "\u00b1: standard error of the mean over questions. A question scores the share of its "
      "samples "
      "that are right.");
  page.charts({row_chart_svg(accuracy_bars(report, kHalfChart)),
               row_chart_svg(time_bars(report, kHalfChart))});
  page.wide_chart(svg_of(repeated_chart(report, kWideChart)));
  page.wide_chart(svg_of(sweep_chart(report, kWideChart)));
  std::vector<std::string> groups;
  BackendColors colors;
  for (const ReportJson& one : list_of(report, "cases")) {
    groups.push_back(group_bars(one, colors.of(one)));
  }
  page.charts(groups);
  add_case_steps("The engine over time", report, page);
  add_agreement(report, page);
  page.heading("Runs");
  page.table(run_table(report));
  std::vector<std::pair<std::string, std::string>> flags;
  for (const ReportJson& one : list_of(report, "cases")) {
    flags.emplace_back(text_of(one, "name"), text_of(one, "flags"));
  }
  page.facts(flags);
  add_environment(
      report,
      {{"date", text_of(report, "date")},
       {"device", text_of(device, "description")},
       {"processor", text_of(device, "processor")},
       {"model", fmt::format("{}, {}", text_of(model, "name"), text_of(model, "dtype"))},
       {"questions",
        fmt::format("{} of {}", text_of(dataset, "num_questions"), text_of(dataset, "path"))},
       {"file's SHA-256", text_of(dataset, "sha256")},
       {"prompt", fmt::format("{}, {}, {}-shot", text_of(prompt, "style"),
                              text_of(prompt, "chat") == "true" ? "as a chat" : "as a completion",
                              text_of(prompt, "num_fewshot"))},
       {"judged by", text_of(report, "main_rule")},
       {"sampling", json_text(member(report, "sampling"))}},
      page);
  return page.finish();
}

}  // namespace llmrun
