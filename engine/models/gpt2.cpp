// Source: transformers, models/gpt2/modeling_gpt2.py; Radford et al. 2019, Language Models are
// Unsupervised Multitask Learners.
#include <string>
#include <utility>

#include <fmt/format.h>

#include "engine/models/architectures.h"
#include "engine/models/config_reader.h"
#include "engine/models/decoder_blocks.h"

namespace llmrun {
namespace {

// GPT-2 stores [inputs, outputs].
LinearSpec conv1d(const std::string& name, std::int64_t num_rows, std::int64_t num_columns) {
  return {.parts = {{name, num_rows}},
          .num_columns = num_columns,
          .has_bias = true,
          .is_transposed = true};
}

DecoderLayer load_gpt2_layer(const ModelConfig& config, const std::string& name, std::int32_t index,
                             WeightLoader& weights) {
  const std::int64_t hidden_size = config.hidden_size;
  DecoderLayer layer;
  layer.attention_norm = load_layer_norm(weights, name + "ln_1", hidden_size);
  layer.qkv = weights.linear(conv1d(name + "attn.c_attn", config.qkv_size(), hidden_size));
  layer.attention_output = weights.linear(conv1d(name + "attn.c_proj", hidden_size, hidden_size));
  layer.mlp_norm = load_layer_norm(weights, name + "ln_2", hidden_size);
  layer.up = weights.linear(conv1d(name + "mlp.c_fc", config.intermediate_size, hidden_size));
  layer.down = weights.linear(conv1d(name + "mlp.c_proj", hidden_size, config.intermediate_size));
  // Causal masks that old checkpoints stored as if they were weights.
  weights.ignore(name + "attn.bias");
  weights.ignore(name + "attn.masked_bias");
  layer.attention_params = make_attention_params(config, index);
  return layer;
}

}  // namespace

ModelConfig read_gpt2_config(const JsonObject& object, const std::string& architecture) {
  ModelConfig config = read_common_config(object, architecture,
                                          {.hidden_size = "n_embd",
                                           .intermediate_size = nullptr,
                                           .num_layers = "n_layer",
                                           .num_query_heads = "n_head",
                                           .norm_eps = "layer_norm_epsilon",
                                           .activation = "activation_function",
                                           .default_norm_eps = 1e-5,
                                           .default_activation = "gelu_new",
                                           .default_tie = true});
  config.positions = PositionEncoding::kLearned;
  config.max_positions = object.get_int("n_positions", 1, kMaxPositions);
  config.intermediate_size = static_cast<std::int32_t>(
      object.find_int("n_inner", 1, kMaxWidth).value_or(std::int64_t{4} * config.hidden_size));
  if (!object.find_bool("scale_attn_weights").value_or(true)) config.attention_scale = 1.0;
  config.attention_scale_by_layer =
      object.find_bool("scale_attn_by_inverse_layer_idx").value_or(false);
  return config;
}

std::unique_ptr<CausalLm> make_gpt2(const ModelConfig& config, WeightLoader& weights,
                                    std::int64_t max_positions) {
  const std::string prefix = weights.contains("transformer.wte.weight") ? "transformer." : "";
  const std::int64_t hidden_size = config.hidden_size;
  DecoderWeights loaded;
  loaded.embedding =
      weights.linear({.parts = {{prefix + "wte", config.vocab_size}}, .num_columns = hidden_size});
  loaded.positions = weights.linear(
      {.parts = {{prefix + "wpe", config.max_positions}}, .num_columns = hidden_size});
  for (std::int32_t layer = 0; layer < config.num_layers; ++layer) {
    loaded.layers.push_back(
        load_gpt2_layer(config, fmt::format("{}h.{}.", prefix, layer), layer, weights));
  }
  loaded.final_norm = load_layer_norm(weights, prefix + "ln_f", hidden_size);
  if (config.tie_word_embeddings) {
    weights.ignore("lm_head.weight");
  } else {
    loaded.lm_head =
        weights.linear({.parts = {{"lm_head", config.vocab_size}}, .num_columns = hidden_size});
  }
  return std::make_unique<Decoder>(config, std::move(loaded), max_positions);
}

}  // namespace llmrun
