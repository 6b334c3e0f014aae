// Source: transformers, models/qwen2/modeling_qwen2.py; Yang et al. 2024, Qwen2 Technical Report,
// https://arxiv.org/abs/2407.10671, section 2.2.1.
#include "engine/models/architectures.h"
#include "engine/models/decoder_blocks.h"

namespace llmrun {

std::unique_ptr<CausalLm> make_qwen2(const ModelConfig& config, WeightLoader& weights,
                                     std::int64_t max_positions) {
  const DecoderTraits traits{.qkv_bias = true, .attention_output_bias = false};
  return std::make_unique<PreNormDecoder>(config, traits, weights, max_positions);
}

}  // namespace llmrun
