// What `llmrun serve-bench` runs: the lists and limits that its flags hold as text, read and
// checked before anything is loaded.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "tools/serve_bench/arrival_schedule.h"
#include "tools/serve_bench/serve_bench.h"
#include "tools/serve_bench/serving_metrics.h"

namespace llmrun {

struct LoadPlan {
  std::vector<std::string> modes;            // "inproc", "http"; or "url" alone
  std::vector<double> rates;                 // requests/s; infinity: all at the start
  std::vector<std::int32_t> concurrencies;   // 0: any
  ArrivalOptions arrivals;                   // but for the rate of each run
  ServingOptions serving;                    // but for is_closed_loop of each run
  std::vector<std::string> shown_latencies;  // "ttft", ...
};

// Throws Error(kUsage) that names the flag.
LoadPlan make_load_plan(const ServeBenchOptions& options);

}  // namespace llmrun
