// Baichuan and Baichuan2: 7B with rotary embedding, 13B with ALiBi; the head of Baichuan2 has rows
// of length 1. Source: the configuration and modeling files of baichuan-inc/Baichuan2-7B-Base and
// -13B-Base; Yang et al. 2023, Baichuan 2, https://arxiv.org/abs/2309.10305, section 2.3.
#include <cmath>
#include <utility>
#include <vector>

#include "engine/models/architectures.h"
#include "engine/models/config_reader.h"
#include "engine/models/llama_layers.h"

namespace llmrun {
namespace {

constexpr std::int64_t kFirstBaichuanVocabulary = 64000;

// 2^(-8 i / n) for the first power of two n of heads, then every other one of 2 n.
// Source: Press et al. 2021, ALiBi, https://arxiv.org/abs/2108.12409, section 3.
std::vector<float> alibi_slopes(std::int32_t num_heads) {
  std::int32_t power = 1;
  while (2 * power <= num_heads) power *= 2;
  std::vector<float> slopes;
  for (std::int32_t i = 1; i <= power; ++i) {
    slopes.push_back(static_cast<float>(std::exp2(-8.0 * i / power)));
  }
  for (std::int32_t i = 1; std::ssize(slopes) < num_heads; i += 2) {
    slopes.push_back(static_cast<float>(std::exp2(-8.0 * i / (2.0 * power))));
  }
  return slopes;
}

}  // namespace

ModelConfig read_baichuan_config(const JsonObject& object, const std::string& architecture) {
  // The 13B models have no rotary embedding, and no max_position_embeddings to say how far.
  if (object.has("max_position_embeddings")) {
    return read_rotary_config(object, architecture, WindowRule::kNone);
  }
  ModelConfig config = read_common_config(object, architecture);
  config.positions = PositionEncoding::kAlibi;
  config.max_positions = object.get_int("model_max_length", 1, kMaxPositions);
  return config;
}

std::unique_ptr<CausalLm> make_baichuan(const ModelConfig& config, WeightLoader& weights,
                                        std::int64_t max_positions) {
  LlamaTraits traits;
  traits.fused_qkv = "W_pack";
  traits.normalizes_lm_head = config.vocab_size != kFirstBaichuanVocabulary;
  DecoderWeights loaded = load_llama_weights(config, traits, weights);
  if (config.positions == PositionEncoding::kAlibi) {
    std::vector<float> slopes = alibi_slopes(config.num_query_heads);
    loaded.alibi_slopes =
        weights.constant(Tensor(slopes.data(), DType::kF32, {config.num_query_heads}));
  } else {
    loaded.rope_table = load_rope_table(config, weights, max_positions);
  }
  return std::make_unique<Decoder>(config, std::move(loaded), max_positions);
}

}  // namespace llmrun
