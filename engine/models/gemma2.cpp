// Source: transformers, models/gemma2/modeling_gemma2.py; Gemma Team 2024, Gemma 2,
// https://arxiv.org/abs/2408.00118, section 2.
#include <cmath>
#include <utility>

#include "engine/models/architectures.h"
#include "engine/models/config_reader.h"
#include "engine/models/llama_layers.h"

namespace llmrun {
namespace {

// A cap that config.json sets to null is none.
double read_cap(const JsonObject& object, const char* key, double fallback) {
  const auto found = object.json().find(key);
  if (found != object.json().end() && found->is_null()) return 0.0;
  return find_positive(object, key, fallback);
}

}  // namespace

ModelConfig read_gemma2_config(const JsonObject& object, const std::string& architecture) {
  ModelConfig config = read_rotary_config(object, architecture, WindowRule::kAlternating,
                                          {.activation = "hidden_activation",
                                           .default_activation = "gelu_pytorch_tanh",
                                           .default_tie = true});
  config.embedding_scale = std::sqrt(config.hidden_size);
  config.attention_scale = 1.0 / std::sqrt(find_positive(object, "query_pre_attn_scalar", 256.0));
  config.attention_softcap = read_cap(object, "attn_logit_softcapping", 50.0);
  config.logits_softcap = read_cap(object, "final_logit_softcapping", 30.0);
  return config;
}

std::unique_ptr<CausalLm> make_gemma2(const ModelConfig& config, WeightLoader& weights,
                                      std::int64_t max_positions) {
  const LlamaTraits traits{.qkv_bias = config.attention_bias,
                           .attention_output_bias = config.attention_bias,
                           .added_to_norms = 1.0F,
                           .has_output_norms = true};
  DecoderWeights loaded = load_llama_weights(config, traits, weights);
  loaded.rope_table = load_rope_table(config, weights, max_positions);
  return std::make_unique<Decoder>(config, std::move(loaded), max_positions);
}

}  // namespace llmrun
