#include "tools/serve_bench/serve_bench.h"

#include <filesystem>
#include <iostream>

#include "engine/core/error.h"
#include "tools/serve_bench/serve_bench_command.h"

namespace llmrun {

int run_serve_bench(const ServeBenchOptions& options, const std::string& command_line) {
  require_writable(options.report);
  if (options.save_result && !std::filesystem::is_directory(options.result_dir)) {
    throw Error(ErrorKind::kUsage, "--result-dir " + options.result_dir + ": not a folder");
  }
  ServeBenchCommand command(options, command_line);
  const ServingReport& report = command.run();
  const int stopped_code = report.was_stopped ? exit_code_of_signal(command.first_signal()) : 0;
  if (report.was_stopped && report.points.empty()) {
    std::cerr << "llmrun: stopped before anything was measured\n";
    return stopped_code;
  }
  write_report(options.report, {.text = [&] { return render_serving_text(report); },
                                .markdown = [&] { return render_serving_markdown(report); },
                                .json = [&] { return render_serving_json(report); },
                                .json_lines = [&] { return render_serving_jsonl(report); },
                                .records = [&] { return serving_records(report); }});
  if (report.was_stopped) return stopped_code;
  return report.is_valid() ? 0 : 1;
}

}  // namespace llmrun
