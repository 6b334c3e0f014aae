// ModelConfig: what config.json says about a decoder-only transformer, checked and in one form.
//
// Every number is range-checked here, so that no product of sizes can overflow later. Keys that say
// nothing about the computation are not read. Old and new spellings (rope_scaling and
// rope_parameters, torch_dtype and dtype) mean the same.
// Source: https://github.com/huggingface/transformers,
// models/{llama,mistral,qwen2}/configuration_*.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "engine/core/dtype.h"
#include "engine/core/token_id.h"

namespace llmrun {

// How the angles of rotary position embeddings are scaled beyond the trained length.
enum class RopeScaling : std::uint8_t { kNone, kLinear, kLlama3, kYarn };

struct RopeConfig {
  double theta = 10000.0;  // wavelength base
  RopeScaling scaling = RopeScaling::kNone;
  double factor = 1.0;
  std::int64_t original_max_positions = 0;  // llama3, yarn: length the model was first trained for
  double low_freq_factor = 1.0;             // llama3
  double high_freq_factor = 4.0;            // llama3
  double beta_fast = 32.0;                  // yarn
  double beta_slow = 1.0;                   // yarn
  bool truncate = true;                     // yarn: round the correction range to whole dimensions
  double attention_factor = 1.0;            // yarn: multiplies cos and sin
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
  double rms_norm_eps = 1e-6;
  RopeConfig rope;
  bool tie_word_embeddings = false;
  bool attention_bias =
      false;  // q, k, v and output projections, where the architecture has a choice
  // Per layer: 0 sees the whole context; w > 0 sees a token and the w - 1 tokens before it.
  std::vector<std::int32_t> sliding_windows;
  std::optional<DType> dtype;  // of the checkpoint, when config.json says it
  std::optional<TokenId> bos_token_id;
  std::vector<TokenId> eos_token_ids;
  // What was read and has no effect, or an unusual one; one line each.
  std::vector<std::string> notes;

  std::int64_t q_size() const { return std::int64_t{num_query_heads} * head_dim; }
  std::int64_t kv_size() const { return std::int64_t{num_kv_heads} * head_dim; }
};

// The architecture that config.json names: its first `architectures` entry, else the one its
// `model_type` stands for. `place` begins error messages. Throws Error(kModel).
std::string read_architecture(const nlohmann::json& json, const std::string& place);

// Throws Error(kModel): "<place>: <key>: expected ..., found ...".
ModelConfig parse_model_config(const nlohmann::json& json, const std::string& place);

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
