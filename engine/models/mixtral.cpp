// Source: transformers, models/mixtral/modeling_mixtral.py; Jiang et al. 2024, Mixtral of Experts,
// https://arxiv.org/abs/2401.04088, section 2.1.
#include <utility>

#include <fmt/format.h>

#include "engine/models/architectures.h"
#include "engine/models/config_reader.h"
#include "engine/models/llama_layers.h"

namespace llmrun {

ModelConfig read_mixtral_config(const JsonObject& object, const std::string& architecture) {
  constexpr std::int64_t kMaxExperts = 1024;
  ModelConfig config =
      read_rotary_config(object, architecture, WindowRule::kAllLayers, {.default_norm_eps = 1e-5});
  config.num_experts =
      static_cast<std::int32_t>(object.find_int("num_local_experts", 1, kMaxExperts).value_or(8));
  config.num_experts_per_token = static_cast<std::int32_t>(
      object.find_int("num_experts_per_tok", 1, config.num_experts).value_or(2));
  return config;
}

std::unique_ptr<CausalLm> make_mixtral(const ModelConfig& config, WeightLoader& weights,
                                       std::int64_t max_positions) {
  LlamaTraits traits;
  traits.load_mlp = [&](DecoderLayer& layer, const std::string& name) {
    const std::string block = name + "block_sparse_moe.";
    const std::int64_t hidden_size = config.hidden_size;
    const std::int64_t size = config.intermediate_size;
    layer.router = weights.linear(
        {.parts = {{block + "gate", config.num_experts}}, .num_columns = hidden_size});
    for (std::int32_t i = 0; i < config.num_experts; ++i) {
      const std::string expert = fmt::format("{}experts.{}.", block, i);
      layer.experts.push_back(
          {weights.gate_up({.parts = {{expert + "w1", size}, {expert + "w3", size}},
                            .num_columns = hidden_size}),
           weights.linear({.parts = {{expert + "w2", hidden_size}}, .num_columns = size})});
    }
  };
  DecoderWeights loaded = load_llama_weights(config, traits, weights);
  loaded.rope_table = load_rope_table(config, weights, max_positions);
  return std::make_unique<Decoder>(config, std::move(loaded), max_positions);
}

}  // namespace llmrun
