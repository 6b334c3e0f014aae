// Source: transformers, models/opt/modeling_opt.py; Zhang et al. 2022, OPT,
// https://arxiv.org/abs/2205.01068.
#include <string>
#include <utility>

#include <fmt/format.h>

#include "engine/models/architectures.h"
#include "engine/models/config_reader.h"
#include "engine/models/decoder_blocks.h"

namespace llmrun {
namespace {

constexpr std::int64_t kPositionOffset = 2;  // the table's first rows belong to no position

DecoderLayer load_opt_layer(const ModelConfig& config, const std::string& name, std::int32_t index,
                            WeightLoader& weights) {
  const std::string attention = name + "self_attn.";
  const std::int64_t hidden_size = config.hidden_size;
  const bool has_bias = config.attention_bias;
  DecoderLayer layer;
  layer.attention_norm = load_layer_norm(weights, name + "self_attn_layer_norm", hidden_size);
  layer.qkv = weights.linear({.parts = {{attention + "q_proj", hidden_size},
                                        {attention + "k_proj", hidden_size},
                                        {attention + "v_proj", hidden_size}},
                              .num_columns = hidden_size,
                              .has_bias = has_bias});
  layer.attention_output = weights.linear({.parts = {{attention + "out_proj", hidden_size}},
                                           .num_columns = hidden_size,
                                           .has_bias = has_bias});
  layer.mlp_norm = load_layer_norm(weights, name + "final_layer_norm", hidden_size);
  layer.up = weights.linear({.parts = {{name + "fc1", config.intermediate_size}},
                             .num_columns = hidden_size,
                             .has_bias = has_bias});
  layer.down = weights.linear({.parts = {{name + "fc2", hidden_size}},
                               .num_columns = config.intermediate_size,
                               .has_bias = has_bias});
  layer.attention_params = make_attention_params(config, index);
  return layer;
}

}  // namespace

ModelConfig read_opt_config(const JsonObject& object, const std::string& architecture) {
  ModelConfig config = read_common_config(object, architecture,
                                          {.intermediate_size = "ffn_dim",
                                           .norm_eps = nullptr,
                                           .activation = "activation_function",
                                           .default_norm_eps = 1e-5,
                                           .default_activation = "relu",
                                           .default_tie = true});
  config.positions = PositionEncoding::kLearned;
  config.max_positions = object.get_int("max_position_embeddings", 1, kMaxPositions);
  config.attention_bias = object.find_bool("enable_bias").value_or(true);
  config.norms_after_residual = !object.find_bool("do_layer_norm_before").value_or(true);
  config.embedding_size = static_cast<std::int32_t>(
      object.find_int("word_embed_proj_dim", 1, kMaxWidth).value_or(config.hidden_size));
  if (!object.find_bool("layer_norm_elementwise_affine").value_or(true)) {
    object.fail("layer_norm_elementwise_affine", "only true is supported");
  }
  if (object.find_bool("_remove_final_layer_norm").value_or(false)) {
    object.fail("_remove_final_layer_norm", "only false is supported");
  }
  return config;
}

std::unique_ptr<CausalLm> make_opt(const ModelConfig& config, WeightLoader& weights,
                                   std::int64_t max_positions) {
  const bool has_prefix = weights.contains("model.decoder.embed_tokens.weight");
  const std::string decoder = has_prefix ? "model.decoder." : "decoder.";
  const std::int64_t width = config.embedding_width();
  const std::int64_t hidden_size = config.hidden_size;
  DecoderWeights loaded;
  loaded.embedding = weights.linear(
      {.parts = {{decoder + "embed_tokens", config.vocab_size}}, .num_columns = width});
  loaded.positions =
      weights.linear({.parts = {{decoder + "embed_positions", config.max_positions, kPositionOffset,
                                 config.max_positions + kPositionOffset}},
                      .num_columns = hidden_size});
  if (width != hidden_size) {
    loaded.embedding_input =
        weights.linear({.parts = {{decoder + "project_in", hidden_size}}, .num_columns = width});
    loaded.embedding_output =
        weights.linear({.parts = {{decoder + "project_out", width}}, .num_columns = hidden_size});
  }
  for (std::int32_t layer = 0; layer < config.num_layers; ++layer) {
    loaded.layers.push_back(
        load_opt_layer(config, fmt::format("{}layers.{}.", decoder, layer), layer, weights));
  }
  if (!config.norms_after_residual) {
    loaded.final_norm = load_layer_norm(weights, decoder + "final_layer_norm", hidden_size);
  }
  if (config.tie_word_embeddings) {
    weights.ignore("lm_head.weight");
  } else {
    loaded.lm_head =
        weights.linear({.parts = {{"lm_head", config.vocab_size}}, .num_columns = width});
  }
  return std::make_unique<Decoder>(config, std::move(loaded), max_positions);
}

}  // namespace llmrun
