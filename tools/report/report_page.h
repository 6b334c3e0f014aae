// From a report as JSON to what people look at: a page of HTML, one figure, a few lines of text.
// Works for reports of this run and for stored ones, of any command.
#pragma once

#include <string>
#include <vector>

#include "tools/report/report_json.h"

namespace llmrun {

// Whether a page can be made of it: a report that throughput, serve-bench, eval or compare wrote as
// JSON.
bool is_report(const ReportJson& report);

// A page of its own with all there is. REQUIRES: is_report.
std::string report_page(const ReportJson& report);
// The one most telling figure, as an SVG file. REQUIRES: is_report.
std::string report_plot(const ReportJson& report);
// Its main figures as text of at most so many columns; of ASCII alone, or with block characters.
// REQUIRES: is_report.
std::string report_text_plots(const ReportJson& report, int columns, bool unicode);

// Of each command: its page, and its main figures, the most telling one first.
std::string throughput_page(const ReportJson& report);
std::vector<Chart> throughput_charts(const ReportJson& report);
std::string serving_page(const ReportJson& report);
std::vector<Chart> serving_charts(const ReportJson& report);
std::string eval_page(const ReportJson& report);
std::vector<Chart> eval_charts(const ReportJson& report);
std::string comparison_page(const ReportJson& report);
std::vector<Chart> comparison_charts(const ReportJson& report);

}  // namespace llmrun
