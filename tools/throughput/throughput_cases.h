// Which engines `llmrun throughput` compares.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "tools/engine_cases.h"
#include "tools/engine_options.h"
#include "tools/throughput/throughput_run.h"

namespace llmrun {

// The model of a benchmark that names none: the shape of Qwen2-7B with random weights on a GPU, the
// demo model on a CPU.
std::string default_throughput_model(const EngineConfig& config);

// What an ablation needs to know of the requests.
struct AblationNeeds {
  std::int32_t model_max_len = 0;     // longest sequence the model takes, or --max-model-len
  std::int32_t workload_max_len = 0;  // longest sequence of the workload
};

// The ladder from what most people run without an engine to the paged engine, one change a level:
// reservation, batching, paging, graphs and one step ahead.
std::vector<EngineCase> ablation_cases(const EngineOptions& options, const AblationNeeds& needs);

// Lets as many sequences run at once as there are requests, where --max-num-seqs does not say: the
// memory is then what limits a batch.
void fill_batches(std::vector<EngineCase>& cases, std::int64_t num_requests);

}  // namespace llmrun
