#include "engine/models/model_config.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <string_view>
#include <utility>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "engine/core/error.h"
#include "engine/core/file.h"
#include "engine/core/json.h"

namespace llmrun {
namespace {

// Far above every published model, and small enough that products of three of them and a byte count
// stay below 2^63.
constexpr std::int64_t kMaxWidth = 1 << 20;  // hidden and MLP size
constexpr std::int64_t kMaxLayers = 4096;
constexpr std::int64_t kMaxHeads = 4096;
constexpr std::int64_t kMaxHeadDim = 1024;
constexpr std::int64_t kMaxVocabulary = 1 << 24;
constexpr std::int64_t kMaxPositions = std::int64_t{1} << 30;
constexpr std::uint64_t kMaxFileBytes = 16 << 20;

struct ModelType {
  std::string_view model_type;
  std::string_view architecture;
};
constexpr std::array kModelTypes = {
    ModelType{"llama", "LlamaForCausalLM"},
    ModelType{"mistral", "MistralForCausalLM"},
    ModelType{"qwen2", "Qwen2ForCausalLM"},
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

// An id, a list of ids, or null.
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

std::optional<TokenId> find_first_token_id(const JsonObject& config, std::string_view key,
                                           std::int64_t vocab_size) {
  const std::vector<TokenId> ids = find_token_ids(config, key, vocab_size);
  if (ids.empty()) return std::nullopt;
  return ids.front();
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

double find_positive(const JsonObject& object, std::string_view key, double fallback) {
  const auto value = object.find_float(key, 0.0, 1e12);
  if (value && *value == 0.0) object.fail(key, "expected a number above 0, found 0");
  return value.value_or(fallback);
}

double get_factor(const JsonObject& scaling) {
  return scaling.get_float("factor", 1.0, 1e6);
}

std::int64_t get_original_max_positions(const JsonObject& config, const JsonObject& scaling,
                                        std::int64_t max_position_embeddings) {
  constexpr std::string_view kKey = "original_max_position_embeddings";
  // Beside the scaling object it wins, as in transformers.
  for (const JsonObject* object : {&config, &scaling}) {
    if (const auto value = object->find_int(kKey, 1, kMaxPositions)) return *value;
  }
  return max_position_embeddings;
}

void parse_llama3(const JsonObject& scaling, RopeConfig& rope) {
  rope.scaling = RopeScaling::kLlama3;
  rope.factor = get_factor(scaling);
  rope.low_freq_factor = find_positive(scaling, "low_freq_factor", 1.0);
  rope.high_freq_factor = find_positive(scaling, "high_freq_factor", 4.0);
  if (rope.high_freq_factor <= rope.low_freq_factor) {
    scaling.fail("high_freq_factor",
                 fmt::format("expected a number above low_freq_factor {}, found {}",
                             rope.low_freq_factor, rope.high_freq_factor));
  }
}

// Source: Peng et al. 2023, YaRN, https://arxiv.org/abs/2309.00071; defaults of transformers.
void parse_yarn(const JsonObject& scaling, RopeConfig& rope) {
  rope.scaling = RopeScaling::kYarn;
  rope.factor = get_factor(scaling);
  rope.beta_fast = find_positive(scaling, "beta_fast", 32.0);
  rope.beta_slow = find_positive(scaling, "beta_slow", 1.0);
  rope.truncate = scaling.find_bool("truncate").value_or(true);
  const auto magnitude = [&](double scale) { return 0.1 * scale * std::log(rope.factor) + 1.0; };
  const double mscale = scaling.find_float("mscale", 0.0, 1e6).value_or(0.0);
  const double mscale_all_dim = scaling.find_float("mscale_all_dim", 0.0, 1e6).value_or(0.0);
  const bool has_both = mscale != 0.0 && mscale_all_dim != 0.0;
  const double fallback = has_both ? magnitude(mscale) / magnitude(mscale_all_dim) : magnitude(1.0);
  rope.attention_factor = find_positive(scaling, "attention_factor", fallback);
}

// Fills `config.rope` and `config.max_positions`.
void parse_rope(const JsonObject& object, ModelConfig& config) {
  const std::int64_t max_position_embeddings =
      object.get_int("max_position_embeddings", 1, kMaxPositions);
  config.max_positions = max_position_embeddings;
  RopeConfig& rope = config.rope;
  rope.theta = find_positive(object, "rope_theta", 10000.0);
  const char* key = object.has("rope_parameters") ? "rope_parameters" : "rope_scaling";
  const auto scaling = object.find_object(key);
  if (!scaling) return;
  rope.theta = find_positive(*scaling, "rope_theta", rope.theta);
  if (scaling->find_float("partial_rotary_factor", 0.0, 1.0).value_or(1.0) != 1.0) {
    scaling->fail("partial_rotary_factor", "only 1 is supported");
  }
  const std::string_view type_key = scaling->has("rope_type") ? "rope_type" : "type";
  const std::string type = scaling->find_string(type_key).value_or("default");
  const std::int64_t original =
      get_original_max_positions(object, *scaling, max_position_embeddings);
  const auto scaled = [&](std::int64_t length) {
    return std::min(kMaxPositions,
                    static_cast<std::int64_t>(static_cast<double>(length) * rope.factor));
  };
  if (type == "linear") {
    rope.scaling = RopeScaling::kLinear;
    rope.factor = get_factor(*scaling);
    // Such checkpoints give the length before scaling, and vLLM reads them so.
    config.max_positions = scaled(max_position_embeddings);
  } else if (type == "llama3") {
    parse_llama3(*scaling, rope);
    rope.original_max_positions = original;
  } else if (type == "yarn") {
    parse_yarn(*scaling, rope);
    rope.original_max_positions = original;
    config.max_positions = std::max(max_position_embeddings, scaled(original));
  } else if (type == "dynamic") {
    // The angles change with the length of each sequence, but only beyond this many positions.
    config.notes.push_back(
        fmt::format("{}: rope type dynamic is supported up to max_position_embeddings {}",
                    object.place(), max_position_embeddings));
  } else if (type != "default") {
    scaling->fail(type_key, fmt::format("expected default, linear, llama3, yarn or dynamic, found "
                                        "{}",
                                        describe_json(nlohmann::json(type))));
  }
}

void parse_heads(const JsonObject& object, ModelConfig& config) {
  config.num_query_heads = get_size(object, "num_attention_heads", kMaxHeads);
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
      object.fail(
          "num_attention_heads",
          fmt::format("expected a divisor of hidden_size {} (there is no head_dim), found {}",
                      config.hidden_size, config.num_query_heads));
    }
    config.head_dim = config.hidden_size / config.num_query_heads;
  }
  if (config.head_dim % 2 != 0 || config.head_dim > kMaxHeadDim) {
    object.fail(
        object.has("head_dim") ? "head_dim" : "num_attention_heads",
        fmt::format("expected an even head size up to {}, found {}", kMaxHeadDim, config.head_dim));
  }
}

// Fills `config.sliding_windows`.
void parse_sliding_windows(const JsonObject& object, ModelConfig& config) {
  const auto num_layers = static_cast<std::size_t>(config.num_layers);
  config.sliding_windows.assign(num_layers, 0);
  const bool is_qwen2 = config.architecture == "Qwen2ForCausalLM";
  const bool is_used = object.find_bool("use_sliding_window").value_or(!is_qwen2);
  const auto window = object.find_int("sliding_window", 1, kMaxPositions);
  if (!is_used || !window || config.architecture == "LlamaForCausalLM") return;
  const auto width = static_cast<std::int32_t>(*window);
  if (const nlohmann::json* types = object.find_array("layer_types")) {
    if (types->size() != num_layers) {
      object.fail("layer_types", fmt::format("expected {} entries as num_hidden_layers, found {}",
                                             num_layers, types->size()));
    }
    for (std::size_t layer = 0; layer < num_layers; ++layer) {
      const nlohmann::json& type = (*types)[layer];
      if (type != "sliding_attention" && type != "full_attention") {
        object.fail("layer_types", fmt::format("expected full_attention or sliding_attention, "
                                               "found {}",
                                               describe_json(type)));
      }
      if (type == "sliding_attention") config.sliding_windows[layer] = width;
    }
    return;
  }
  // In Qwen2 the first layers see everything.
  std::size_t first = 0;
  if (is_qwen2) {
    first =
        static_cast<std::size_t>(object.find_int("max_window_layers", 0, kMaxLayers).value_or(28));
  }
  for (std::size_t layer = first; layer < num_layers; ++layer) {
    config.sliding_windows[layer] = width;
  }
}

// What would change the computation and is not implemented.
void refuse_unsupported(const JsonObject& object) {
  const std::string activation = object.find_string("hidden_act").value_or("silu");
  if (activation != "silu" && activation != "swish") {
    object.fail("hidden_act",
                fmt::format("expected silu, found {}", describe_json(nlohmann::json(activation))));
  }
  if (object.find_bool("mlp_bias").value_or(false)) {
    object.fail("mlp_bias", "expected false, found true: biases in the MLP are not supported");
  }
  for (const char* key : {"quantization_config", "compression_config"}) {
    if (!object.has(key)) continue;
    const std::string method =
        object.get_object(key).find_string("quant_method").value_or("unknown");
    object.fail(key, fmt::format("quantized checkpoints ({}) are not supported; use the model's "
                                 "float16, bfloat16 or float32 version",
                                 describe_json(nlohmann::json(method))));
  }
}

}  // namespace

std::string read_architecture(const nlohmann::json& json, const std::string& place) {
  const JsonObject object(json, place);
  if (const nlohmann::json* list = object.find_array("architectures"); list && !list->empty()) {
    if (!list->front().is_string()) {
      object.fail("architectures",
                  fmt::format("expected names, found {}", describe_json(list->front())));
    }
    return list->front().get<std::string>();
  }
  const std::string model_type = object.get_string("model_type");
  for (const ModelType& known : kModelTypes) {
    if (model_type == known.model_type) return std::string(known.architecture);
  }
  return model_type;
}

ModelConfig parse_model_config(const nlohmann::json& json, const std::string& place) {
  const JsonObject object(json, place);
  ModelConfig config;
  config.architecture = read_architecture(json, place);
  refuse_unsupported(object);
  config.hidden_size = get_size(object, "hidden_size", kMaxWidth);
  config.intermediate_size = get_size(object, "intermediate_size", kMaxWidth);
  config.num_layers = get_size(object, "num_hidden_layers", kMaxLayers);
  config.vocab_size = get_size(object, "vocab_size", kMaxVocabulary);
  parse_heads(object, config);
  config.rms_norm_eps = object.find_float("rms_norm_eps", 0.0, 1.0).value_or(1e-6);
  parse_rope(object, config);
  config.tie_word_embeddings = object.find_bool("tie_word_embeddings").value_or(false);
  config.attention_bias = object.find_bool("attention_bias").value_or(false);
  parse_sliding_windows(object, config);
  config.dtype = find_dtype(object);
  config.bos_token_id = find_first_token_id(object, "bos_token_id", config.vocab_size);
  config.eos_token_ids = find_token_ids(object, "eos_token_id", config.vocab_size);
  if (object.has("auto_map")) {
    config.notes.push_back(place + ": auto_map is ignored: code of a model is never run");
  }
  return config;
}

GenerationDefaults read_generation_defaults(const std::filesystem::path& folder,
                                            std::int64_t vocab_size) {
  GenerationDefaults defaults;
  const std::filesystem::path path = folder / "generation_config.json";
  const auto text = read_file_if_exists(path, kMaxFileBytes, ErrorKind::kModel);
  if (!text) return defaults;
  const nlohmann::json json = parse_json(*text, path.string());
  const JsonObject object(json, path.string());
  const auto find_count = [&](std::string_view key, std::int64_t min) {
    const auto value = object.find_int(key, min, std::int64_t{1} << 30);
    return value ? std::optional(static_cast<std::int32_t>(*value)) : std::nullopt;
  };
  defaults.do_sample = object.find_bool("do_sample");
  defaults.temperature = object.find_float("temperature", 0.0, 100.0);
  defaults.top_p = object.find_float("top_p", 0.0, 1.0);
  defaults.top_k = find_count("top_k", -1);
  defaults.min_p = object.find_float("min_p", 0.0, 1.0);
  defaults.repetition_penalty = object.find_float("repetition_penalty", 1e-6, 1e6);
  defaults.max_new_tokens = find_count("max_new_tokens", 1);
  defaults.bos_token_id = find_first_token_id(object, "bos_token_id", vocab_size);
  defaults.eos_token_ids = find_token_ids(object, "eos_token_id", vocab_size);
  return defaults;
}

}  // namespace llmrun
