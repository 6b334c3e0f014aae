#include "tools/report/report_parts.h"

#include <algorithm>
#include <cctype>
#include <cmath>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "engine/core/counted.h"
#include "tools/number_text.h"

namespace llmrun {
namespace {

// Latencies that differ by more than this factor need a log scale.
constexpr double kLogFrom = 25;

bool is_status(const ReportJson& check, const char* status) {
  return text_of(check, "status") == status;
}

std::vector<std::string> timeline_charts(const ReportJson& timeline) {
  std::vector<std::string> charts;
  XyChart sequences{.text = {.title = "Sequences over time"},
                    .x = {.label = "seconds since the start", .low = 0},
                    .y = {.label = "sequences", .low = 0, .counts = true},
                    .series = {},
                    .width = kThirdChart,
                    .height = 250};
  sequences.series.push_back({.name = "running",
                              .kind = SeriesKind::kStep,
                              .points = points_of(timeline, "time_s", "running"),
                              .color = 0,
                              .has_area = true});
  sequences.series.push_back({.name = "waiting",
                              .kind = SeriesKind::kStep,
                              .points = points_of(timeline, "time_s", "waiting"),
                              .color = 1});
  std::erase_if(sequences.series, [](const ChartSeries& one) { return one.points.empty(); });
  if (!sequences.series.empty()) charts.push_back(xy_chart_svg(sequences));

  XyChart kv_cache = sequences;
  kv_cache.text.title = "KV cache in use over time";
  kv_cache.y = {.label = "% of its blocks", .low = 0};
  kv_cache.series = {{.name = "",
                      .kind = SeriesKind::kStep,
                      .points = points_of(timeline, "time_s", "kv_used_percent"),
                      .color = 2,
                      .has_area = true}};
  if (!kv_cache.series.front().points.empty()) charts.push_back(xy_chart_svg(kv_cache));
  return charts;
}

// "" when it was not recorded.
std::string batch_chart(const ReportJson& batches) {
  std::vector<ChartPoint> points = points_of(batches, "first", "steps");
  const std::vector<double> last = numbers_of(batches, "last");
  if (points.empty() || last.size() != points.size()) return "";
  points.push_back({last.back() + 1, 0});
  for (ChartPoint& point : points) point.x -= 0.5;  // a column stands over its size
  const double begin = points.front().x;
  const double end = points.back().x;
  return xy_chart_svg(
      {.text = {.title = "Batch size of decode steps",
                .note = "steps that also compute prompts are not in it"},
       .x = {.label = "sequences in a step", .low = begin, .high = end, .counts = true},
       .y = {.label = "steps", .low = 0, .counts = true},
       .series =
           {{.name = "", .kind = SeriesKind::kColumns, .points = std::move(points), .color = 3}},
       .width = kThirdChart,
       .height = 250});
}

// The checks of a status, each once.
std::vector<std::string> names_of(const ReportJson& checks, const char* status) {
  std::vector<std::string> names;
  for (const ReportJson& check : checks) {
    std::string name = text_of(check, "name");
    if (is_status(check, status) && std::find(names.begin(), names.end(), name) == names.end()) {
      names.push_back(std::move(name));
    }
  }
  return names;
}

}  // namespace

LatencyCurve latency_curve(const std::string& name, const ReportJson& latency) {
  LatencyCurve curve{.name = name, .points = points_of(member(latency, "cdf"), "values", "shares")};
  for (ChartPoint& point : curve.points) point.y *= 100;
  if (!curve.points.empty()) return curve;
  constexpr std::pair<const char*, double> kPercentiles[] = {
      {"min", 0}, {"p50", 50}, {"p90", 90}, {"p95", 95}, {"p99", 99}, {"max", 100}};
  if (number_of(latency, "count").value_or(0) == 0) return curve;
  curve.is_coarse = true;
  for (const auto& [key, share] : kPercentiles) {
    if (const auto value = number_of(latency, key)) curve.points.push_back({*value, share});
  }
  return curve;
}

std::optional<XyChart> latency_chart(const std::string& title, const std::string& note,
                                     const std::vector<LatencyCurve>& curves) {
  XyChart chart{.text = {.title = title, .note = note},
                .x = {.label = "milliseconds"},
                .y = {.label = "% of samples at or below", .low = 0, .high = 100},
                .series = {},
                .width = kHalfChart,
                .height = 290};
  ValueRange range;
  int color = 0;
  bool is_coarse = false;
  for (const LatencyCurve& curve : curves) {
    for (const ChartPoint& point : curve.points) range.add(point.x);
    is_coarse |= curve.is_coarse;
    chart.series.push_back({.name = curve.name, .points = curve.points, .color = color++});
  }
  if (range.is_empty()) return std::nullopt;
  if (is_coarse) {
    chart.text.note += (note.empty() ? "" : "; ") + std::string("from percentiles alone");
  }
  if (range.low() > 0 && range.high() / range.low() > kLogFrom) {
    chart.x.kind = ScaleKind::kLog;
    chart.x.label += ", log scale";
  } else if (range.low() > 0 && range.high() / range.low() > 1.5) {
    chart.x.low = 0;
  }
  return chart;
}

std::string svg_of(const std::optional<XyChart>& chart) {
  return chart ? xy_chart_svg(*chart) : "";
}

std::vector<std::string> step_charts(const ReportJson& run) {
  std::vector<std::string> charts = timeline_charts(member(run, "timeline"));
  charts.push_back(batch_chart(member(run, "decode_batches")));
  std::erase(charts, "");
  return charts;
}

void add_case_steps(const std::string& heading, const ReportJson& report, HtmlPage& page) {
  const ReportJson& cases = list_of(report, "cases");
  const bool has_any = std::any_of(cases.begin(), cases.end(),
                                   [](const ReportJson& one) { return !step_charts(one).empty(); });
  if (!has_any) return;
  page.heading(heading);
  for (const ReportJson& one : cases) {
    const std::vector<std::string> charts = step_charts(one);
    if (cases.size() > 1) page.subheading(text_of(one, "name"));
    page.charts_in_threes(charts);
    if (charts.empty()) page.paragraph("Not known: it was not recorded, or a server did not tell.");
  }
}

void add_verdict(const ReportJson& checks, HtmlPage& page) {
  std::int64_t num_warnings = 0;
  std::int64_t num_invalid = 0;
  std::int64_t num_checks = 0;
  for (const ReportJson& check : checks) {
    num_checks += is_status(check, "NOT MEASURED") ? 0 : 1;
    num_warnings += is_status(check, "WARNING") ? 1 : 0;
    num_invalid += is_status(check, "INVALID") ? 1 : 0;
  }
  if (num_invalid > 0) {
    page.note(NoteKind::kBad, "INVALID: these figures must not be used; see the checks");
  } else if (num_warnings > 0) {
    page.note(NoteKind::kWarning,
              fmt::format("{} of {} with something to note, see below; the figures hold.",
                          num_warnings, counted(num_checks, "check")));
  } else if (num_checks > 0) {
    page.note(NoteKind::kGood, num_checks == 1
                                   ? "The one check is well."
                                   : fmt::format("All {} checks are well.", num_checks));
  }
}

void add_checks(const ReportJson& checks, HtmlPage& page) {
  ReportTable table{.title = "", .header = {"status", "check", "of", "what"}, .rows = {}};
  for (const char* status : {"INVALID", "WARNING"}) {
    for (const ReportJson& check : checks) {
      if (!is_status(check, status)) continue;
      table.rows.push_back(
          {status, text_of(check, "name"), text_of(check, "case"), text_of(check, "message")});
    }
  }
  const std::vector<std::string> well = names_of(checks, "OK");
  const std::vector<std::string> unknown = names_of(checks, "NOT MEASURED");
  if (table.rows.empty() && well.empty() && unknown.empty()) return;
  page.heading("Checks");
  page.table(table);
  if (!well.empty()) page.paragraph(fmt::format("OK: {}", fmt::join(well, ", ")));
  if (!unknown.empty()) {
    page.paragraph(
        fmt::format("Not measured, the device does not tell: {}", fmt::join(unknown, ", ")));
  }
}

void add_environment(const ReportJson& report,
                     const std::vector<std::pair<std::string, std::string>>& more, HtmlPage& page) {
  page.heading("Environment");
  std::vector<std::pair<std::string, std::string>> facts = {{"program", build_text(report)}};
  facts.insert(facts.end(), more.begin(), more.end());
  page.facts(facts);
  if (const std::string line = text_of(report, "command_line"); !line.empty()) {
    page.heading("Command line");
    page.code(line);
  }
}

std::string build_text(const ReportJson& report) {
  const ReportJson& build = member(report, "build");
  const auto either = [&](const char* name, const char* other) {
    const std::string text = text_of(build, name);
    return text.empty() ? text_of(build, other) : text;
  };
  return fmt::format("llmrun {} ({}, {}, {})", text_of(build, "version"),
                     either("git_commit", "commit"), text_of(build, "compiler"),
                     either("build_type", "type"));
}

std::string json_text(const ReportJson& value) {
  if (value.is_null()) return "";
  return value.dump(-1, ' ', false, ReportJson::error_handler_t::replace);
}

std::string figure_text(std::optional<double> value) {
  return value && std::isfinite(*value) ? significant(*value) : "";
}

std::string percent_text(std::optional<double> share) {
  return share && std::isfinite(*share) ? fmt::format("{:.1f} %", 100 * *share) : "";
}

std::string unit_text(double value, const char* unit) {
  std::string number = axis_number(value);
  const bool has_prefix = std::isalpha(static_cast<unsigned char>(number.back())) != 0;
  number.insert(number.size() - (has_prefix ? 1 : 0), " ");
  return number + unit;
}

}  // namespace llmrun
