// Which engines `llmrun throughput` compares.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "tools/engine_options.h"
#include "tools/throughput/throughput_run.h"

namespace llmrun {

// The model of a benchmark that names none: the shape of Qwen2-7B with random weights on a GPU, the
// demo model on a CPU.
std::string default_throughput_model(const EngineConfig& config);

// The presets named by the comma-separated list in options.backend, each with the flags given.
// Throws Error(kUsage) for a name that is empty, unknown or there twice.
std::vector<ThroughputCase> backend_cases(const EngineOptions& options);

// What an ablation needs to know of the requests.
struct AblationNeeds {
  std::int32_t model_max_len = 0;     // longest sequence the model takes, or --max-model-len
  std::int32_t workload_max_len = 0;  // longest sequence of the workload
};

// The ladder from what most people run without an engine to the paged engine, one change a level:
// reservation, batching, paging, graphs and one step ahead.
std::vector<ThroughputCase> ablation_cases(const EngineOptions& options,
                                           const AblationNeeds& needs);

// Lets as many sequences run at once as there are requests, where --max-num-seqs does not say: the
// memory is then what limits a batch.
void fill_batches(std::vector<ThroughputCase>& cases, std::int64_t num_requests);

// The flags that make a config what it is, for tables.
std::string flags_of(const EngineConfig& config);

}  // namespace llmrun
