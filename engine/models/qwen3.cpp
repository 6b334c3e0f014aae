// Source: transformers, models/qwen3/modeling_qwen3.py; Yang et al. 2025, Qwen3 Technical Report,
// https://arxiv.org/abs/2505.09388, section 2.
#include <utility>

#include "engine/models/architectures.h"
#include "engine/models/config_reader.h"
#include "engine/models/llama_layers.h"

namespace llmrun {

ModelConfig read_qwen3_config(const JsonObject& object, const std::string& architecture) {
  return read_rotary_config(object, architecture, WindowRule::kFromLayer);
}

std::unique_ptr<CausalLm> make_qwen3(const ModelConfig& config, WeightLoader& weights,
                                     std::int64_t max_positions) {
  const LlamaTraits traits{.qkv_bias = config.attention_bias,
                           .attention_output_bias = config.attention_bias,
                           .has_head_norms = true};
  DecoderWeights loaded = load_llama_weights(config, traits, weights);
  loaded.rope_table = load_rope_table(config, weights, max_positions);
  return std::make_unique<Decoder>(config, std::move(loaded), max_positions);
}

}  // namespace llmrun
