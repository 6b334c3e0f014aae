#include "tools/engine_cases.h"

#include <algorithm>
#include <sstream>

#include <fmt/format.h>

#include "engine/core/error.h"

namespace llmrun {

EngineConfig resolve_backend(EngineOptions options, const std::string& backend) {
  options.backend = backend;
  // Prefixes cannot be shared in contiguous memory; that the flag is given is for the others.
  const bool is_contiguous = backend == "naive" || options.kv_layout == "contiguous";
  if (is_contiguous && options.kv_layout != "paged") options.enable_prefix_caching = "false";
  return resolve(options);
}

std::vector<EngineCase> backend_cases(const EngineOptions& options) {
  std::vector<EngineCase> cases;
  std::istringstream names(options.backend + ",");
  for (std::string name; std::getline(names, name, ',');) {
    const bool is_repeated = std::any_of(cases.begin(), cases.end(),
                                         [&](const auto& other) { return other.name == name; });
    if (is_repeated) {
      throw Error(ErrorKind::kUsage, fmt::format("--backend names {} twice", name));
    }
    cases.push_back({.name = name, .description = "", .config = resolve_backend(options, name)});
  }
  return cases;
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
