// The command-line flags of the engine and of sampling, shared by every command that runs a model.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include "engine/engine_config.h"
#include "engine/sequence/sampling_params.h"

namespace llmrun {

// What the engine flags leave behind: a config, and the flags that overrule the backend's preset.
struct EngineOptions {
  EngineConfig config;
  std::string backend = "paged";
  std::string scheduler;               // empty: the backend's
  std::string kv_layout;               // empty: the backend's
  std::string attention;               // empty: the backend's
  std::string cuda_graphs;             // "", "true", "false"
  std::string enable_prefix_caching;   // "", "true", "false"
  std::string enable_chunked_prefill;  // "", "true", "false"
  std::string kv_cache_memory;         // bytes, with an optional K, M, G suffix (powers of 1024)
};

void add_engine_options(CLI::App& command, EngineOptions& options);

// What a request may ask of this engine, for the commands whose requests are the user's.
void add_request_limit_options(CLI::App& command, EngineConfig& config);

// The config that the flags mean: backend preset first, then the flags given. Throws Error(kUsage).
EngineConfig resolve(const EngineOptions& options);

// Sampling flags in the order given, by the names of SamplingParams.
struct SamplingOptions {
  std::vector<std::pair<std::string, nlohmann::json>> values;
  std::string generation_config = "auto";  // auto: the model's defaults; none: llmrun's
};

void add_sampling_options(CLI::App& command, SamplingOptions& options);

// Sets the given flags on top of `params` (defaults, then generation_config.json). Throws
// Error(kUsage).
void apply(const SamplingOptions& options, SamplingParams& params);

// The sampling parameters a run starts from: the common ones, then those that differ from their
// defaults.
nlohmann::ordered_json effective_sampling(const SamplingParams& params);

// "64", "16K", "8M", "2G", "1.5G": bytes. Throws Error(kUsage) naming the flag.
std::size_t parse_bytes(const std::string& flag, const std::string& text);

}  // namespace llmrun
