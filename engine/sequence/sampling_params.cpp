#include "engine/sequence/sampling_params.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <cstddef>
#include <limits>
#include <stdexcept>
#include <string_view>

#include <fmt/format.h>

#include "engine/core/json.h"

namespace llmrun {
namespace {

// A JSON value that knows which parameter it is for.
class Value {
 public:
  Value(std::string_view name, const nlohmann::json& json) : name_(name), json_(json) {}

  // An integer token between min and max; never a float, a string or a number that wraps.
  template <typename Integer>
  Integer integer(Integer min, Integer max = std::numeric_limits<Integer>::max()) const {
    const auto in_range = [&](auto number) {
      return std::cmp_less_equal(min, number) && std::cmp_less_equal(number, max);
    };
    const bool fits = json_.is_number_unsigned()
                          ? in_range(json_.get<std::uint64_t>())
                          : json_.is_number_integer() && in_range(json_.get<std::int64_t>());
    if (!fits) fail(fmt::format("an integer from {} to {}", min, max));
    return json_.get<Integer>();
  }
  std::int32_t count(std::int32_t min = 0) const { return integer<std::int32_t>(min); }

  double number() const {
    if (!json_.is_number() || !std::isfinite(json_.get<double>())) fail("a finite number");
    return json_.get<double>();
  }

  bool boolean() const {
    if (!json_.is_boolean()) fail("true or false");
    return json_.get<bool>();
  }

  std::string string() const {
    if (!json_.is_string()) fail("a string");
    return json_.get<std::string>();
  }

  // One string, or a list of them.
  std::vector<std::string> strings() const {
    if (json_.is_string()) return {string()};
    if (!json_.is_array()) fail("a string or a list of strings");
    std::vector<std::string> result;
    for (std::size_t i = 0; i < json_.size(); ++i) result.push_back(element(i).string());
    return result;
  }

  std::vector<TokenId> token_ids() const {
    if (!json_.is_array()) fail("a list of token ids");
    std::vector<TokenId> result;
    for (std::size_t i = 0; i < json_.size(); ++i) result.push_back(element(i).count());
    return result;
  }

  // {"id": bias, ...} as OpenAI has it, or [[id, bias], ...]. Sorted by id.
  std::vector<std::pair<TokenId, float>> biases() const {
    std::vector<std::pair<TokenId, float>> result;
    if (json_.is_object()) {
      for (const auto& [key, bias] : json_.items()) {
        result.emplace_back(token_id_key(key), Value(name_, bias).bias());
      }
    } else if (json_.is_array()) {
      for (std::size_t i = 0; i < json_.size(); ++i) {
        if (!json_[i].is_array() || json_[i].size() != 2) element(i).fail("a pair [id, bias]");
        const Value pair = element(i);
        result.emplace_back(pair.element(0).count(), pair.element(1).bias());
      }
    } else {
      fail("an object {\"token id\": bias} or a list of pairs [id, bias]");
    }
    std::sort(result.begin(), result.end());
    for (std::size_t i = 1; i < result.size(); ++i) {
      if (result[i - 1].first == result[i].first) {
        throw std::invalid_argument(
            fmt::format("{}: token {} has two biases", name_, result[i].first));
      }
    }
    return result;
  }

 private:
  [[noreturn]] void fail(std::string_view expected) const {
    throw std::invalid_argument(
        fmt::format("{}: expected {}, found {}", name_, expected, describe_json(json_)));
  }

  Value element(std::size_t index) const { return {name_, json_[index]}; }

  // What is beyond the range is taken as its end, as vLLM takes it.
  float bias() const {
    constexpr double kMaxLogitBias = 100;
    const double value = number();
    return static_cast<float>(std::clamp(value, -kMaxLogitBias, kMaxLogitBias));
  }

  TokenId token_id_key(const std::string& key) const {
    TokenId id = -1;
    const auto [end, error] = std::from_chars(key.data(), key.data() + key.size(), id);
    // Compared with how the id is written, so that "+1", "01" and "1 " are no ids.
    if (error != std::errc() || id < 0 || key != fmt::format("{}", id)) {
      throw std::invalid_argument(fmt::format("{}: expected a token id as the key, found {}", name_,
                                              describe_json(nlohmann::json(key))));
    }
    return id;
  }

