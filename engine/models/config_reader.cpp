#include "engine/models/config_reader.h"

#include <array>

#include <fmt/format.h>

#include "engine/core/error.h"

namespace llmrun {
namespace {

// Like kMaxWidth and kMaxPositions far above every published model, and small enough that products
// of three of them and a byte count stay below 2^63.
constexpr std::int64_t kMaxLayers = 4096;
constexpr std::int64_t kMaxHeads = 4096;
constexpr std::int64_t kMaxHeadDim = 1024;
constexpr std::int64_t kMaxVocabulary = 1 << 24;

struct ActivationName {
  std::string_view name;
  Activation activation;
};
constexpr std::array kActivations = {
    ActivationName{"silu", Activation::kSilu},
    ActivationName{"swish", Activation::kSilu},
    ActivationName{"relu", Activation::kRelu},
    ActivationName{"gelu", Activation::kGelu},
    ActivationName{"gelu_new", Activation::kGeluTanh},
    ActivationName{"gelu_pytorch_tanh", Activation::kGeluTanh},
};

std::int32_t get_size(const JsonObject& config, std::string_view key, std::int64_t max) {
  return static_cast<std::int32_t>(config.get_int(key, 1, max));
}

TokenId check_token_id(const JsonObject& config, std::string_view key, const nlohmann::json& value,
                       std::int64_t vocab_size) {
  if (!value.is_number_integer() || value < 0 || value >= vocab_size) {
    config.fail(key, fmt::format("expected a token id below vocab_size {}, found {}", vocab_size,
                                 describe_json(value)));
  }
  return value.get<TokenId>();
}

std::optional<DType> find_dtype(const JsonObject& config) {
  const char* key = config.has("dtype") ? "dtype" : "torch_dtype";
  const auto name = config.find_string(key);
  if (!name) return std::nullopt;
  for (const DType dtype : {DType::kF32, DType::kF16, DType::kBf16}) {
    if (*name == to_string(dtype) || *name == std::string("torch.") + to_string(dtype)) {
      return dtype;
    }
  }
  config.fail(key, fmt::format("expected float32, float16 or bfloat16, found \"{}\"", *name));
}

void read_heads(const JsonObject& object, const ConfigKeys& keys, ModelConfig& config) {
  config.num_query_heads = get_size(object, keys.num_query_heads, kMaxHeads);
  config.num_kv_heads = config.num_query_heads;
  if (object.has("num_key_value_heads")) {
    config.num_kv_heads = get_size(object, "num_key_value_heads", kMaxHeads);
  }
  if (config.num_query_heads % config.num_kv_heads != 0) {
    object.fail("num_key_value_heads",
                fmt::format("expected a divisor of num_attention_heads {}, found {}",
                            config.num_query_heads, config.num_kv_heads));
  }
  if (object.has("head_dim")) {
    config.head_dim = get_size(object, "head_dim", kMaxHeadDim);
  } else {
    if (config.hidden_size % config.num_query_heads != 0) {
      object.fail(keys.num_query_heads,
                  fmt::format("expected a divisor of {} {} (there is no head_dim), found {}",
                              keys.hidden_size, config.hidden_size, config.num_query_heads));
    }
    config.head_dim = config.hidden_size / config.num_query_heads;
  }
  if (config.head_dim % 2 != 0 || config.head_dim > kMaxHeadDim) {
    object.fail(
        object.has("head_dim") ? "head_dim" : keys.num_query_heads,
        fmt::format("expected an even head size up to {}, found {}", kMaxHeadDim, config.head_dim));
  }
}

Activation read_activation(const JsonObject& object, const ConfigKeys& keys) {
  const std::string name =
      object.find_string(keys.activation).value_or(std::string(keys.default_activation));
  for (const ActivationName& known : kActivations) {
    if (name == known.name) return known.activation;
  }
  object.fail(keys.activation,
              fmt::format("expected silu, relu, gelu, gelu_new or gelu_pytorch_tanh, found {}",
                          describe_json(nlohmann::json(name))));
}

void refuse_quantization(const JsonObject& object) {
  for (const char* key : {"quantization_config", "compression_config"}) {
    if (!object.has(key)) continue;
    const std::string method =
        object.get_object(key).find_string("quant_method").value_or("unknown");
    object.fail(key, fmt::format("quantized checkpoints ({}) are not supported; use the model's "
                                 "float16, bfloat16 or float32 version",
                                 describe_json(nlohmann::json(method))));
  }
}

// layer_types, where config.json has it, wins over the rule.
void read_layer_types(const JsonObject& object, const nlohmann::json& types, std::int32_t width,
                      ModelConfig& config) {
  const std::size_t num_layers = config.sliding_windows.size();
  if (types.size() != num_layers) {
    object.fail("layer_types", fmt::format("expected {} entries as num_hidden_layers, found {}",
                                           num_layers, types.size()));
  }
  for (std::size_t layer = 0; layer < num_layers; ++layer) {
    const nlohmann::json& type = types[layer];
    if (type != "sliding_attention" && type != "full_attention") {
      object.fail("layer_types", fmt::format("expected full_attention or sliding_attention, "
                                             "found {}",
                                             describe_json(type)));
    }
    if (type == "sliding_attention") config.sliding_windows[layer] = width;
  }
}

void read_sliding_windows(const JsonObject& object, WindowRule rule, ModelConfig& config) {
  const bool is_used =
      object.find_bool("use_sliding_window").value_or(rule != WindowRule::kFromLayer);
  const auto window = object.find_int("sliding_window", 1, kMaxPositions);
  if (!is_used || !window || rule == WindowRule::kNone) return;
  const auto width = static_cast<std::int32_t>(*window);
  if (const nlohmann::json* types = object.find_array("layer_types")) {
    return read_layer_types(object, *types, width, config);
  }
  std::size_t first = 0;
  if (rule == WindowRule::kFromLayer) {
    first =
        static_cast<std::size_t>(object.find_int("max_window_layers", 0, kMaxLayers).value_or(28));
  }
  const std::size_t stride = rule == WindowRule::kAlternating ? 2 : 1;
  for (std::size_t layer = first; layer < config.sliding_windows.size(); layer += stride) {
    config.sliding_windows[layer] = width;
  }
}

}  // namespace

std::vector<TokenId> find_token_ids(const JsonObject& config, std::string_view key,
                                    std::int64_t vocab_size) {
  std::vector<TokenId> ids;
  const nlohmann::json* value = config.find(key);
  if (value == nullptr) return ids;
  if (!value->is_array()) return {check_token_id(config, key, *value, vocab_size)};
  for (const nlohmann::json& id : *value) {
    ids.push_back(check_token_id(config, key, id, vocab_size));
  }
  return ids;
}

ModelConfig read_common_config(const JsonObject& object, const std::string& architecture,
                               const ConfigKeys& keys) {
  ModelConfig config;
  config.architecture = architecture;
  refuse_quantization(object);
  config.activation = read_activation(object, keys);
  config.hidden_size = get_size(object, keys.hidden_size, kMaxWidth);
  if (keys.intermediate_size != nullptr) {
    config.intermediate_size = get_size(object, keys.intermediate_size, kMaxWidth);
  }
  config.num_layers = get_size(object, keys.num_layers, kMaxLayers);
  config.vocab_size = get_size(object, "vocab_size", kMaxVocabulary);
  read_heads(object, keys, config);
  config.norm_eps = keys.default_norm_eps;
  if (keys.norm_eps != nullptr) {
    config.norm_eps = object.find_float(keys.norm_eps, 0.0, 1.0).value_or(config.norm_eps);
  }
  config.tie_word_embeddings = object.find_bool("tie_word_embeddings").value_or(keys.default_tie);
  config.sliding_windows.assign(static_cast<std::size_t>(config.num_layers), 0);
  config.dtype = find_dtype(object);
  const std::vector<TokenId> bos = find_token_ids(object, "bos_token_id", config.vocab_size);
  if (!bos.empty()) config.bos_token_id = bos.front();
  config.eos_token_ids = find_token_ids(object, "eos_token_id", config.vocab_size);
  if (object.has("auto_map")) {
    config.notes.push_back(object.place() + ": auto_map is ignored: code of a model is never run");
  }
  return config;
}

ModelConfig read_rotary_config(const JsonObject& object, const std::string& architecture,
                               WindowRule windows, const ConfigKeys& keys) {
  ModelConfig config = read_common_config(object, architecture, keys);
  read_rope(object, config);
  config.attention_bias = object.find_bool("attention_bias").value_or(false);
  config.mlp_bias = object.find_bool("mlp_bias").value_or(false);
  read_sliding_windows(object, windows, config);
  return config;
}

}  // namespace llmrun
