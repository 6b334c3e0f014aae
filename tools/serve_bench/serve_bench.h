// `llmrun serve-bench`: online load, with latencies a user would see.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include <CLI/CLI.hpp>

#include "engine/step_progress.h"
#include "tools/api_client/api_server_options.h"
#include "tools/benchmark_options.h"
#include "tools/drain_timeout.h"
#include "tools/engine_options.h"
#include "tools/report/report_options.h"
#include "tools/serve_bench/arrival_schedule.h"
#include "tools/workload/workload.h"

namespace llmrun {

struct ServeBenchOptions {
  ServeBenchOptions();

  EngineOptions engine;
  WorkloadOptions workload;

  // Target.
  std::string modes = "inproc";  // inproc, http, separated by commas
  ApiServerOptions server;       // its base_url is empty: the own engine
  std::string endpoint = "/v1/completions";
  std::int64_t vocab_size = 0;  // 0: the model's

  // Load.
  std::string request_rates = "inf";  // a list
  std::string max_concurrency;        // a list; empty: any
  ArrivalOptions arrivals;
  std::string burstiness = "1";
  TraceOptions trace;
  double duration_s = 0;  // 0: until all are sent
  SendLimits limits;      // but for their max_concurrency
  std::int32_t num_warmups = -1;
  double drain_timeout_s = kDrainTimeoutSeconds;
  double stall_timeout_s = kStallTimeoutSeconds;

  // Search.
  bool find_rate = false;
  double search_min_rate = 0.5;
  double search_max_rate = 4096;
  double search_tolerance = 0.05;
  double attainment = 0.99;

  BenchmarkSampling sampling;

  // Report.
  std::string percentile_metrics = "ttft,tpot,itl,e2el";
  std::string metric_percentiles = "90,95,99";
  std::vector<std::string> goodput;
  bool first_report = false;
  bool skip_overhead = false;
  ReportOptions report;
  bool save_result = false;
  bool save_detailed = false;
  std::string result_dir = ".";
  std::string result_filename;
  std::string label;
  std::vector<std::string> metadata;  // KEY=VALUE
  std::string color = "auto";
  bool quiet = false;
};

void add_serve_bench_command(CLI::App& command, ServeBenchOptions& options);

// Returns the exit code: 0, 1 when a check says that the figures are INVALID, 130 or 143 when a
// signal ended it. Throws Error.
int run_serve_bench(const ServeBenchOptions& options, const std::string& command_line);

}  // namespace llmrun
