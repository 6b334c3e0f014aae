#include "tools/throughput/throughput_render.h"

#include <algorithm>
#include <cmath>
#include <set>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "engine/core/counted.h"
#include "engine/core/version.h"
#include "tools/number_text.h"
#include "tools/throughput/throughput_cases.h"

namespace llmrun {
namespace {

constexpr double kMiB = 1024.0 * 1024.0;

std::string metric_text(const Metric& metric) {
  if (!metric.is_measured()) return "not measured";
  if (metric.unit == "bytes") return fmt::format("{:.1f}", metric.mean() / kMiB);
  return significant(metric.mean());
}

std::string with_interval(const Metric& metric) {
  if (metric.statistics.count < 2) return fmt::format("{:.2f}", metric.mean());
  return fmt::format("{:.2f} +- {:.2f}", metric.mean(), metric.statistics.ci95_half_width);
}

// Whether the 95 % intervals of both means have values in common; false where one has no interval.
bool intervals_overlap(const SampleStatistics& a, const SampleStatistics& b) {
  return a.count >= 2 && b.count >= 2 &&
         std::abs(a.mean - b.mean) <= a.ci95_half_width + b.ci95_half_width;
}

std::string difference_text(const ThroughputReport& report, const CaseReport& one) {
  for (const Comparison& comparison : report.comparisons) {
    if (comparison.case_name != one.name) continue;
    const auto baseline = std::ranges::find(report.cases, comparison.baseline, &CaseReport::name);
    const bool is_unsure = baseline != report.cases.end() &&
                           intervals_overlap(one.metric("requests_per_s").statistics,
                                             baseline->metric("requests_per_s").statistics);
    return fmt::format("{:+.1f} % ({:.2f} x {}{})", 100 * (comparison.requests_per_s_ratio - 1),
                       comparison.requests_per_s_ratio, comparison.baseline,
                       is_unsure ? "; intervals overlap" : "");
  }
  return "baseline";
}

// A level against the one before it.
std::string step_text(const ThroughputReport& report, const CaseReport& one) {
  if (&one == &report.cases.front()) return "";
  const double before = (&one - 1)->metric("requests_per_s").mean();
  return fmt::format("{:+.1f} %", 100 * (one.metric("requests_per_s").mean() / before - 1));
}

ReportTable throughput_table(const ThroughputReport& report) {
  ReportTable table{.title = "Throughput",
                    .header = {report.is_ablation ? "level" : "backend", "requests/s", "tokens/s",
                               "output tokens/s", "seconds", "difference"},
                    .rows = {}};
  for (const CaseReport& one : report.cases) {
    table.rows.push_back({one.name, with_interval(one.metric("requests_per_s")),
                          fmt::format("{:.2f}", one.metric("total_tokens_per_s").mean()),
                          fmt::format("{:.2f}", one.metric("output_tokens_per_s").mean()),
                          significant(one.metric("elapsed_s").mean()),
                          difference_text(report, one)});
    if (report.is_ablation) table.rows.back().push_back(step_text(report, one));
  }
  if (report.is_ablation) table.header.emplace_back("to the level before");
  return table;
}

ReportTable case_table(const ThroughputReport& report) {
  ReportTable table{.title = report.is_ablation ? "Levels" : "Backends",
                    .header = {report.is_ablation ? "level" : "backend", "flags"},
                    .rows = {}};
  if (report.is_ablation) table.header.insert(table.header.begin() + 1, "adds");
  for (const CaseReport& one : report.cases) {
    std::vector<std::string> row = {one.name, flags_of(one.engine.config)};
    if (report.is_ablation) row.insert(row.begin() + 1, one.description);
    table.rows.push_back(std::move(row));
  }
  return table;
}

ReportTable latency_table(const ThroughputReport& report) {
  ReportTable table{
      .title =
          "Latency (ms; percentiles by linear interpolation, as numpy; a p99 of fewer than 500 "
          "samples says little)",
      .header = {"", "backend", "mean", "p50", "p90", "p95", "p99", "samples", "definition"},
      .rows = {}};
  if (report.cases.empty()) return table;
  for (std::size_t i = 0; i < report.cases.front().latencies.size(); ++i) {
    for (const CaseReport& one : report.cases) {
      const LatencyMetric& latency = one.latencies[i];
      const Distribution& d = latency.distribution;
      const bool is_first = &one == &report.cases.front();
      table.rows.push_back({is_first ? latency.name : "", one.name, significant(d.mean),
                            significant(d.p50), significant(d.p90), significant(d.p95),
                            significant(d.p99), fmt::format("{}", d.count),
                            is_first ? latency.definition : ""});
    }
  }
  return table;
}

bool is_measured_anywhere(const ThroughputReport& report, std::size_t metric) {
  return std::any_of(report.cases.begin(), report.cases.end(),
                     [&](const CaseReport& one) { return one.metrics[metric].is_measured(); });
}

// The names of the figures that no case has.
std::string not_measured(const ThroughputReport& report) {
  std::string names;
  if (report.cases.empty()) return names;
  const std::vector<Metric>& metrics = report.cases.front().metrics;
  for (std::size_t i = 0; i < metrics.size(); ++i) {
    if (is_measured_anywhere(report, i)) continue;
    names += (names.empty() ? "" : ", ") + metrics[i].name;
  }
  return names;
}

// A row for each figure of the group, a column for each case.
ReportTable group_table(const ThroughputReport& report, const std::string& group,
                        const std::string& title) {
  ReportTable table{.title = title, .header = {""}, .rows = {}};
  for (const CaseReport& one : report.cases) table.header.push_back(one.name);
  table.header.emplace_back("unit");
  table.header.emplace_back("definition");
  if (report.cases.empty()) return table;
  const std::vector<Metric>& metrics = report.cases.front().metrics;
  for (std::size_t i = 0; i < metrics.size(); ++i) {
    if (metrics[i].group != group || !is_measured_anywhere(report, i)) continue;
    std::vector<std::string> row = {metrics[i].name};
    for (const CaseReport& one : report.cases) row.push_back(metric_text(one.metrics[i]));
    row.push_back(metrics[i].unit == "bytes" ? "MiB" : metrics[i].unit);
    row.push_back(metrics[i].definition);
    table.rows.push_back(std::move(row));
  }
  return table;
}

ReportTable output_table(const ThroughputReport& report) {
  ReportTable table{.title = "Outputs (equal seeds; SHA-256 over index and token ids)",
                    .header = {report.is_ablation ? "level" : "backend", "digest", "equal requests",
                               "equal tokens", "first difference"},
                    .rows = {}};
  for (const CaseReport& one : report.cases) {
    std::vector<std::string> row = {one.name, one.output_digest.substr(0, 16), "", "", ""};
    for (const Comparison& comparison : report.comparisons) {
      if (comparison.case_name != one.name) continue;
      row[2] = fmt::format("{:.1f} % of {}'s", 100 * comparison.same_requests_share,
                           comparison.baseline);
      row[3] = fmt::format("{:.1f} %", 100 * comparison.same_tokens_share);
      row[4] = comparison.first_difference
                   ? fmt::format("request {}, token {}", comparison.first_difference->first,
                                 comparison.first_difference->second)
                   : "none";
    }
    table.rows.push_back(std::move(row));
  }
  return table;
}

ReportTable start_up_table(const ThroughputReport& report) {
  ReportTable table{
      .title = "Start-up (not in the figures above)",
      .header = {report.is_ablation ? "level" : "backend", "engine ready s", "device s",
                 "weights s", "memory s", "warm-up s", "warm-up requests"},
      .rows = {}};
  for (const CaseReport& one : report.cases) {
    table.rows.push_back(
        {one.name, significant(one.load_s), significant(one.engine.start_up.device_s),
         significant(one.engine.start_up.weights_s), significant(one.engine.start_up.memory_s),
         significant(one.warm_up_s), fmt::format("{}", one.num_warm_up_requests)});
  }
  return table;
}

std::string lengths_text(const char* name, const Distribution& d) {
  return fmt::format("{} mean {} p50 {} p99 {} min {} max {}", name, significant(d.mean),
                     significant(d.p50), significant(d.p99), significant(d.min),
                     significant(d.max));
}

// What was run, on what; a line each.
std::vector<std::string> environment_lines(const ThroughputReport& report) {
  const Workload& workload = report.workload;
  std::vector<std::string> lines = {
      fmt::format("llmrun {} {} ({}, {}), {}", kVersion, kGitCommit, kCompiler, kBuildType,
                  report.date),
      fmt::format("device: {}", report.device),
      fmt::format("limits measured in this run: read {:.1f} GB/s, {} multiply {:.3f} TFLOP/s",
                  report.limits.read_bytes_per_second / 1e9, report.limits.multiply_dtype,
                  report.limits.multiply_flops_per_second / 1e12)};
  if (!report.cases.empty()) {
    const EngineDescription& engine = report.cases.front().engine;
    lines.push_back(fmt::format("model: {}{}, {:.1f} M parameters, {}, KV cache {}", report.model,
                                engine.config.load_format == "dummy" ? " (random weights)" : "",
                                static_cast<double>(report.num_parameters) / 1e6,
                                to_string(engine.dtype), to_string(engine.kv_cache_dtype)));
  }
  lines.push_back(fmt::format("workload: {}, seed {}: {}",
                              counted(std::ssize(workload.requests), "request"), workload.seed,
                              workload.description));
  lines.push_back(fmt::format("  {}; {}",
                              lengths_text("prompt tokens", report.lengths.prompt_tokens),
                              lengths_text("output tokens", report.lengths.output_tokens)));
  if (!workload.path.empty()) {
    lines.push_back(fmt::format("  file {}, sha256 {}", workload.path, workload.file_sha256));
  }
  for (const auto& [reason, count] : workload.num_left_out) {
    lines.push_back(fmt::format("  left out: {} {}", count, reason));
  }
  lines.push_back(fmt::format("  requests' sha256 {}", report.workload_sha256));
  lines.push_back(fmt::format("sampling: {}", report.sampling.dump()));
  if (const std::string names = not_measured(report); !names.empty()) {
    lines.push_back("not measured: " + names);
  }
  lines.push_back(fmt::format("repeats: {}; +- is the 95 % interval of the mean (Student's t)",
                              report.num_repeats));
  return lines;
}

std::vector<std::string> check_lines(const ThroughputReport& report) {
  std::vector<std::string> lines;
  for (const CheckStatus status : {CheckStatus::kInvalid, CheckStatus::kWarning}) {
    for (const Check& check : report.checks) {
      if (check.status != status) continue;
      lines.push_back(fmt::format("{}: {}{}: {}", to_string(status),
                                  check.case_name.empty() ? "" : check.case_name + ": ", check.name,
                                  check.message));
    }
  }
  return lines;
}

// The names of checks that could not be made.
std::set<std::string> unmade_checks(const ThroughputReport& report) {
  std::set<std::string> names;
  for (const Check& check : report.checks) {
    if (check.status == CheckStatus::kNotMeasured) names.insert(check.name);
  }
  return names;
}

std::string banner(const ThroughputReport& report) {
  return report.is_valid() ? ""
                           : "*** INVALID: these figures must not be used; see the checks ***\n";
}

}  // namespace

std::vector<ReportTable> report_tables(const ThroughputReport& report) {
  std::vector<ReportTable> tables = {throughput_table(report),
                                     case_table(report),
                                     latency_table(report),
                                     group_table(report, "throughput", "Rates"),
                                     group_table(report, "limits", "Shares of the limits"),
                                     group_table(report, "scheduling", "Scheduling"),
                                     group_table(report, "kv_cache", "KV cache"),
                                     group_table(report, "energy", "Energy, clocks, price"),
                                     output_table(report),
                                     start_up_table(report)};
  std::erase_if(tables, [](const ReportTable& table) { return table.rows.empty(); });
  return tables;
}

std::string vllm_lines(const CaseReport& report) {
  return fmt::format(
      "Throughput: {:.2f} requests/s, {:.2f} total tokens/s, {:.2f} output tokens/s\n"
      "Total num prompt tokens:  {}\n"
      "Total num output tokens:  {}\n",
      report.metric("requests_per_s").mean(), report.metric("total_tokens_per_s").mean(),
      report.metric("output_tokens_per_s").mean(), report.num_prompt_tokens,
      report.num_output_tokens);
}

std::string render_text(const ThroughputReport& report, int width) {
  std::string text = banner(report);
  for (const CaseReport& one : report.cases) text += one.name + "\n" + vllm_lines(one);
  for (const ReportTable& table : report_tables(report)) text += text_table(table, width);
  text += "\nRun\n";
  for (const std::string& line : environment_lines(report)) text += "  " + line + "\n";
  const std::vector<std::string> checks = check_lines(report);
  const std::set<std::string> unknown = unmade_checks(report);
  const auto num_made =
      std::count_if(report.checks.begin(), report.checks.end(),
                    [](const Check& check) { return check.status != CheckStatus::kNotMeasured; });
  text += fmt::format("\nChecks: {} made, {} to note\n", num_made, checks.size());
  for (const std::string& line : checks) text += "  " + line + "\n";
  if (!unknown.empty()) {
    text += fmt::format("  not measured, the device does not tell: {}\n", fmt::join(unknown, ", "));
  }
  return text + banner(report);
}

std::string render_markdown(const ThroughputReport& report) {
  std::string text = "# llmrun throughput\n\n";
  if (!report.is_valid()) text += "**" + banner(report).substr(4, 43) + "**\n\n";
  text += fmt::format("`{}`\n\n", report.command_line);
  for (const std::string& line : environment_lines(report)) {
    const std::size_t begin = line.find_first_not_of(' ');
    text += std::string(begin, ' ') + "- " + line.substr(begin) + "\n";
  }
  for (const ReportTable& table : report_tables(report)) text += markdown_table(table);
  text += "\n## Checks\n\n";
  const std::vector<std::string> checks = check_lines(report);
  if (checks.empty()) text += "All well.\n";
  for (const std::string& line : checks) text += "- " + line + "\n";
  return text;
}

}  // namespace llmrun
