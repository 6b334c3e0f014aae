// Parts that the architectures' readers of config.json are made of. Each refuses a bad value with
// Error(kModel): "<place>: <key>: expected ..., found ...".
//
// Every number is range-checked here, so that no product of sizes can overflow later. Keys that say
// nothing about the computation are not read. Old and new spellings (rope_scaling and
// rope_parameters, torch_dtype and dtype) mean the same.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "engine/core/json.h"
#include "engine/models/model_config.h"

namespace llmrun {

inline constexpr std::int64_t kMaxWidth = 1 << 20;  // hidden and MLP size
inline constexpr std::int64_t kMaxPositions = std::int64_t{1} << 30;

// What an architecture calls the common sizes, and what it takes where config.json says nothing.
struct ConfigKeys {
  const char* hidden_size = "hidden_size";
  const char* intermediate_size = "intermediate_size";  // null: the caller sets it
  const char* num_layers = "num_hidden_layers";
  const char* num_query_heads = "num_attention_heads";
  const char* norm_eps = "rms_norm_eps";  // null: default_norm_eps always
  const char* activation = "hidden_act";
  double default_norm_eps = 1e-6;
  std::string_view default_activation = "silu";
  bool default_tie = false;
};

// Sizes, heads, activation, dtype and special tokens. Refuses quantized checkpoints.
ModelConfig read_common_config(const JsonObject& object, const std::string& architecture,
                               const ConfigKeys& keys = {});

// Which layers see a sliding window when config.json names its width.
enum class WindowRule : std::uint8_t {
  kNone,
  kAllLayers,
  kFromLayer,    // from max_window_layers on, and only with use_sliding_window: Qwen
  kAlternating,  // layers 0, 2, 4, ...: Gemma 2
};

// read_common_config, rotary embedding, biases and windows: Llama and its heirs.
ModelConfig read_rotary_config(const JsonObject& object, const std::string& architecture,
                               WindowRule windows, const ConfigKeys& keys = {});

// Fills `config.rope`, `config.rotary_dim` and `config.max_positions`.
void read_rope(const JsonObject& object, ModelConfig& config);

// A number above 0, or `fallback`.
double find_positive(const JsonObject& object, std::string_view key, double fallback);

// An id, a list of ids, or null.
std::vector<TokenId> find_token_ids(const JsonObject& config, std::string_view key,
                                    std::int64_t vocab_size);

}  // namespace llmrun
