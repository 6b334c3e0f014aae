#include "tools/throughput/throughput_cases.h"

#include <algorithm>
#include <sstream>
#include <utility>

#include <fmt/format.h>

#include "engine/core/error.h"
#include "tools/demo_model.h"

namespace llmrun {
namespace {

// More running sequences than this gain nothing, and cost memory for their logits.
constexpr std::int64_t kMaxContinuousSequences = 1024;

EngineConfig resolve_as(EngineOptions options, const std::string& backend) {
  options.backend = backend;
  // Prefixes cannot be shared in contiguous memory; that the flag is given is for the others.
  const bool is_contiguous = backend == "naive" || options.kv_layout == "contiguous";
  if (is_contiguous && options.kv_layout != "paged") options.enable_prefix_caching = "false";
  return resolve(options);
}

}  // namespace

std::string default_throughput_model(const EngineConfig& config) {
  return resolved_device(config) == "cuda" ? "shape:qwen2-7b" : model_or_demo("");
}

std::vector<ThroughputCase> backend_cases(const EngineOptions& options) {
  std::vector<ThroughputCase> cases;
  std::istringstream names(options.backend + ",");
  for (std::string name; std::getline(names, name, ',');) {
    const bool is_repeated = std::any_of(cases.begin(), cases.end(),
                                         [&](const auto& other) { return other.name == name; });
    if (is_repeated) {
      throw Error(ErrorKind::kUsage, fmt::format("--backend names {} twice", name));
    }
    cases.push_back({.name = name, .description = "", .config = resolve_as(options, name)});
  }
  return cases;
}

std::vector<ThroughputCase> ablation_cases(const EngineOptions& options,
                                           const AblationNeeds& needs) {
  EngineConfig config = resolve_as(options, "naive");
  config.max_model_len = needs.model_max_len;
  std::vector<ThroughputCase> cases;
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
  const EngineConfig paged = resolve_as(options, "paged");
  config.cuda_graphs = paged.cuda_graphs;
  config.steps_ahead = paged.steps_ahead;
  config.enable_prefix_caching = paged.enable_prefix_caching;
  add("L4", resolved_device(options.config) == "cuda"
                ? "CUDA graphs, planned one step ahead"
                : "nothing more on a CPU, which has no graphs and plans no step ahead");
  return cases;
}

void fill_batches(std::vector<ThroughputCase>& cases, std::int64_t num_requests) {
  constexpr std::int64_t kFlagLimit = 1 << 16;
  for (ThroughputCase& one : cases) {
    if (one.config.max_num_seqs != 0) continue;
    const bool is_static = one.config.scheduler == SchedulerKind::kStatic;
    one.config.max_num_seqs = static_cast<std::int32_t>(
        std::min(num_requests, is_static ? kFlagLimit : kMaxContinuousSequences));
  }
}

std::string flags_of(const EngineConfig& config) {
  return fmt::format(
      "--scheduler {} --kv-layout {} --max-model-len {} --max-num-seqs {} "
      "--max-num-batched-tokens {} --attention {} --{}cuda-graphs --steps-ahead {} "
      "--{}enable-prefix-caching",
      to_string(config.scheduler), to_string(config.kv_layout), config.max_model_len,
      config.max_num_seqs, config.max_num_batched_tokens, to_string(config.attention),
      config.cuda_graphs ? "" : "no-", config.steps_ahead,
      config.enable_prefix_caching ? "" : "no-");
}

}  // namespace llmrun
