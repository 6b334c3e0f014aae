// Weights under the names of Hugging Face's LlamaForCausalLM, which most later models kept.
// Source: Touvron et al. 2023, LLaMA, https://arxiv.org/abs/2302.13971, section 2.2.
#pragma once

#include <functional>
#include <string>

#include "engine/models/decoder_blocks.h"

namespace llmrun {

// What architectures of this form differ in.
struct LlamaTraits {
  bool qkv_bias = false;
  bool attention_output_bias = false;
  bool mlp_bias = false;
  bool has_head_norms = false;      // self_attn.q_norm and k_norm
  std::string fused_qkv{};          // name of one tensor of q, k and v; empty: three of them
  std::string fused_gate_up{};      // likewise of gate and up
  float added_to_norms = 0.0F;      // 1 where a norm's weight is stored as weight - 1
  bool has_output_norms = false;    // Gemma's norms behind attention and MLP
  bool normalizes_lm_head = false;  // rows of lm_head have length 1
  // Loads another kind of MLP. `name`: "model.layers.N."
  std::function<void(DecoderLayer& layer, const std::string& name)> load_mlp{};
};

DecoderWeights load_llama_weights(const ModelConfig& config, const LlamaTraits& traits,
                                  WeightLoader& weights);

}  // namespace llmrun
