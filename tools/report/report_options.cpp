#include "tools/report/report_options.h"

#include <algorithm>
#include <iostream>

#include <unistd.h>

#include "engine/core/error.h"
#include "engine/core/json.h"
#include "tools/report/report_file.h"
#include "tools/report/report_page.h"
#include "tools/terminal.h"

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

bool shows_text_plots(const ReportOptions& options) {
  if (options.output != "text" || options.text_plots == "never") return false;
  return options.text_plots == "always" || ::isatty(STDOUT_FILENO) != 0;
}

void print_text_plots(const nlohmann::ordered_json& json) {
  const TerminalStyle style = terminal_style(STDOUT_FILENO, ColorMode::kAuto);
  std::cout << report_text_plots(json, std::min(style.columns, 100), style.unicode);
}

void write_drawings(const ReportOptions& options, const nlohmann::ordered_json& json) {
  if (!options.html.empty()) write_text_file(options.html, report_page(json));
  if (!options.plot.empty()) write_text_file(options.plot, report_plot(json));
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
  command
      .add_option("--html", options.html,
                  "Also write the report as a page for browsers: one file, with its plots")
      ->group(group);
  command.add_option("--plot", options.plot, "Also write the most telling plot, as SVG")
      ->group(group);
  command
      .add_option("--text-plots", options.text_plots,
                  "Small plots below the text: auto (on a terminal), always or never")
      ->check(CLI::IsMember({"auto", "always", "never"}))
      ->group(group)
      ->capture_default_str();
}

void require_writable(const ReportOptions& options) {
  for (const std::string& path : {options.output_json, options.html, options.plot}) {
    if (!path.empty()) require_writable(path);
  }
}

void write_report(const ReportOptions& options, const ReportForms& forms) {
  const bool needs_json = !options.output_json.empty() || !options.html.empty() ||
                          !options.plot.empty() || shows_text_plots(options);
  const nlohmann::ordered_json json = needs_json ? forms.json() : nullptr;
  std::cout << render(forms, options.output);
  if (shows_text_plots(options)) print_text_plots(json);
  std::cout << std::flush;
  if (!options.output_json.empty()) {
    write_text_file(options.output_json, dump_json(json, 4) + "\n");
  }
  write_drawings(options, json);
}

void draw_report(const ReportOptions& options, const nlohmann::ordered_json& report,
                 const std::string& path) {
  if (!is_report(report)) {
    throw Error(
        ErrorKind::kInput,
        path + ": is no report that llmrun wrote by --output-json; only those can be drawn");
  }
  if (shows_text_plots(options)) print_text_plots(report);
  write_drawings(options, report);
}

}  // namespace llmrun
