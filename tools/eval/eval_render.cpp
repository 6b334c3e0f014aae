#include "tools/eval/eval_render.h"

#include <algorithm>
#include <cmath>

#include <fmt/format.h>

#include "engine/core/counted.h"
#include "engine/core/json.h"
#include "engine/core/version.h"
#include "tools/terminal.h"

namespace llmrun {
namespace {

constexpr std::size_t kShownDifferences = 10;

std::string score_text(const Score& score) {
  return fmt::format("{:.1f} % +- {:.1f}", 100 * score.mean, 100 * score.standard_error);
}

std::string speed_up_text(const EvalCaseReport& one) {
  if (one.speed_up) return fmt::format("{:.2f} x {}", *one.speed_up, one.baseline);
  return one.baseline.empty() ? "baseline" : "partial";
}

ReportTable accuracy_table(const EvalReport& report) {
  ReportTable table{.title = "Accuracy", .header = {"backend"}, .rows = {}};
  for (const ExtractionRule rule : kExtractionRules) table.header.emplace_back(to_string(rule));
  const bool has_votes = report.repetitions > 1;
  if (has_votes) table.header.push_back(fmt::format("maj@{}", report.repetitions));
  table.header.emplace_back("minutes:seconds");
  if (report.cases.size() > 1) table.header.emplace_back("speed-up");
  for (const EvalCaseReport& one : report.cases) {
    std::vector<std::string> row = {one.name};
    for (const RuleScore& score : one.scores) row.push_back(score_text(score.accuracy));
    if (has_votes) row.push_back(one.majority ? score_text(*one.majority) : "");
    row.push_back(minutes_text(one.elapsed_s));
    if (report.cases.size() > 1) row.push_back(speed_up_text(one));
    table.rows.push_back(std::move(row));
  }
  return table;
}

ReportTable run_table(const EvalReport& report) {
  ReportTable table{.title = "Runs",
                    .header = {"backend", "questions", "samples", "failed", "cut by max_tokens",
                               "no answer", "prompt tokens", "output tokens", "questions/s",
                               "output tokens/s", "load s", "warm-up s (requests)"},
                    .rows = {}};
  for (const EvalCaseReport& one : report.cases) {
    table.rows.push_back(
        {one.name, fmt::format("{}", one.num_questions), fmt::format("{}", one.num_samples),
         fmt::format("{}", one.num_failed), fmt::format("{}", one.num_cut),
         fmt::format("{}", one.num_without_answer), fmt::format("{}", one.num_prompt_tokens),
         fmt::format("{}", one.num_output_tokens), fmt::format("{:.2f}", one.questions_per_s()),
         fmt::format("{:.1f}", one.output_tokens_per_s()), fmt::format("{:.2f}", one.load_s),
         fmt::format("{:.2f} ({})", one.warm_up_s, one.num_warm_up_requests)});
  }
  return table;
}

ReportTable repeated_table(const EvalReport& report) {
  ReportTable table{.title = fmt::format("Of k samples ({}; means over all subsets of {})",
                                         to_string(report.rule), report.repetitions),
                    .header = {"k"},
                    .rows = {}};
  if (report.cases.empty()) return table;
  for (const EvalCaseReport& one : report.cases) {
    table.header.push_back(one.name + " pass@k");
    table.header.push_back(one.name + " maj@k");
  }
  for (std::size_t i = 0; i < report.cases.front().repeated.size(); ++i) {
    std::vector<std::string> row = {fmt::format("{}", i + 1)};
    for (const EvalCaseReport& one : report.cases) {
      row.push_back(score_text(one.repeated[i].pass));
      row.push_back(score_text(one.repeated[i].majority));
    }
    table.rows.push_back(std::move(row));
  }
  return table;
}

ReportTable early_stop_table(const EvalReport& report) {
  ReportTable table{.title = "Early stop: samples that no vote depended on",
                    .header = {"backend", "planned", "asked", "saved"},
                    .rows = {}};
  if (!report.early_stop) return table;
  for (const EvalCaseReport& one : report.cases) {
    const std::int64_t planned = one.num_samples + one.num_left_out;
    table.rows.push_back({one.name, fmt::format("{}", planned), fmt::format("{}", one.num_samples),
                          fmt::format("{} ({:.1f} %)", one.num_left_out,
                                      planned == 0 ? 0.0
                                                   : 100.0 * static_cast<double>(one.num_left_out) /
                                                         static_cast<double>(planned))});
  }
  return table;
}

ReportTable group_table(const EvalReport& report) {
  ReportTable table{
      .title = fmt::format("Accuracy by {} ({})", report.group_field, to_string(report.rule)),
      .header = {report.group_field, "questions"},
      .rows = {}};
  if (report.cases.empty()) return table;
  for (const EvalCaseReport& one : report.cases) table.header.push_back(one.name);
  for (std::size_t i = 0; i < report.cases.front().groups.size(); ++i) {
    const GroupScore& first = report.cases.front().groups[i];
    std::vector<std::string> row = {first.group, fmt::format("{}", first.num_questions)};
    for (const EvalCaseReport& one : report.cases) {
      const auto found = std::find_if(one.groups.begin(), one.groups.end(), [&](const auto& group) {
        return group.group == first.group;
      });
      row.push_back(found == one.groups.end() ? ""
                                              : fmt::format("{:.1f} %", 100 * found->accuracy));
    }
    table.rows.push_back(std::move(row));
  }
  return table;
}

ReportTable sweep_table(const EvalReport& report) {
  ReportTable table{
      .title = "Sweep: the knee is the smallest level with 90 % of the best throughput",
      .header = {"backend", "knee at", "questions/s there", "of the best"},
      .rows = {}};
  for (const Knee& knee : report.knees) {
    table.rows.push_back({knee.backend, fmt::format("{}", knee.max_num_seqs),
                          fmt::format("{:.2f}", knee.questions_per_s),
                          fmt::format("{:.1f} %", 100 * knee.share_of_best)});
  }
  return table;
}

ReportTable comparison_table(const EvalReport& report) {
  ReportTable table{.title = "Agreement",
                    .header = {"backend", "with", "equal texts", "right only here",
                               "right only there", "p (sign test)"},
                    .rows = {}};
  for (const EvalComparison& one : report.comparisons) {
    table.rows.push_back(
        {one.case_name, one.baseline,
         fmt::format("{} of {}", one.num_samples - std::ssize(one.differences), one.num_samples),
         fmt::format("{}", one.num_right_only_here), fmt::format("{}", one.num_right_only_there),
         fmt::format("{:.3f}", one.p_value)});
  }
  return table;
}

// One line, in which nothing moves the cursor.
std::string shown(const std::string& text) {
  std::string line;
  for (const char c : text) line += c == '\n' ? std::string("\\n") : std::string(1, c);
  return printable(line);
}

ReportTable difference_table(const EvalComparison& comparison, std::size_t max_differences) {
  const std::size_t count = std::min(comparison.differences.size(), max_differences);
  ReportTable table{
      .title = fmt::format("Where {} and {} differ ({} of {})", comparison.case_name,
                           comparison.baseline, count,
                           counted(std::ssize(comparison.differences), "sample")),
      .header = {"line", "sample", "at byte", comparison.case_name, comparison.baseline, "answers"},
      .rows = {}};
  const auto mark = [](bool right) { return right ? "right" : "wrong"; };
  for (std::size_t i = 0; i < count; ++i) {
    const SampleDifference& one = comparison.differences[i];
    table.rows.push_back({fmt::format("{}", one.line), fmt::format("{}", one.sample),
                          fmt::format("{}", one.position), shown(one.text),
                          shown(one.baseline_text),
                          fmt::format("{} ({}), {} ({})", shown(one.answer), mark(one.right),
                                      shown(one.baseline_answer), mark(one.baseline_right))});
  }
  return table;
}

std::vector<std::string> environment_lines(const EvalReport& report) {
  std::vector<std::string> lines = {
      fmt::format("llmrun {} {} ({}, {}), {}", kVersion, kGitCommit, kCompiler, kBuildType,
                  report.date),
      fmt::format("device: {}; processor: {}", report.device, report.processor),
      fmt::format("model: {}{}", report.model, report.dtype.empty() ? "" : ", " + report.dtype),
      fmt::format("questions: {} of {}, sha256 {}", report.num_questions, report.path,
                  report.file_sha256),
      fmt::format("prompt: {}, {}, {}-shot{}", report.prompt,
                  report.is_chat ? "as a chat" : "as a completion", report.num_fewshot,
                  report.fewshot_path.empty() ? "" : " from " + report.fewshot_path),
      fmt::format("sampling: {}", dump_json(report.sampling))};
  for (const EvalCaseReport& one : report.cases) {
    lines.push_back(fmt::format("{}: {}", one.name, one.flags));
    if (one.num_resumed > 0) {
      lines.push_back(fmt::format("{}: {} of an earlier run; its time is counted", one.name,
                                  counted(one.num_resumed, "question is", "questions are")));
    }
  }
  lines.emplace_back(
      "accuracy: mean over questions of the share of right samples; +- is its standard error "
      "over questions; failed samples count as wrong");
  lines.emplace_back(
      "time: from the first question to the last answer; loading and warm-up are not in it");
  if (report.early_stop) {
    lines.emplace_back(
        "early stop: a question's samples are only those its vote needed, which say nothing of "
        "pass@k and of fewer votes");
  }
  return lines;
}

// Empty for a whole run.
std::string stopped_line(const EvalReport& report) {
  if (!report.was_stopped) return "";
  const EvalCaseReport& last = report.cases.back();
  return fmt::format("INVALID: a signal stopped the run; {}: {} of {} answered\n", last.name,
                     last.num_questions,
                     counted(report.num_questions, "question is", "questions are"));
}

}  // namespace

std::string minutes_text(double seconds) {
  const auto tenths = static_cast<std::int64_t>(std::llround(seconds * 10));
  return fmt::format("{}:{:02}.{}", tenths / 600, tenths / 10 % 60, tenths % 10);
}

std::vector<ReportTable> report_tables(const EvalReport& report, std::size_t max_differences) {
  std::vector<ReportTable> tables = {
      accuracy_table(report), repeated_table(report), early_stop_table(report), run_table(report),
      sweep_table(report),    group_table(report),    comparison_table(report)};
  for (const EvalComparison& comparison : report.comparisons) {
    tables.push_back(difference_table(comparison, max_differences));
  }
  std::erase_if(tables, [](const ReportTable& table) { return table.rows.empty(); });
  return tables;
}

std::string render_text(const EvalReport& report) {
  std::string text;
  if (report.was_stopped) text = fmt::format("\n{}", stopped_line(report));
  for (const ReportTable& table : report_tables(report, kShownDifferences)) {
    text += text_table(table);
  }
  text += "\nRun\n";
  for (const std::string& line : environment_lines(report)) text += "  " + line + "\n";
  return text.substr(1);
}

std::string render_markdown(const EvalReport& report) {
  std::string text = fmt::format("# llmrun eval\n\n`{}`\n\n", report.command_line);
  if (report.was_stopped) text += stopped_line(report) + "\n";
  for (const std::string& line : environment_lines(report)) text += "- " + line + "\n";
  for (const ReportTable& table : report_tables(report, kShownDifferences)) {
    text += markdown_table(table);
  }
  return text;
}

}  // namespace llmrun
