// The forms in which comparisons are written.
#pragma once

#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "tools/compare/comparison.h"
#include "tools/report/report_table.h"

namespace llmrun {

ReportTable comparison_table(const std::vector<RunComparison>& results);
// One sentence that says it all: "2 compared: 1 slower, 1 no difference".
std::string comparison_summary(const std::vector<RunComparison>& results);
// What the figures mean, and what to know of single rows; a line each.
std::vector<std::string> comparison_notes(const std::vector<RunComparison>& results,
                                          double fail_below);

std::string render_comparison_text(const std::vector<RunComparison>& results, double fail_below);
// For a pull request's comment.
std::string render_comparison_markdown(const std::vector<RunComparison>& results,
                                       double fail_below);
nlohmann::ordered_json render_comparison_json(const std::vector<RunComparison>& results,
                                              double fail_below);
// A line for each comparison.
std::string render_comparison_jsonl(const std::vector<RunComparison>& results);
// A column for each figure; the cells of numbers hold all digits.
ReportTable comparison_records(const std::vector<RunComparison>& results);

}  // namespace llmrun
