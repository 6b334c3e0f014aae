// `llmrun throughput`: offline throughput of one or more engines on the same requests, with shares
// of what the device can do.
#pragma once

#include <cstdint>
#include <string>

#include <CLI/CLI.hpp>

#include "engine/step_progress.h"
#include "tools/benchmark_options.h"
#include "tools/engine_options.h"
#include "tools/report/report_options.h"
#include "tools/workload/workload.h"

namespace llmrun {

struct ThroughputOptions {
  ThroughputOptions();

  EngineOptions engine;  // its backend may be a list: "paged,naive"
  WorkloadOptions workload;

  bool ablation = false;
  std::int32_t num_repeats = 3;
  std::int32_t num_warmups = -1;  // requests; -1: as many as run at once; 0: none
  BenchmarkSampling sampling;
  bool disable_detokenize = false;
  double price_per_hour = 0;
  double stall_timeout_s = kStallTimeoutSeconds;
  double debug_slowdown = 0;  // 0.1: steps take 10 % longer

  ReportOptions report;
  std::string trace;  // file; empty: none
  std::string color = "auto";
  bool quiet = false;
};

void add_throughput_command(CLI::App& command, ThroughputOptions& options);

// Returns the exit code: 0, 1 when a check says that the figures are INVALID, 130 or 143 when a
// signal ended it. Throws Error.
int run_throughput(const ThroughputOptions& options, const std::string& command_line);

}  // namespace llmrun
