// Where a command's report goes and in which forms: the flags, and what is done about them. Shared
// by every command that measures something.
#pragma once

#include <functional>
#include <string>

#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include "tools/report/report_table.h"

namespace llmrun {

struct ReportOptions {
  std::string output = "text";      // on standard output: text | md | json | jsonl | csv | sql
  std::string output_json;          // file; empty: none
  std::string html;                 // file; empty: none
  std::string plot;                 // file; empty: none
  std::string text_plots = "auto";  // auto: when standard output is a terminal; always; never
};

// --output, --output-json, --html, --plot, --text-plots.
void add_report_options(CLI::App& command, ReportOptions& options);

// Throws Error(kOutput) for a file that cannot be written. To be called before the run, whose
// results must not be lost to a wrong name.
void require_writable(const ReportOptions& options);

// What makes each form of one report; only those that are asked for are called.
struct ReportForms {
  std::function<std::string()> text;
  std::function<std::string()> markdown;
  std::function<nlohmann::ordered_json()> json;  // the page and the plots are made of it too
  std::function<std::string()> json_lines;
  std::function<ReportTable()> records;  // what CSV and SQL hold; its title names the SQL table
};

// Writes the report to standard output, then to the files. Throws Error(kOutput).
void write_report(const ReportOptions& options, const ReportForms& forms);

// The page, the figure and the text plots of a report that was stored as JSON, where they are asked
// for; its path is for messages. Throws Error(kInput) when it is no report of llmrun.
void draw_report(const ReportOptions& options, const nlohmann::ordered_json& report,
                 const std::string& path);

}  // namespace llmrun
