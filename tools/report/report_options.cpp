#include "tools/report/report_options.h"

#include <iostream>

#include "engine/core/json.h"
#include "tools/report/report_file.h"

namespace llmrun {
namespace {

std::string render(const ReportForms& forms, const std::string& format) {
  if (format == "md") return forms.markdown();
  if (format == "json") return dump_json(forms.json(), 2) + "\n";
  if (format == "jsonl") return forms.json_lines();
  if (format == "csv") return csv_table(forms.records());
  if (format == "sql") return sql_table(forms.records());
  return forms.text();
}

}  // namespace

void add_report_options(CLI::App& command, ReportOptions& options) {
  const std::string group = "Report";
  command
      .add_option("--output", options.output,
                  "Of the report on standard output: text, md, json, jsonl, csv or sql")
      ->check(CLI::IsMember({"text", "md", "json", "jsonl", "csv", "sql"}))
      ->group(group)
      ->capture_default_str();
  command.add_option("--output-json", options.output_json, "Also write the report as JSON")
      ->group(group);
}

void require_writable(const ReportOptions& options) {
  if (!options.output_json.empty()) require_writable(options.output_json);
}

void write_report(const ReportOptions& options, const ReportForms& forms) {
  std::cout << render(forms, options.output) << std::flush;
  if (!options.output_json.empty()) {
    write_text_file(options.output_json, dump_json(forms.json(), 4) + "\n");
  }
}

}  // namespace llmrun
