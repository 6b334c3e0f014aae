// Puts an engine together from a configuration: device, model, tokenizer, memory plan, KV cache,
// scheduler.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "engine/engine_config.h"
#include "engine/llm_engine.h"
#include "engine/memory_plan.h"
#include "engine/models/model_registry.h"
#include "engine/prompt_processor.h"
#include "engine/sequence/sampling_params.h"

namespace llmrun {

struct LoadProgressReport {
  std::uint64_t done_bytes = 0;
  std::uint64_t total_bytes = 0;
};

// Seconds that the parts of create_engine() took.
struct StartUpTimes {
  double device_s = 0;   // reading the description of the model, its tokenizer; waking the device
  double weights_s = 0;  // reading weights, or making them up, and putting them on the device
  double memory_s = 0;   // KV pool, step buffers; on a GPU also which matrix product runs best

  // "start-up: device 0.2 s, weights 1.9 s (7.8 GB/s), memory 0.1 s". weight_bytes: those read.
  std::string to_text(std::size_t weight_bytes) const;
};

// What create_engine() was asked for, resolved: every 0 and "auto" replaced by what is used.
struct EngineDescription {
  EngineConfig config;
  std::string device;         // one line: device, instruction set, threads
  DType dtype = DType::kF32;  // of the weights
  DType kv_cache_dtype = DType::kF32;
  std::int64_t num_parameters = 0;
  std::string model_fingerprint;  // changes when the checkpoint changes
  MemoryPlan memory_plan;
  StartUpTimes start_up;
  GenerationDefaults generation_defaults;
  std::vector<TokenId> eos_token_ids;  // any of them ends a sequence
  std::vector<std::string> notes;      // for the user, a line each
};

struct CreatedEngine {
  std::unique_ptr<LlmEngine> engine;
  std::shared_ptr<const PromptProcessor> prompts;
  EngineDescription description;
};

// Loads the model and allocates everything. `chat_template` is auto, none, the name of a built-in
// template or a file. `progress` is called while weights load. Throws Error of every kind but
// kInput.
CreatedEngine create_engine(const EngineConfig& config, const std::string& chat_template,
                            const std::function<void(LoadProgressReport)>& progress = nullptr);

// "cuda" or "cpu": where an engine of this config would run. Throws Error(kUsage) for a GPU that is
// asked for and not there.
std::string resolved_device(const EngineConfig& config);

// What create_engine() would make, without loading weights or allocating memory.
struct ModelDescription {
  ModelConfig model;
  EngineDescription engine;
  std::string memory_problem;  // empty: it fits; else why not, and the memory plan is empty
  std::string tokenizer;       // one line, or why there is none
  std::string chat_template;   // the same
};
ModelDescription describe_model(const EngineConfig& config, const std::string& chat_template);

// Every architecture that is supported, with the models that have it.
std::vector<ArchitectureDescription> supported_models();

// Sampling defaults: those of llmrun, overlaid with generation_config.json.
SamplingParams default_sampling_params(const GenerationDefaults& defaults);

}  // namespace llmrun
