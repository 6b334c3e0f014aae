// Source: transformers, models/llama/modeling_llama.py and models/mistral/modeling_mistral.py.
#include "engine/models/architectures.h"
#include "engine/models/decoder_blocks.h"

namespace llmrun {

std::unique_ptr<CausalLm> make_llama(const ModelConfig& config, WeightLoader& weights,
                                     std::int64_t max_positions) {
  const DecoderTraits traits{.qkv_bias = config.attention_bias,
                             .attention_output_bias = config.attention_bias};
  return std::make_unique<PreNormDecoder>(config, traits, weights, max_positions);
}

}  // namespace llmrun
