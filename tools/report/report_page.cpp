#include "tools/report/report_page.h"

#include "tools/plot/chart_style.h"
#include "tools/plot/text_chart.h"

namespace llmrun {
namespace {

struct CommandReport {
  const char* command;
  std::string (*page)(const ReportJson&);
  std::vector<Chart> (*charts)(const ReportJson&);
};

constexpr CommandReport kCommands[] = {
    {"throughput", throughput_page, throughput_charts},
    {"serve-bench", serving_page, serving_charts},
    {"eval", eval_page, eval_charts},
    {"compare", comparison_page, comparison_charts},
};

const CommandReport* find_command(const ReportJson& report) {
  const std::string command = text_of(report, "command");
  const std::string tool = text_of(report, "tool");  // beside the keys of vLLM's benchmark
  for (const CommandReport& one : kCommands) {
    if (command == one.command || tool == std::string("llmrun ") + one.command) return &one;
  }
  return nullptr;
}

}  // namespace

bool is_report(const ReportJson& report) {
  return find_command(report) != nullptr;
}

std::string report_page(const ReportJson& report) {
  return find_command(report)->page(report);
}

std::string report_plot(const ReportJson& report) {
  return standalone_svg(chart_svg(find_command(report)->charts(report).front()));
}

std::string report_text_plots(const ReportJson& report, int columns, bool unicode) {
  std::string text;
  for (const Chart& chart : find_command(report)->charts(report)) {
    text += '\n';
    text += chart_text(chart, columns, unicode);
  }
  return text;
}

}  // namespace llmrun
