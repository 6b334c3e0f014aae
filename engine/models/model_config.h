// ModelConfig: what config.json says about a decoder-only transformer, checked and in one form.
// Each architecture reads it with the parts of config_reader.h. Source:
// https://github.com/huggingface/transformers, models/*/configuration_*.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "engine/core/activation.h"
#include "engine/core/dtype.h"
#include "engine/core/token_id.h"

namespace llmrun {

// How the angles of rotary position embeddings are scaled beyond the trained length.
enum class RopeScaling : std::uint8_t { kNone, kLinear, kDynamic, kLlama3, kYarn, kLongRope };

struct RopeConfig {
  double theta = 10000.0;  // wavelength base
  RopeScaling scaling = RopeScaling::kNone;
  double factor = 1.0;
  std::int64_t original_max_positions = 0;  // length the model was first trained for
  double low_freq_factor = 1.0;             // llama3
  double high_freq_factor = 4.0;            // llama3
  double beta_fast = 32.0;                  // yarn
  double beta_slow = 1.0;                   // yarn
  bool truncate = true;                     // yarn: round the correction range to whole dimensions
  std::vector<double> short_factors;        // longrope: [rotated / 2], up to the original length
  std::vector<double> long_factors;         // longrope: [rotated / 2], beyond it
  double attention_factor = 1.0;            // yarn, longrope: multiplies cos and sin
};

// How a model knows where a token stands.
enum class PositionEncoding : std::uint8_t {
  kRope,
  kLearned,  // a table added to the embeddings
  kAlibi,    // a bias of attention; Press et al. 2021, https://arxiv.org/abs/2108.12409
};

struct ModelConfig {
  std::string architecture;  // "LlamaForCausalLM"
  std::int32_t hidden_size = 0;
  std::int32_t intermediate_size = 0;
  std::int32_t num_layers = 0;
  std::int32_t num_query_heads = 0;
  std::int32_t num_kv_heads = 0;
  std::int32_t head_dim = 0;
  std::int32_t vocab_size = 0;     // rows of the embedding; may exceed the tokenizer's
  std::int64_t max_positions = 0;  // longest context the model is made for, rope scaling included
  double norm_eps = 1e-6;
  Activation activation = Activation::kSilu;
  PositionEncoding positions = PositionEncoding::kRope;
  RopeConfig rope;
  std::int32_t rotary_dim = 0;  // dimensions of a head that are rotated; 0: all
  bool tie_word_embeddings = false;
  // Where the architecture has a choice.
  bool attention_bias = false;  // q, k, v and output projections
  bool mlp_bias = false;
  bool norms_after_residual = false;      // norm(x + block(x)) instead of x + block(norm(x))
  std::int32_t embedding_size = 0;        // columns of the embedding, projected; 0: hidden_size
  double embedding_scale = 1.0;           // multiplies embeddings
  double attention_scale = 0.0;           // of q . k; 0: 1 / sqrt(head_dim)
  bool attention_scale_by_layer = false;  // divided by the layer's number, the first is 1
  double attention_softcap = 0.0;         // > 0: cap * tanh(score / cap)
  double logits_softcap = 0.0;            // likewise
  std::int32_t num_experts = 0;           // of each MLP; 0: a plain MLP
  std::int32_t num_experts_per_token = 0;
  // Per layer: 0 sees the whole context; w > 0 sees a token and the w - 1 tokens before it.
  std::vector<std::int32_t> sliding_windows;
  std::optional<DType> dtype;  // of the checkpoint, when config.json says it
  std::optional<TokenId> bos_token_id;
  std::vector<TokenId> eos_token_ids;
  // What was read and has no effect, or an unusual one; one line each.
  std::vector<std::string> notes;

  std::int64_t q_size() const { return std::int64_t{num_query_heads} * head_dim; }
  std::int64_t kv_size() const { return std::int64_t{num_kv_heads} * head_dim; }
  std::int64_t qkv_size() const { return q_size() + 2 * kv_size(); }
  std::int32_t embedding_width() const { return embedding_size > 0 ? embedding_size : hidden_size; }
  std::int32_t rotary_size() const { return rotary_dim > 0 ? rotary_dim : head_dim; }
};

// What generation_config.json recommends; absent where it says nothing.
struct GenerationDefaults {
  std::optional<bool> do_sample;
  std::optional<double> temperature;
  std::optional<double> top_p;
  std::optional<std::int32_t> top_k;
  std::optional<double> min_p;
  std::optional<double> repetition_penalty;
  std::optional<std::int32_t> max_new_tokens;
  std::optional<TokenId> bos_token_id;
  std::vector<TokenId> eos_token_ids;
};

// Reads `folder`/generation_config.json; all absent when there is none. Throws Error(kModel).
GenerationDefaults read_generation_defaults(const std::filesystem::path& folder,
                                            std::int64_t vocab_size);

}  // namespace llmrun
