// Source: transformers, models/phi3/modeling_phi3.py; Abdin et al. 2024, Phi-3 Technical Report,
// https://arxiv.org/abs/2404.14219, section 2.
#include <utility>

#include "engine/models/architectures.h"
#include "engine/models/config_reader.h"
#include "engine/models/llama_layers.h"

namespace llmrun {

ModelConfig read_phi3_config(const JsonObject& object, const std::string& architecture) {
  return read_rotary_config(object, architecture, WindowRule::kAllLayers,
                            {.default_norm_eps = 1e-5});
}

std::unique_ptr<CausalLm> make_phi3(const ModelConfig& config, WeightLoader& weights,
                                    std::int64_t max_positions) {
  LlamaTraits traits;
  traits.fused_qkv = "qkv_proj";
  traits.fused_gate_up = "gate_up_proj";
  DecoderWeights loaded = load_llama_weights(config, traits, weights);
  loaded.rope_table = load_rope_table(config, weights, max_positions);
  return std::make_unique<Decoder>(config, std::move(loaded), max_positions);
}

}  // namespace llmrun
