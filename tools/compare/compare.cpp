#include "tools/compare/compare.h"

#include <algorithm>
#include <optional>

#include "engine/core/error.h"
#include "engine/core/file.h"
#include "engine/core/json.h"
#include "tools/compare/compare_render.h"
#include "tools/flag_checks.h"

namespace llmrun {
namespace {

nlohmann::ordered_json read_report(const std::string& path) {
  const std::string text = read_file(path, kMaxBenchmarkFileBytes, ErrorKind::kInput);
  static_cast<void>(parse_json(text, path, {.max_depth = 64, .error_kind = ErrorKind::kInput}));
  return nlohmann::ordered_json::parse(text);  // once more, in the order it was written in
}

int draw_base(const CompareOptions& options) {
  const ReportOptions& report = options.report;
  if (report.output != "text" || !report.output_json.empty()) {
    throw Error(ErrorKind::kUsage,
                "BASE alone can be drawn, by --html, --plot or --text-plots; --output and "
                "--output-json are forms of a comparison, which needs NEW too");
  }
  if (report.html.empty() && report.plot.empty() && report.text_plots != "always") {
    throw Error(ErrorKind::kUsage,
                "compare needs BASE and NEW; --html FILE, --plot FILE or --text-plots always draws "
                "BASE alone");
  }
  draw_report(options.report, read_report(options.base), options.base);
  return 0;
}

}  // namespace

void add_compare_command(CLI::App& command, CompareOptions& options) {
  command
      .add_option("base", options.base, "The result to compare with: a file of JSON or JSON lines")
      ->required();
  command.add_option("new", options.changed,
                     "Results to compare, each with BASE; without any, BASE is only drawn, by "
                     "--html or --plot");
  command
      .add_option("--metric", options.figures,
                  "Figures to compare, by their names in the JSON, separated by commas (default: "
                  "accuracy of an evaluation, and requests_per_s or the first rate that both sides "
                  "have)")
      ->delimiter(',');
  command.add_flag("--paired", options.is_paired,
                   "The i-th repeats of both sides were run beside each other, in turn: what "
                   "disturbed both cancels; from 6 repeats on");
  command.add_flag("--any-model", options.ignores_model,
                   "Also compare across models, such as the accuracies of two checkpoints");
  command.add_flag("--any-device", options.ignores_device, "Also compare across devices");
  command
      .add_option("--fail-below", options.fail_below,
                  "Exit code 1 when the whole 95 % interval of a ratio is below this (0.97: slower "
                  "by more than 3 %, and not by chance)")
      ->check(number_from(0.0, 1.0));
  add_report_options(command, options.report);
}

int compare_exit_code(const std::vector<RunComparison>& results, bool has_fail_below) {
  constexpr int kDrop = 1;
  constexpr int kBadInput = 3;
  const auto is_not_comparable = [](const RunComparison& one) {
    return one.verdict == Verdict::kNotComparable;
  };
  if (std::any_of(results.begin(), results.end(), [](const auto& one) { return one.fails; })) {
    return kDrop;
  }
  const bool is_bad = has_fail_below
                          ? std::any_of(results.begin(), results.end(), is_not_comparable)
                          : std::all_of(results.begin(), results.end(), is_not_comparable);
  return is_bad ? kBadInput : 0;
}

int run_compare(const CompareOptions& options) {
  require_writable(options.report);
  if (options.changed.empty()) return draw_base(options);
  const std::vector<BenchmarkRun> base = read_benchmark_file(options.base);
  const bool has_fail_below = options.fail_below > 0;
  const CompareRules rules{
      .figures = options.figures,
      .is_paired = options.is_paired,
      .ignores_device = options.ignores_device,
      .ignores_model = options.ignores_model,
      .fail_below = has_fail_below ? std::optional(options.fail_below) : std::nullopt};
  std::vector<RunComparison> results;
  for (const std::string& path : options.changed) {
    for (RunComparison& one : compare_runs(base, read_benchmark_file(path), rules)) {
      results.push_back(std::move(one));
    }
  }
  const double fail_below = options.fail_below;
  write_report(options.report,
               {.text = [&] { return render_comparison_text(results, fail_below); },
                .markdown = [&] { return render_comparison_markdown(results, fail_below); },
                .json = [&] { return render_comparison_json(results, fail_below); },
                .json_lines = [&] { return render_comparison_jsonl(results); },
                .records = [&] { return comparison_records(results); }});
  return compare_exit_code(results, has_fail_below);
}

}  // namespace llmrun
