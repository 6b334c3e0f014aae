#include "tools/throughput/throughput_report.h"

#include <algorithm>
#include <bit>
#include <string_view>

#include <fmt/format.h>

#include "engine/core/error.h"
#include "engine/core/sha256.h"
#include "tools/report/step_summary.h"

namespace llmrun {
namespace {

std::size_t num_equal_tokens(const std::vector<TokenId>& a, const std::vector<TokenId>& b) {
  const auto end = std::mismatch(a.begin(), a.end(), b.begin(), b.end()).first;
  return static_cast<std::size_t>(end - a.begin());
}

}  // namespace

const char* to_string(CheckStatus status) {
  switch (status) {
    case CheckStatus::kOk: return "OK";
    case CheckStatus::kNotMeasured: return "NOT MEASURED";
    case CheckStatus::kWarning: return "WARNING";
    case CheckStatus::kInvalid: return "INVALID";
  }
  return "?";
}

const Metric& CaseReport::metric(const std::string& wanted) const {
  const auto found = std::find_if(metrics.begin(), metrics.end(),
                                  [&](const Metric& metric) { return metric.name == wanted; });
  LLMRUN_CHECK(found != metrics.end());
  return *found;
}

bool ThroughputReport::is_valid() const {
  return std::none_of(checks.begin(), checks.end(),
                      [](const Check& check) { return check.status == CheckStatus::kInvalid; });
}

std::string output_digest(const std::vector<std::vector<TokenId>>& output_ids) {
  static_assert(std::endian::native == std::endian::little, "digests are over little-endian ids");
  Sha256 hash;
  for (std::size_t i = 0; i < output_ids.size(); ++i) {
    hash.update(fmt::format("{} {}:", i, output_ids[i].size()));
    hash.update({reinterpret_cast<const char*>(output_ids[i].data()),
                 output_ids[i].size() * sizeof(TokenId)});
  }
  return to_hex(hash.finish());
}

CaseReport make_case_report(const CaseMeasurement& measurement, const ReportContext& context) {
  LLMRUN_CHECK(!measurement.runs.empty());
  CaseReport report;
  report.name = measurement.definition.name;
  report.description = measurement.definition.description;
  report.engine = measurement.description;
  report.load_s = measurement.load_s;
  report.warm_up_s = measurement.warm_up_s;
  report.num_warm_up_requests = measurement.num_warm_up_requests;
  const RunMeasurement& first = measurement.runs.front();
  for (std::size_t i = 0; i < first.requests.size(); ++i) {
    report.output_ids.push_back(first.requests[i].token_ids);
    if (!first.requests[i].error.empty()) continue;
    report.num_requests += 1;
    report.num_prompt_tokens += std::ssize(context.workload.requests[i].prompt_token_ids);
    report.num_output_tokens += std::ssize(first.requests[i].token_ids);
  }
  report.output_digest = output_digest(report.output_ids);
  report.metrics = measure_metrics(measurement, context);
  report.latencies = measure_latencies(measurement);
  if (!measurement.runs.empty()) {
    const RunMeasurement& last = measurement.runs.back();
    StepSummary summary;
    for (const StepRecord& step : last.steps) summary.add(step);
    report.timeline =
        summary.timeline(last.start_s, last.start_s + last.elapsed_s, last.stats.kv_blocks_total);
    report.decode_batches = summary.decode_batches();
  }
  return report;
}

Comparison compare_cases(const CaseReport& report, const CaseReport& baseline) {
  Comparison comparison{.case_name = report.name, .baseline = baseline.name};
  const double base = baseline.metric("requests_per_s").mean();
  if (base > 0) {
    comparison.requests_per_s_ratio = report.metric("requests_per_s").mean() / base;
  }
  const std::size_t num_requests = std::min(report.output_ids.size(), baseline.output_ids.size());
  std::size_t num_same = 0;
  std::size_t num_tokens = 0;
  std::size_t num_same_tokens = 0;
  for (std::size_t i = 0; i < num_requests; ++i) {
    const std::vector<TokenId>& ours = report.output_ids[i];
    const std::vector<TokenId>& theirs = baseline.output_ids[i];
    const std::size_t equal = num_equal_tokens(ours, theirs);
    num_tokens += std::max(ours.size(), theirs.size());
    num_same_tokens += equal;
    if (ours == theirs) {
      ++num_same;
    } else if (!comparison.first_difference) {
      comparison.first_difference = {static_cast<std::int64_t>(i),
                                     static_cast<std::int64_t>(equal)};
    }
  }
  const auto share = [](std::size_t part, std::size_t whole) {
    return whole == 0 ? 1.0 : static_cast<double>(part) / static_cast<double>(whole);
  };
  comparison.same_requests_share = share(num_same, num_requests);
  comparison.same_tokens_share = share(num_same_tokens, num_tokens);
  return comparison;
}

LengthStatistics measure_lengths(const Workload& workload) {
  std::vector<double> prompts, outputs;
  for (const WorkloadRequest& request : workload.requests) {
    prompts.push_back(static_cast<double>(request.prompt_token_ids.size()));
    outputs.push_back(request.output_len);
  }
  return {distribution_of(std::move(prompts)), distribution_of(std::move(outputs))};
}

}  // namespace llmrun
