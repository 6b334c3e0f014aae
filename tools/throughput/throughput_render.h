// The forms in which a ThroughputReport is written.
#pragma once

#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "tools/report/report_table.h"
#include "tools/throughput/throughput_report.h"

namespace llmrun {

// The report as tables, for people.
std::vector<ReportTable> report_tables(const ThroughputReport& report);

// vLLM's three lines of `vllm bench throughput`, as they are there.
std::string vllm_lines(const CaseReport& report);

// `width`: see text_table().
std::string render_text(const ThroughputReport& report, int width = 0);
std::string render_markdown(const ThroughputReport& report);
// All there is, samples included, and vLLM's five keys for the first case.
nlohmann::ordered_json render_json(const ThroughputReport& report);
// A line of JSON for each case, with what the cases share in each.
std::string render_jsonl(const ThroughputReport& report);
// A row for each case, a column for each figure (means over the repeats); empty: not measured.
ReportTable throughput_records(const ThroughputReport& report);

}  // namespace llmrun
