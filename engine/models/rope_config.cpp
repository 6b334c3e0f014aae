// What config.json says about rotary position embeddings.
#include <algorithm>
#include <cmath>
#include <utility>

#include <fmt/format.h>

#include "engine/core/error.h"
#include "engine/models/config_reader.h"

namespace llmrun {

double find_positive(const JsonObject& object, std::string_view key, double fallback) {
  const auto value = object.find_float(key, 0.0, 1e12);
  if (value && *value == 0.0) object.fail(key, "expected a number above 0, found 0");
  return value.value_or(fallback);
}

namespace {

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

std::vector<double> get_factors(const JsonObject& scaling, std::string_view key,
                                std::int32_t rotary_dim) {
  const nlohmann::json& array = scaling.get_array(key);
  std::vector<double> factors;
  for (const nlohmann::json& value : array) {
    if (!value.is_number() || value.get<double>() <= 0.0) {
      scaling.fail(key, fmt::format("expected numbers above 0, found {}", describe_json(value)));
    }
    factors.push_back(value.get<double>());
  }
  if (std::cmp_not_equal(factors.size(), rotary_dim / 2)) {
    scaling.fail(key, fmt::format("expected {} numbers, half the rotated dimensions, found {}",
                                  rotary_dim / 2, factors.size()));
  }
  return factors;
}

// Source: Ding et al. 2024, LongRoPE, https://arxiv.org/abs/2402.13753; defaults of transformers.
void parse_longrope(const JsonObject& scaling, std::int64_t max_positions, std::int64_t original,
                    ModelConfig& config) {
  RopeConfig& rope = config.rope;
  rope.scaling = RopeScaling::kLongRope;
  rope.original_max_positions = original;
  rope.short_factors = get_factors(scaling, "short_factor", config.rotary_size());
  rope.long_factors = get_factors(scaling, "long_factor", config.rotary_size());
  const double ratio = static_cast<double>(max_positions) / static_cast<double>(original);
  const double factor = find_positive(scaling, "factor", ratio);
  const double fallback =
      factor <= 1.0 ? 1.0
                    : std::sqrt(1.0 + std::log(factor) / std::log(static_cast<double>(original)));
  rope.attention_factor = find_positive(scaling, "attention_factor", fallback);
}

// Keys in the cache keep their angles, so that one scaling must do for a whole run.
void note_fixed_scaling(const JsonObject& object, const std::string& type, std::int64_t original,
                        ModelConfig& config) {
  config.notes.push_back(
      fmt::format("{}: rope type {}: angles are scaled for --max-model-len where that is above {}, "
                  "for sequences of any length; --max-model-len {} keeps them unscaled",
                  object.place(), type, original, original));
}

void read_rotary_dim(const JsonObject& object, ModelConfig& config) {
  const auto factor = object.find_float("partial_rotary_factor", 0.0, 1.0);
  if (!factor) return;
  config.rotary_dim = static_cast<std::int32_t>(config.head_dim * *factor);
  if (config.rotary_dim < 2 || config.rotary_dim % 2 != 0) {
    object.fail("partial_rotary_factor",
                fmt::format("expected an even number of rotated dimensions, found {} of {}",
                            config.rotary_dim, config.head_dim));
  }
}

}  // namespace

void read_rope(const JsonObject& object, ModelConfig& config) {
  const std::int64_t max_position_embeddings =
      object.get_int("max_position_embeddings", 1, kMaxPositions);
  config.max_positions = max_position_embeddings;
  RopeConfig& rope = config.rope;
  rope.theta = find_positive(object, "rope_theta", 10000.0);
  read_rotary_dim(object, config);
  const char* key = object.has("rope_parameters") ? "rope_parameters" : "rope_scaling";
  const auto scaling = object.find_object(key);
  if (!scaling) return;
  rope.theta = find_positive(*scaling, "rope_theta", rope.theta);
  read_rotary_dim(*scaling, config);
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
    rope.scaling = RopeScaling::kDynamic;
    rope.factor = get_factor(*scaling);
    rope.original_max_positions = original;
    config.max_positions = scaled(original);
    note_fixed_scaling(object, type, original, config);
  } else if (type == "longrope" || type == "su") {
    parse_longrope(*scaling, max_position_embeddings, original, config);
    note_fixed_scaling(object, type, original, config);
  } else if (type != "default") {
    scaling->fail(type_key, fmt::format("expected default, linear, dynamic, llama3, yarn or "
                                        "longrope, found {}",
                                        describe_json(nlohmann::json(type))));
  }
}

}  // namespace llmrun
