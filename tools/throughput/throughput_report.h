// What `llmrun throughput` reports, computed once from the measurements; the renderers
// (tools/throughput/throughput_render.h) only arrange it. Every figure carries its unit in its name
// and its definition beside it. A new figure is a row of the table in throughput_metrics.cpp.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

#include "engine/metrics/roofline.h"
#include "engine/metrics/statistics.h"
#include "tools/report/run_timeline.h"
#include "tools/throughput/throughput_run.h"
#include "tools/workload/workload.h"

namespace llmrun {

inline constexpr int kThroughputSchemaVersion = 1;

// A figure of a run, and what it was in each repeat.
struct Metric {
  std::string group;  // "throughput", "limits", "scheduling", "kv_cache", "energy"
  std::string name;   // with its unit: "elapsed_s"
  std::string unit;
  std::string definition;
  std::vector<double> samples;  // one a repeat; empty: not measured
  SampleStatistics statistics;

  bool is_measured() const { return !samples.empty(); }
  double mean() const { return statistics.mean; }
};

// A figure of every request or token, pooled over the repeats.
struct LatencyMetric {
  std::string name;  // "ttft_ms"
  std::string definition;
  Distribution distribution;
  CumulativeShares cdf = {};
};

enum class CheckStatus : std::uint8_t { kOk, kNotMeasured, kWarning, kInvalid };
const char* to_string(CheckStatus status);  // "OK", "NOT MEASURED", "WARNING", "INVALID"

struct Check {
  std::string case_name;  // empty: of the whole run
  std::string name;
  CheckStatus status = CheckStatus::kOk;
  std::string message;
};

struct CaseReport {
  std::string name;
  std::string description;
  EngineDescription engine;
  double load_s = 0;
  double warm_up_s = 0;
  std::int64_t num_warm_up_requests = 0;
  std::int64_t num_requests = 0;
  std::int64_t num_prompt_tokens = 0;
  std::int64_t num_output_tokens = 0;
  std::vector<Metric> metrics;
  std::vector<LatencyMetric> latencies;
  std::vector<TimelinePoint> timeline;           // of the last repeat
  std::vector<SizeBin> decode_batches;           // sequences in each of its decode steps
  std::string output_digest;                     // of the first repeat
  std::vector<std::vector<TokenId>> output_ids;  // of the first repeat, in the workload's order

  // The metric of this name, which exists.
  const Metric& metric(const std::string& name) const;
};

// How a case stands to the baseline's.
struct Comparison {
  std::string case_name;
  std::string baseline;
  double requests_per_s_ratio = 0;
  double same_requests_share = 0;  // whose output token ids are all equal, 0 to 1
  double same_tokens_share = 0;    // before the first difference of each request
  // Of the first request that differs: its index and the position in its output.
  std::optional<std::pair<std::int64_t, std::int64_t>> first_difference = {};
};

struct LengthStatistics {
  Distribution prompt_tokens;
  Distribution output_tokens;
};

struct ThroughputReport {
  std::string command_line;
  std::string date;  // UTC, ISO 8601
  std::string processor;
  std::string device_kind;  // "cpu", "cuda"
  std::string device;
  std::string model;
  std::int64_t num_parameters = 0;
  bool is_ablation = false;
  std::int32_t num_repeats = 0;
  DeviceLimits limits;
  double measure_limits_s = 0;
  nlohmann::ordered_json sampling;  // effective parameters of every request
  Workload workload;                // requests have their lengths; ids are dropped
  std::string workload_sha256;
  LengthStatistics lengths;
  std::vector<CaseReport> cases;
  std::vector<Comparison> comparisons;
  std::vector<Check> checks;

  bool is_valid() const;
};

// What a case is measured against.
struct ReportContext {
  const Workload& workload;
  ModelConfig model;
  DeviceLimits limits;
  double price_per_hour = 0;  // 0: unknown
};

// The figures of one case, without keeping its step logs.
CaseReport make_case_report(const CaseMeasurement& measurement, const ReportContext& context);
// What is wrong with its runs.
std::vector<Check> check_case(const CaseMeasurement& measurement, const CaseReport& report,
                              const ReportContext& context);
// The table of figures; see the top of this file.
std::vector<Metric> measure_metrics(const CaseMeasurement& measurement,
                                    const ReportContext& context);
std::vector<LatencyMetric> measure_latencies(const CaseMeasurement& measurement);

// SHA-256 over the requests' (index, number of tokens, token ids), by index.
std::string output_digest(const std::vector<std::vector<TokenId>>& output_ids);

Comparison compare_cases(const CaseReport& report, const CaseReport& baseline);
LengthStatistics measure_lengths(const Workload& workload);

Roofline make_roofline(const EngineDescription& engine, const ReportContext& context);

}  // namespace llmrun