  std::string_view name_;
  const nlohmann::json& json_;
};

struct Parameter {
  std::string_view name;
  void (*set)(SamplingParams& params, const Value& value);
};

// In the order of the struct, which is the order of to_json.
constexpr auto kParameters = std::to_array<Parameter>({
    {"n", [](SamplingParams& p, const Value& v) { p.n = v.count(1); }},
    {"best_of", [](SamplingParams& p, const Value& v) { p.best_of = v.count(1); }},
    {"temperature", [](SamplingParams& p, const Value& v) { p.temperature = v.number(); }},
    {"top_p", [](SamplingParams& p, const Value& v) { p.top_p = v.number(); }},
    {"top_k", [](SamplingParams& p, const Value& v) { p.top_k = v.count(-1); }},
    {"min_p", [](SamplingParams& p, const Value& v) { p.min_p = v.number(); }},
    {"presence_penalty",
     [](SamplingParams& p, const Value& v) { p.presence_penalty = v.number(); }},
    {"frequency_penalty",
     [](SamplingParams& p, const Value& v) { p.frequency_penalty = v.number(); }},
    {"repetition_penalty",
     [](SamplingParams& p, const Value& v) { p.repetition_penalty = v.number(); }},
    {"seed", [](SamplingParams& p, const Value& v) { p.seed = v.integer<std::uint64_t>(0); }},
    {"max_tokens", [](SamplingParams& p, const Value& v) { p.max_tokens = v.count(1); }},
    {"max_completion_tokens", [](SamplingParams& p, const Value& v) { p.max_tokens = v.count(1); }},
    {"min_tokens", [](SamplingParams& p, const Value& v) { p.min_tokens = v.count(); }},
    {"ignore_eos", [](SamplingParams& p, const Value& v) { p.ignore_eos = v.boolean(); }},
    {"stop", [](SamplingParams& p, const Value& v) { p.stop = v.strings(); }},
    {"stop_token_ids", [](SamplingParams& p, const Value& v) { p.stop_token_ids = v.token_ids(); }},
    {"include_stop_str_in_output",
     [](SamplingParams& p, const Value& v) { p.include_stop_str_in_output = v.boolean(); }},
    {"logit_bias", [](SamplingParams& p, const Value& v) { p.logit_bias = v.biases(); }},
    {"allowed_token_ids",
     [](SamplingParams& p, const Value& v) { p.allowed_token_ids = v.token_ids(); }},
    {"bad_words", [](SamplingParams& p, const Value& v) { p.bad_words = v.strings(); }},
    {"logprobs", [](SamplingParams& p, const Value& v) { p.logprobs = v.count(kAllLogprobs); }},
    {"prompt_logprobs",
     [](SamplingParams& p, const Value& v) { p.prompt_logprobs = v.count(kAllLogprobs); }},
    {"skip_special_tokens",
     [](SamplingParams& p, const Value& v) { p.skip_special_tokens = v.boolean(); }},
    {"detokenize", [](SamplingParams& p, const Value& v) { p.detokenize = v.boolean(); }},
    {"use_beam_search", [](SamplingParams& p, const Value& v) { p.use_beam_search = v.boolean(); }},
    {"length_penalty", [](SamplingParams& p, const Value& v) { p.length_penalty = v.number(); }},
    {"early_stopping", [](SamplingParams& p, const Value& v) { p.early_stopping = v.boolean(); }},
});

}  // namespace

bool set_parameter(SamplingParams& params, const std::string& name, const nlohmann::json& value) {
  const auto parameter = std::find_if(kParameters.begin(), kParameters.end(),
                                      [&](const Parameter& p) { return p.name == name; });
  if (parameter == kParameters.end()) return false;
  if (value.is_null()) return true;
  // vLLM refuses this too: empty would mean "all" here, and no caller means that.
  if (name == "allowed_token_ids" && value.is_array() && value.empty()) {
    throw std::invalid_argument("allowed_token_ids: expected at least one token id, found none");
  }
  parameter->set(params, Value(name, value));
  return true;
}

void set_chat_logprobs(SamplingParams& params, const nlohmann::json& logprobs,
                       const nlohmann::json& top_logprobs) {
  constexpr std::int32_t kMaxTopLogprobs = 20;
  const bool wanted = !logprobs.is_null() && Value("logprobs", logprobs).boolean();
  if (wanted) params.logprobs = 0;
  if (!wanted && !logprobs.is_null()) params.logprobs.reset();
  if (top_logprobs.is_null()) return;
  const auto count = Value("top_logprobs", top_logprobs).integer<std::int32_t>(0, kMaxTopLogprobs);
  if (!wanted && count > 0) {
    throw std::invalid_argument("top_logprobs: needs \"logprobs\": true");
  }
  if (wanted) params.logprobs = count;
}

nlohmann::ordered_json to_json(const SamplingParams& params) {
  const SamplingParams defaults;
  nlohmann::ordered_json json = nlohmann::ordered_json::object();
  const auto add = [&](const char* name, auto SamplingParams::*field) {
    if (params.*field != defaults.*field) json[name] = params.*field;
  };
  const auto add_optional = [&](const char* name, auto SamplingParams::*field) {
    if ((params.*field).has_value()) json[name] = *(params.*field);
  };
  add("n", &SamplingParams::n);
  add_optional("best_of", &SamplingParams::best_of);
  add("temperature", &SamplingParams::temperature);
  add("top_p", &SamplingParams::top_p);
  add("top_k", &SamplingParams::top_k);
  add("min_p", &SamplingParams::min_p);
  add("presence_penalty", &SamplingParams::presence_penalty);
  add("frequency_penalty", &SamplingParams::frequency_penalty);
  add("repetition_penalty", &SamplingParams::repetition_penalty);
  add_optional("seed", &SamplingParams::seed);
  add_optional("max_tokens", &SamplingParams::max_tokens);
  add("min_tokens", &SamplingParams::min_tokens);
  add("ignore_eos", &SamplingParams::ignore_eos);
  add("stop", &SamplingParams::stop);
  add("stop_token_ids", &SamplingParams::stop_token_ids);
  add("include_stop_str_in_output", &SamplingParams::include_stop_str_in_output);
  for (const auto& [id, bias] : params.logit_bias) {
    // The shortest decimal of the float, not the double that happens to equal it.
    json["logit_bias"][fmt::format("{}", id)] = std::stod(fmt::format("{}", bias));
  }
  add("allowed_token_ids", &SamplingParams::allowed_token_ids);
  add("bad_words", &SamplingParams::bad_words);
  add_optional("logprobs", &SamplingParams::logprobs);
  add_optional("prompt_logprobs", &SamplingParams::prompt_logprobs);
  add("skip_special_tokens", &SamplingParams::skip_special_tokens);
  add("detokenize", &SamplingParams::detokenize);
  add("use_beam_search", &SamplingParams::use_beam_search);
  add("length_penalty", &SamplingParams::length_penalty);
  add("early_stopping", &SamplingParams::early_stopping);
  return json;
}

}  // namespace llmrun
