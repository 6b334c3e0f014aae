// Parts that the pages of several commands have.
#pragma once

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "tools/report/html_page.h"
#include "tools/report/report_json.h"

namespace llmrun {

// How a chart stands on a page: alone over its whole width, or two or three beside each other.
inline constexpr int kWideChart = 1000;
inline constexpr int kHalfChart = 500;
inline constexpr int kThirdChart = 330;

// The distribution of a latency in one run: its "cdf" of values and shares, or, in reports without
// one, the percentiles that are there.
struct LatencyCurve {
  std::string name;                // of the run
  std::vector<ChartPoint> points;  // milliseconds, share of the samples at or below in percent
  bool is_coarse = false;          // of percentiles only
};
LatencyCurve latency_curve(const std::string& name, const ReportJson& latency);
// Nothing when no run has any.
std::optional<XyChart> latency_chart(const std::string& title, const std::string& note,
                                     const std::vector<LatencyCurve>& curves);

// A run or case over time, as far as it was recorded: sequences that run and wait, the use of the
// KV cache, and how often decode steps had how many sequences. Nothing when it was not.
std::vector<std::string> step_charts(const ReportJson& run);
// Those of all "cases" of a report below a heading, if any has some.
void add_case_steps(const std::string& heading, const ReportJson& report, HtmlPage& page);

// "" for none.
std::string svg_of(const std::optional<XyChart>& chart);

// What stands before all figures: whether they may be used.
void add_verdict(const ReportJson& checks, HtmlPage& page);
// All checks, the worst first.
void add_checks(const ReportJson& checks, HtmlPage& page);
// Build, date, device, processor and `more`, then the command line.
void add_environment(const ReportJson& report,
                     const std::vector<std::pair<std::string, std::string>>& more, HtmlPage& page);

// "llmrun 0.1.0 (1a2b3c, GNU 12.2.0, Release)".
std::string build_text(const ReportJson& report);
// Any value on one line; "" for null.
std::string json_text(const ReportJson& value);
// Four figures or so; "" for none.
std::string figure_text(std::optional<double> value);
std::string percent_text(std::optional<double> share);  // of a share 0 to 1: "12.3 %"
// Of a rate such as 1.5e9 "B/s": "1.5 GB/s".
std::string unit_text(double value, const char* unit);

}  // namespace llmrun
