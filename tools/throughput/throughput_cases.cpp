#include "tools/throughput/throughput_cases.h"

#include <algorithm>

#include "tools/demo_model.h"

namespace llmrun {
namespace {

// More running sequences than this gain nothing, and cost memory for their logits.
constexpr std::int64_t kMaxContinuousSequences = 1024;

}  // namespace

std::string default_throughput_model(const EngineConfig& config) {
  return resolved_device(config) == "cuda" ? "shape:qwen2-7b" : model_or_demo("");
}

std::vector<EngineCase> ablation_cases(const EngineOptions& options, const AblationNeeds& needs) {
  EngineConfig config = resolve_backend(options, "naive");
  config.max_model_len = needs.model_max_len;
  std::vector<EngineCase> cases;
  const auto add = [&](const char* name, const char* description) {
    cases.push_back({.name = name, .description = description, .config = config});
  };
  add("L0", "static batches, contiguous KV reserved at the model's full length");
  config.max_model_len = needs.workload_max_len;
  add("L1", "KV reserved at what the longest request needs");
  config.scheduler = SchedulerKind::kContinuous;
  add("L2", "continuous batching");
  config.kv_layout = KvLayout::kPaged;
  config.block_size = options.config.block_size;
  config.attention = AttentionKind::kPaged;
  config.max_model_len = needs.model_max_len;
  add("L3", "paged KV and its attention kernels");
  const EngineConfig paged = resolve_backend(options, "paged");
  config.cuda_graphs = paged.cuda_graphs;
  config.steps_ahead = paged.steps_ahead;
  config.enable_prefix_caching = paged.enable_prefix_caching;
  add("L4", resolved_device(options.config) == "cuda"
                ? "CUDA graphs, planned one step ahead"
                : "nothing more on a CPU, which has no graphs and plans no step ahead");
  return cases;
}

void fill_batches(std::vector<EngineCase>& cases, std::int64_t num_requests) {
  constexpr std::int64_t kFlagLimit = 1 << 16;
  for (EngineCase& one : cases) {
    if (one.config.max_num_seqs != 0) continue;
    const bool is_static = one.config.scheduler == SchedulerKind::kStatic;
    one.config.max_num_seqs = static_cast<std::int32_t>(
        std::min(num_requests, is_static ? kFlagLimit : kMaxContinuousSequences));
  }
}

}  // namespace llmrun
