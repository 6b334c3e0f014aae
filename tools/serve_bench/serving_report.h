// What `llmrun serve-bench` reports, and the forms it is written in.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

#include "tools/report/report_table.h"
#include "tools/serve_bench/overhead.h"
#include "tools/serve_bench/serving_metrics.h"
#include "tools/throughput/throughput_report.h"

namespace llmrun {

inline constexpr int kServingSchemaVersion = 1;

// One run of a load on one target.
struct ServingPoint {
  std::string mode;         // "inproc", "http", "url"
  double request_rate = 0;  // as asked for; infinity: all at once
  double burstiness = 1;
  std::string ramp_up_strategy;  // empty: none
  double ramp_up_start_rps = 0;
  double ramp_up_end_rps = 0;
  std::int32_t max_concurrency = 0;  // 0: any
  ServingMetrics metrics;
  std::vector<Check> checks;

  // What of it can be told apart in a table: "inproc, 8 req/s, 16 at once".
  std::string name() const;
};

struct ServingReport {
  std::string command_line;
  std::string date;        // UTC, ISO 8601
  std::string date_stamp;  // UTC, as vLLM's files have it: 20261127-052123
  std::string processor;
  std::string device;  // of the own engine; empty: a server elsewhere
  std::string model;
  std::string tokenizer;
  std::string endpoint;  // URL, or "in process"
  std::string backend;   // vLLM's key: "llmrun", "openai", "openai-chat"
  std::string label;
  std::vector<std::pair<std::string, std::string>> metadata;
  std::uint64_t seed = 0;
  double load_s = 0;
  double warm_up_s = 0;
  std::int64_t num_warm_up_requests = 0;
  nlohmann::ordered_json sampling;
  nlohmann::ordered_json engine;  // its flags; null: a server elsewhere
  std::string workload_description;
  std::string workload_sha256;
  std::vector<std::string> shown_latencies;  // "ttft", ...
  bool has_goodput = false;
  bool is_closed_loop = false;
  bool has_first_report = false;  // also as vLLM's first benchmark_serving
  Overhead overhead;              // not measured: num_requests is 0
  std::vector<ServingPoint> points;
  // Of a search: the rate, and whether each was held; in order of the runs.
  std::vector<std::pair<double, bool>> search;
  double highest_rate = 0;   // that held; 0: none
  bool was_stopped = false;  // by a signal: points of the plan are missing, or the last is partial

  bool is_valid() const;
};

// vLLM's block of one run.
std::string serving_block(const ServingReport& report, const ServingPoint& point);
// Everything, for people.
std::string render_serving_text(const ServingReport& report);
std::string render_serving_markdown(const ServingReport& report);
// vLLM's keys of one run, and ours behind them.
nlohmann::ordered_json serving_point_json(const ServingReport& report, const ServingPoint& point);
// One run: the object of serving_point_json; several: what they share, with "results".
nlohmann::ordered_json render_serving_json(const ServingReport& report);
// A line of JSON for each run, with what the runs share in each.
std::string render_serving_jsonl(const ServingReport& report);
// A row for each run.
ReportTable serving_records(const ServingReport& report);
// The arrays of vLLM's --save-detailed: input_lens, output_lens, ttfts, itls, ...
void add_details(const LoadMeasurement& measurement, const std::vector<BenchRequest>& requests,
                 nlohmann::ordered_json& json);
// vLLM's name: {label or backend}-{rate}qps[-concurrencyN]-{model}-{date}.json.
std::string result_file_name(const ServingReport& report, const ServingPoint& point);

// What makes a run's figures worthless (INVALID) or doubtful (WARNING).
std::vector<Check> check_serving(const ServingPoint& point, bool ignores_eos, bool is_closed_loop);

}  // namespace llmrun
