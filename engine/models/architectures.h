// One factory per architecture; the table that names them is in model_registry.cpp.
#pragma once

#include <cstdint>
#include <memory>

#include "engine/models/causal_lm.h"
#include "engine/models/weight_loader.h"

namespace llmrun {

// Llama 1, 2 and 3, Mistral, and what shares their form (Vicuna, DeepSeekMath, Yi, TinyLlama).
std::unique_ptr<CausalLm> make_llama(const ModelConfig& config, WeightLoader& weights,
                                     std::int64_t max_positions);
// Qwen2 and Qwen2.5.
std::unique_ptr<CausalLm> make_qwen2(const ModelConfig& config, WeightLoader& weights,
                                     std::int64_t max_positions);

}  // namespace llmrun
