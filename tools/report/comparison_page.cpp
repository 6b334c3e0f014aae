// The page of `llmrun compare`.
#include <algorithm>
#include <cmath>

#include <fmt/format.h>

#include "tools/number_text.h"
#include "tools/report/report_page.h"
#include "tools/report/report_parts.h"

namespace llmrun {
namespace {

std::string case_text(const ReportJson& one) {
  std::string base = text_of(one, "base_case");
  const std::string changed = text_of(one, "new_case");
  if (base == changed || changed.empty()) return base;
  return base.empty() ? changed : base + " / " + changed;
}

std::string label_of(const ReportJson& one, bool with_file) {
  std::string label = case_text(one);
  if (const std::string figure = text_of(one, "figure"); !figure.empty()) {
    label += (label.empty() ? "" : ", ") + figure;
  }
  if (with_file) label += (label.empty() ? "" : ", ") + text_of(one, "new_file");
  return label;
}

bool fails(const ReportJson& one) {
  return text_of(one, "fails") == "true";
}

// Colors of the verdicts: for the better, for the worse, the rest.
int color_of(const ReportJson& one) {
  const std::string verdict = text_of(one, "verdict");
  if (verdict == "faster" || verdict == "better") return 2;
  return verdict == "slower" || verdict == "worse" ? 1 : 0;
}

bool has_several(const ReportJson& comparisons, const char* key) {
  return std::any_of(comparisons.begin(), comparisons.end(), [&](const ReportJson& one) {
    return text_of(one, key) != text_of(comparisons[0], key);
  });
}

RowChart ratio_chart(const ReportJson& report, int width) {
  RowChart chart{
      .text = {.title = "How many times as fast as the base", .note = text_of(report, "summary")},
      .axis = "ratio; whiskers: 95 % interval",
      .rows = {},
      .has_bars = false,
      .reference = 1,
      .reference_text = "equal",
      .width = width};
  const ReportJson& comparisons = list_of(report, "comparisons");
  const bool with_file = has_several(comparisons, "new_file");
  for (const ReportJson& one : comparisons) {
    const auto ratio = number_of(one, "speed_ratio");
    if (!ratio) continue;
    chart.rows.push_back({.label = label_of(one, with_file),
                          .value = *ratio,
                          .low = number_of(one, "ci95_low"),
                          .high = number_of(one, "ci95_high"),
                          .value_text = fmt::format("{:.3f}  {}{}", *ratio, text_of(one, "verdict"),
                                                    fails(one) ? ", FAILS" : ""),
                          .color = color_of(one),
                          .is_marked = fails(one)});
  }
  return chart;
}

std::string points_text(std::optional<double> share) {
  return share ? fmt::format("{:+.1f}", 100 * *share) : "";
}

// Of accuracies; without rows when there are none.
RowChart difference_chart(const ReportJson& report, int width) {
  RowChart chart{.text = {.title = "How much more accurate than the base", .note = ""},
                 .axis = "percentage points; whiskers: 95 % interval",
                 .rows = {},
                 .has_bars = false,
                 .reference = 0,
                 .reference_text = "equal",
                 .width = width};
  const ReportJson& comparisons = list_of(report, "comparisons");
  const bool with_file = has_several(comparisons, "new_file");
  for (const ReportJson& one : comparisons) {
    const auto difference = number_of(one, "difference");
    const auto low = number_of(one, "difference_ci95_low");
    const auto high = number_of(one, "difference_ci95_high");
    if (!difference || !low || !high) continue;
    chart.rows.push_back(
        {.label = label_of(one, with_file),
         .value = 100 * *difference,
         .low = 100 * *low,
         .high = 100 * *high,
         .value_text = fmt::format("{}  {}{}", points_text(difference), text_of(one, "verdict"),
                                   fails(one) ? ", FAILS" : ""),
         .color = color_of(one),
         .is_marked = fails(one)});
  }
  return chart;
}

// Those that have something to show; at least one.
std::vector<Chart> charts_of(const ReportJson& report, int width) {
  std::vector<Chart> charts;
  RowChart differences = difference_chart(report, width);
  RowChart ratios = ratio_chart(report, width);
  const bool has_differences = !differences.rows.empty();
  if (has_differences) charts.emplace_back(std::move(differences));
  if (!ratios.rows.empty() || !has_differences) charts.emplace_back(std::move(ratios));
  return charts;
}

ReportTable comparison_rows(const ReportJson& comparisons) {
  ReportTable table{.title = "",
                    .header = {"case", "figure", "base mean", "new mean", "unit", "repeats",
                               "ratio", "points", "95 % interval", "verdict", "workload"},
                    .rows = {}};
  const bool with_file = has_several(comparisons, "new_file");
  if (with_file) table.header.insert(table.header.begin(), "new");
  for (const ReportJson& one : comparisons) {
    const auto ratio = number_of(one, "speed_ratio");
    const auto low = number_of(one, "ci95_low");
    const auto high = number_of(one, "ci95_high");
    const auto difference = number_of(one, "difference");
    std::string interval = low && high ? fmt::format("{:.3f} to {:.3f}", *low, *high) : "";
    if (difference) {
      interval = fmt::format("{} to {}", points_text(number_of(one, "difference_ci95_low")),
                             points_text(number_of(one, "difference_ci95_high")));
    }
    std::string verdict = text_of(one, "verdict");
    if (verdict == "not comparable") verdict += ": " + text_of(one, "reason");
    if (fails(one)) verdict += " (FAILS)";
    std::vector<std::string> row = {
        case_text(one),
        text_of(one, "figure"),
        figure_text(number_of(one, "base_mean")),
        figure_text(number_of(one, "new_mean")),
        text_of(one, "unit"),
        ratio || difference
            ? fmt::format("{} / {}", text_of(one, "base_repeats"), text_of(one, "new_repeats"))
            : "",
        ratio ? fmt::format("{:.3f}", *ratio) : "",
        points_text(difference),
        interval,
        verdict,
        text_of(one, "workload")};
    if (with_file) row.insert(row.begin(), text_of(one, "new_file"));
    table.rows.push_back(std::move(row));
  }
  return table;
}

}  // namespace

std::vector<Chart> comparison_charts(const ReportJson& report) {
  return charts_of(report, 720);
}

std::string comparison_page(const ReportJson& report) {
  HtmlPage page("llmrun compare", text_of(report, "summary"));
  const ReportJson& comparisons = list_of(report, "comparisons");
  const auto count = [&](const auto& is) {
    return std::count_if(comparisons.begin(), comparisons.end(), is);
  };
  const auto num_failing = count(fails);
  const auto num_odd =
      count([](const ReportJson& one) { return text_of(one, "verdict") == "not comparable"; });
  if (num_failing > 0) {
    page.note(NoteKind::kBad, fmt::format("{} significantly below --fail-below {}", num_failing,
                                          text_of(report, "fail_below")));
  } else if (num_odd > 0) {
    page.note(NoteKind::kWarning, fmt::format("{} not comparable; see the table", num_odd));
  }
  for (const Chart& chart : charts_of(report, kWideChart)) page.wide_chart(chart_svg(chart));
  page.table(comparison_rows(comparisons));
  if (!comparisons.empty()) {
    const auto one_or_none = [&](const char* key) {
      return has_several(comparisons, key) ? std::string() : text_of(comparisons[0], key);
    };
    page.facts({{"base", text_of(comparisons[0], "base_file")},
                {"base is of", one_or_none("base_origin")},
                {"new", one_or_none("new_file")},
                {"new is of", one_or_none("new_origin")}});
  }
  page.heading("Notes");
  for (const ReportJson& note : list_of(report, "notes")) {
    if (note.is_string()) page.paragraph(note.get<std::string>());
  }
  return page.finish();
}

}  // namespace llmrun
