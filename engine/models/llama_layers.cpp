#include "engine/models/llama_layers.h"

#include <fmt/format.h>

namespace llmrun {
namespace {

LinearSpec qkv_spec(const ModelConfig& config, const LlamaTraits& traits,
                    const std::string& attention) {
  LinearSpec spec{.num_columns = config.hidden_size, .has_bias = traits.qkv_bias};
  if (traits.fused_qkv.empty()) {
    spec.parts = {{attention + "q_proj", config.q_size()},
                  {attention + "k_proj", config.kv_size()},
                  {attention + "v_proj", config.kv_size()}};
  } else {
    spec.parts = {{attention + traits.fused_qkv, config.qkv_size()}};
  }
  return spec;
}

LinearSpec gate_up_spec(const ModelConfig& config, const LlamaTraits& traits,
                        const std::string& mlp) {
  const std::int64_t size = config.intermediate_size;
  LinearSpec spec{.num_columns = config.hidden_size, .has_bias = traits.mlp_bias};
  if (traits.fused_gate_up.empty()) {
    spec.parts = {{mlp + "gate_proj", size}, {mlp + "up_proj", size}};
  } else {
    const std::string name = mlp + traits.fused_gate_up;
    spec.parts = {{name, size, 0, 2 * size}, {name, size, size, 2 * size}};
  }
  return spec;
}

void load_norms(DecoderLayer& layer, const ModelConfig& config, const LlamaTraits& traits,
                const std::string& name, WeightLoader& weights) {
  const auto load = [&](const char* norm) {
    return load_rms_norm(weights, name + norm, config.hidden_size, traits.added_to_norms);
  };
  layer.attention_norm = load("input_layernorm");
  if (!traits.has_output_norms) {
    layer.mlp_norm = load("post_attention_layernorm");
    return;
  }
  layer.attention_output_norm = load("post_attention_layernorm");
  layer.mlp_norm = load("pre_feedforward_layernorm");
  layer.mlp_output_norm = load("post_feedforward_layernorm");
}

DecoderLayer load_llama_layer(const ModelConfig& config, const LlamaTraits& traits,
                              std::int32_t index, WeightLoader& weights) {
  const std::string name = fmt::format("model.layers.{}.", index);
  const std::string attention = name + "self_attn.";
  DecoderLayer layer;
  load_norms(layer, config, traits, name, weights);
  layer.qkv = weights.linear(qkv_spec(config, traits, attention));
  if (traits.has_head_norms) {
    layer.query_norm = weights.vector(attention + "q_norm.weight", config.head_dim);
    layer.key_norm = weights.vector(attention + "k_norm.weight", config.head_dim);
  }
  layer.attention_output = weights.linear({.parts = {{attention + "o_proj", config.hidden_size}},
                                           .num_columns = config.q_size(),
                                           .has_bias = traits.attention_output_bias});
  if (traits.load_mlp) {
    traits.load_mlp(layer, name);
  } else {
    layer.gate_up = weights.gate_up(gate_up_spec(config, traits, name + "mlp."));
    layer.down = weights.linear({.parts = {{name + "mlp.down_proj", config.hidden_size}},
                                 .num_columns = config.intermediate_size,
                                 .has_bias = traits.mlp_bias});
  }
  // Constants that old checkpoints stored as if they were weights.
  weights.ignore(attention + "rotary_emb.inv_freq");
  layer.attention_params = make_attention_params(config, index);
  return layer;
}

}  // namespace

DecoderWeights load_llama_weights(const ModelConfig& config, const LlamaTraits& traits,
                                  WeightLoader& weights) {
  DecoderWeights loaded;
  loaded.embedding = weights.linear(
      {.parts = {{"model.embed_tokens", config.vocab_size}}, .num_columns = config.hidden_size});
  for (std::int32_t layer = 0; layer < config.num_layers; ++layer) {
    loaded.layers.push_back(load_llama_layer(config, traits, layer, weights));
  }
  loaded.final_norm =
      load_rms_norm(weights, "model.norm", config.hidden_size, traits.added_to_norms);
  if (config.tie_word_embeddings) {
    weights.ignore("lm_head.weight");
  } else {
    loaded.lm_head = weights.linear({.parts = {{"lm_head", config.vocab_size}},
                                     .num_columns = config.hidden_size,
                                     .normalizes_rows = traits.normalizes_lm_head});
  }
  return loaded;
}

}  // namespace llmrun
