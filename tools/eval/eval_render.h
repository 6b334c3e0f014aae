// The forms in which an EvalReport is written.
#pragma once

#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "tools/eval/eval_report.h"
#include "tools/report/report_table.h"

namespace llmrun {

// The report as tables, for people. At most `max_differences` samples of each comparison are shown.
std::vector<ReportTable> report_tables(const EvalReport& report, std::size_t max_differences);

std::string render_text(const EvalReport& report);
std::string render_markdown(const EvalReport& report);
// All there is. `results` has the shape of lm-eval's results file, for the first case.
nlohmann::ordered_json render_json(const EvalReport& report);
// A line of JSON for each case, with what the cases share in each.
std::string render_jsonl(const EvalReport& report);
// A row for each case.
ReportTable eval_records(const EvalReport& report);

// "1:05.3": minutes, seconds and tenths.
std::string minutes_text(double seconds);

}  // namespace llmrun
