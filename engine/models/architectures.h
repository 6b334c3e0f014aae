// For each architecture what reads its config.json and what makes the model; the table that names
// them is in model_registry.cpp.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "engine/core/json.h"
#include "engine/models/causal_lm.h"
#include "engine/models/weight_loader.h"

namespace llmrun {

// Throws Error(kModel).
using ReadConfig = ModelConfig(const JsonObject& object, const std::string& architecture);
// `max_positions`: longest context of the run.
using MakeModel = std::unique_ptr<CausalLm>(const ModelConfig& config, WeightLoader& weights,
                                            std::int64_t max_positions);

ReadConfig read_baichuan_config;
ReadConfig read_gemma2_config;
ReadConfig read_gpt2_config;
ReadConfig read_llama_config;
ReadConfig read_mistral_config;
ReadConfig read_mixtral_config;
ReadConfig read_opt_config;
ReadConfig read_phi3_config;
ReadConfig read_qwen2_config;
ReadConfig read_qwen3_config;

MakeModel make_baichuan;
MakeModel make_gemma2;
MakeModel make_gpt2;
MakeModel make_llama;
MakeModel make_mixtral;
MakeModel make_opt;
MakeModel make_phi3;
MakeModel make_qwen2;
MakeModel make_qwen3;

// The function that makes models of the configuration's architecture.
MakeModel& maker_of(const ModelConfig& config);

}  // namespace llmrun
