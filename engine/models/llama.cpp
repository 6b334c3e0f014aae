// Source: transformers, models/llama/modeling_llama.py and models/mistral/modeling_mistral.py.
#include <utility>

#include "engine/models/architectures.h"
#include "engine/models/config_reader.h"
#include "engine/models/llama_layers.h"

namespace llmrun {

ModelConfig read_llama_config(const JsonObject& object, const std::string& architecture) {
  return read_rotary_config(object, architecture, WindowRule::kNone);
}

ModelConfig read_mistral_config(const JsonObject& object, const std::string& architecture) {
  return read_rotary_config(object, architecture, WindowRule::kAllLayers);
}

std::unique_ptr<CausalLm> make_llama(const ModelConfig& config, WeightLoader& weights,
                                     std::int64_t max_positions) {
  const LlamaTraits traits{.qkv_bias = config.attention_bias,
                           .attention_output_bias = config.attention_bias,
                           .mlp_bias = config.mlp_bias};
  DecoderWeights loaded = load_llama_weights(config, traits, weights);
  loaded.rope_table = load_rope_table(config, weights, max_positions);
  return std::make_unique<Decoder>(config, std::move(loaded), max_positions);
}

}  // namespace llmrun
