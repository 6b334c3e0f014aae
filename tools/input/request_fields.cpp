#include "tools/input/request_fields.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <stdexcept>
#include <utility>

#include <fmt/format.h>

#include "engine/core/json.h"
#include "tools/input/request_checks.h"

namespace llmrun {
namespace {

using Json = nlohmann::ordered_json;

constexpr std::array kKnownFields = {"allowed_token_ids",
                                     "bad_words",
                                     "best_of",
                                     "chat_template_kwargs",
                                     "custom_id",
                                     "detokenize",
                                     "early_stopping",
                                     "frequency_penalty",
                                     "ignore_eos",
                                     "include_stop_str_in_output",
                                     "length_penalty",
                                     "logit_bias",
                                     "logprobs",
                                     "max_completion_tokens",
                                     "max_tokens",
                                     "messages",
                                     "metadata",
                                     "min_tokens",
                                     "presence_penalty",
                                     "prompt",
                                     "prompt_logprobs",
                                     "prompt_token_ids",
                                     "repetition_penalty",
                                     "return_token_ids",
                                     "sampling_params",
                                     "seed",
                                     "skip_special_tokens",
                                     "stop",
                                     "stop_token_ids",
                                     "temperature",
                                     "tools",
                                     "top_logprobs",
                                     "top_p",
                                     "top_k",
                                     "min_p",
                                     "use_beam_search"};

// Other tools' names for the same thing.
constexpr std::array<std::pair<std::string_view, std::string_view>, 7> kOtherNames = {{
    {"max_new_tokens", "max_tokens"},
    {"max_gen_len", "max_tokens"},
    {"n_predict", "max_tokens"},
    {"num_return_sequences", "n"},
    {"num_beams", "use_beam_search"},
    {"stop_sequences", "stop"},
    {"stop_strings", "stop"},
}};

// Lower case, without the separators that naming styles differ in.
std::string normalised(std::string_view name) {
  std::string text;
  for (const char c : name) {
    if (c == '_' || c == '-' || c == ' ') continue;
    text += static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  }
  return text;
}

// Levenshtein's distance.
std::size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<std::size_t> row(b.size() + 1);
  for (std::size_t j = 0; j <= b.size(); ++j) row[j] = j;
  for (std::size_t i = 0; i < a.size(); ++i) {
    std::size_t diagonal = row[0];
    row[0] = i + 1;
    for (std::size_t j = 0; j < b.size(); ++j) {
      const std::size_t replaced = diagonal + (a[i] == b[j] ? 0 : 1);
      diagonal = row[j + 1];
      row[j + 1] = std::min({replaced, row[j] + 1, row[j + 1] + 1});
    }
  }
  return row[b.size()];
}

std::optional<RequestError> parse_prompt_ids(const Json& value, const char* field,
                                             const SamplingLimits& limits, InputItem& item) {
  if (!value.is_array()) return wrong_type(field, "an array of token ids", value);
  if (value.empty()) return RequestError{"empty_prompt", fmt::format("{} is empty", field)};
  item.kind = PromptKind::kTokenIds;
  item.prompt_token_ids.reserve(value.size());
  const std::int64_t end = limits.vocab_size > 0 ? limits.vocab_size : INT64_C(1) << 31;
  for (const Json& element : value) {
    const std::optional<std::int64_t> id = as_integer(element);
    if (!id || *id < 0 || *id >= end) {
      return RequestError{
          "bad_prompt", fmt::format("{}[{}]: expected a token id from 0 to {}, found {}", field,
                                    item.prompt_token_ids.size(), end - 1, describe_json(element))};
    }
    item.prompt_token_ids.push_back(static_cast<TokenId>(*id));
  }
  return std::nullopt;
}

// The values of one request that are not sampling parameters. Nothing happened when `known` is
// false on return.
std::optional<RequestError> parse_own_field(const std::string& name, const Json& value,
                                            const RequestRules& rules, InputItem& item,
                                            bool& known) {
  known = true;
  if (name == rules.prompt_field || name == "text") {
    return parse_prompt(name.c_str(), value, rules, item);
  }
  if (name == "id") return std::nullopt;  // taken first, so that errors can name it
  if (name == "prompt_token_ids") {
    return parse_prompt_ids(value, "prompt_token_ids", rules.limits, item);
  }
  if (name == "messages") return parse_messages(value, rules, item);
  if (name == "tools") return parse_tools(value, item);
  if (name == "chat_template_kwargs") return parse_template_kwargs(value, item);
  if (name == "metadata") {
    item.metadata = value;
    return std::nullopt;
  }
  if (name == "model") return parse_model(value, rules, item);
  if (name == "return_token_ids") return parse_return_token_ids(value, item);
  known = false;
  return std::nullopt;
}

std::optional<RequestError> parse_sampling_object(const Json& value, InputItem& item) {
  if (!value.is_object()) return wrong_type("sampling_params", "an object", value);
  for (const auto& [name, parameter] : value.items()) {
    bool known = false;
    if (auto error = set_sampling(name, parameter, item, known)) return error;
    if (!known) return unknown_field("sampling_params." + name, suggest_field(name));
  }
  return std::nullopt;
}

// A row with messages may have `logprobs` and `top_logprobs` as a chat's body has them, or a count
// as every row.
bool spells_logprobs_as_chat(const Json& row) {
  if (!has_value(row, "messages")) return false;
  return row.value("logprobs", Json()).is_boolean() || has_value(row, "top_logprobs");
}

// The row has exactly one of the fields that give a prompt.
std::optional<RequestError> check_one_prompt(const Json& row, const RequestRules& rules) {
  std::string found;
  int count = 0;
  const auto look_for = [&](const std::string& name) {
    if (!has_value(row, name.c_str())) return;
    found += (count++ == 0 ? "" : " and ") + name;
  };
  look_for(rules.prompt_field);
  if (rules.prompt_field != "text") look_for("text");
  look_for("messages");
  look_for("prompt_token_ids");
  if (count == 1) return std::nullopt;
  if (count > 1) return RequestError{"bad_prompt", "has " + found + "; give only one of them"};
  return RequestError{
      "missing_prompt",
      fmt::format("has no {}, messages or prompt_token_ids{}", rules.prompt_field,
                  row.empty() ? "; the object is empty"
                              : fmt::format("; its first field is {}, name the one with the prompt "
                                            "by --prompt-field",
                                            describe_json(row.begin().key())))};
}

}  // namespace

std::string_view suggest_field(std::string_view name) {
  for (const auto& [other, known] : kOtherNames) {
    if (name == other) return known;
  }
  const std::string given = normalised(name);
  std::string_view best;
  std::size_t best_distance = 3;
  // A quadratic comparison of a very long name would be an attack on us.
  if (given.size() < 3 || given.size() > 40) return best;
  for (const std::string_view known : kKnownFields) {
    const std::string wanted = normalised(known);
    const std::size_t distance = edit_distance(given, wanted);
    const std::size_t allowed = wanted.size() < 5 ? 0 : wanted.size() < 8 ? 1 : 2;
    if (distance <= allowed && distance < best_distance) {
      best = known;
      best_distance = distance;
    }
  }
  return best;
}

RequestError wrong_type(std::string_view field, std::string_view expected, const Json& found) {
  return {"bad_parameter",
          fmt::format("{}: expected {}, found {}", field, expected, describe_json(found))};
}

RequestError unknown_field(std::string_view name, std::string_view suggestion) {
  std::string message = fmt::format("unknown field {}", describe_json(std::string(name)));
  if (!suggestion.empty()) message += fmt::format("; did you mean {}?", suggestion);
  return {"unknown_field", std::move(message)};
}

std::optional<std::int64_t> as_integer(const Json& value) {
  if (value.is_number_unsigned()) {
    const auto number = value.get<std::uint64_t>();
    if (!std::in_range<std::int64_t>(number)) return std::nullopt;
    return static_cast<std::int64_t>(number);
  }
  if (value.is_number_integer()) return value.get<std::int64_t>();
  return std::nullopt;
}

std::optional<RequestError> set_sampling(const std::string& name, const Json& value,
                                         InputItem& item, bool& known) {
  try {
    known = set_parameter(item.sampling, name, nlohmann::json(value));
  } catch (const std::invalid_argument& error) {
    known = true;
    return RequestError{"bad_parameter", error.what()};
  }
  return std::nullopt;
}

std::optional<RequestError> check_sampling(const RequestRules& rules, const InputItem& item) {
  if (auto error = validate(item.sampling, rules.limits)) {
    std::string name = error->substr(0, error->find(' '));  // how these messages begin
    return RequestError{"bad_parameter", std::move(*error), std::move(name)};
  }
  return std::nullopt;
}

std::optional<RequestError> note_unknown(const std::string& name, IgnoredFields& ignored) {
  if (const std::string_view known = suggest_field(name); !known.empty()) {
    if (name == "custom_id") {
      return RequestError{"unknown_field",
                          "custom_id is of OpenAI batch files, and this input is none by its first "
                          "line or by --format; put such lines in a file of their own"};
    }
    if (known == name) {
      return RequestError{"unknown_field", name + " has no meaning in this request"};
    }
    return unknown_field(name, known);
  }
  ++ignored.count;
  std::vector<std::string>& names = ignored.names;
  if (names.size() < IgnoredFields::kMaxNames &&
      std::find(names.begin(), names.end(), name) == names.end()) {
    names.push_back(name);
  }
  return std::nullopt;
}

std::optional<RequestError> set_text_prompt(std::string text, const RequestRules& rules,
                                            InputItem& item) {
  if (text.empty()) return RequestError{"empty_prompt", "the prompt is empty"};
  if (rules.max_prompt_bytes > 0 && text.size() > rules.max_prompt_bytes) {
    return RequestError{"too_long",
                        fmt::format("the prompt has {} bytes; more than {} cannot fit the context",
                                    text.size(), rules.max_prompt_bytes)};
  }
  item.kind = PromptKind::kText;
  item.prompt = std::move(text);
  return std::nullopt;
}

std::optional<RequestError> parse_prompt(const char* field, const Json& value,
                                         const RequestRules& rules, InputItem& item) {
  if (value.is_string()) return set_text_prompt(value.get<std::string>(), rules, item);
  if (value.is_array() && !value.empty() && !value.front().is_number()) {
    return RequestError{"bad_prompt",
                        fmt::format("{}: a list of prompts; give each a line of its own", field)};
  }
  if (value.is_array()) return parse_prompt_ids(value, field, rules.limits, item);
  return wrong_type(field, "a string or an array of token ids", value);
}

std::optional<RequestError> parse_model(const Json& value, const RequestRules& rules,
                                        InputItem& item) {
  if (!value.is_string()) return wrong_type("model", "a string", value);
  item.model = value.get<std::string>();
  const auto& names = rules.model_names;
  if (names.empty() || std::find(names.begin(), names.end(), item.model) != names.end()) {
    return std::nullopt;
  }
  return RequestError{"model_not_found", fmt::format("model: expected {}, found {}", names.front(),
                                                     describe_json(item.model))};
}

std::optional<RequestError> parse_return_token_ids(const Json& value, InputItem& item) {
  if (!value.is_boolean()) return wrong_type("return_token_ids", "true or false", value);
  item.return_token_ids = value.get<bool>();
  return std::nullopt;
}

std::optional<RequestError> parse_id(const Json& row, const char* key, InputItem& item) {
  const auto it = row.find(key);
  if (it == row.end() || it->is_null()) return std::nullopt;
  const std::optional<std::int64_t> number = as_integer(*it);
  if (!number && !it->is_string()) {
    return RequestError{"bad_id", fmt::format("{}: expected a string or an integer, found {}", key,
                                              describe_json(*it))};
  }
  std::string id = number ? std::to_string(*number) : it->get<std::string>();
  constexpr std::size_t kMaxIdBytes = 1024;
  if (id.empty() || id.size() > kMaxIdBytes) {
    return RequestError{
        "bad_id", fmt::format("{}: expected 1 to {} bytes, found {}", key, kMaxIdBytes, id.size())};
  }
  item.id = std::move(id);
  item.has_id = true;
  item.id_is_integer = number.has_value();
  return std::nullopt;
}

std::optional<RequestError> parse_request(const Json& row, const RequestRules& rules,
                                          InputItem& item, IgnoredFields& ignored) {
  if (!row.is_object()) {
    return RequestError{"invalid_json", "expected an object, found " + describe_json(row)};
  }
  if (auto error = parse_id(row, "id", item)) return error;
  item.sampling = rules.defaults;
  const bool has_chat_logprobs = spells_logprobs_as_chat(row);
  for (const auto& [name, value] : row.items()) {
    if (value.is_null()) continue;
    if (has_chat_logprobs && (name == "logprobs" || name == "top_logprobs")) continue;
    bool known = false;
    if (auto error = parse_own_field(name, value, rules, item, known)) return error;
    if (known) continue;
    if (name == "sampling_params") {
      if (auto error = parse_sampling_object(value, item)) return error;
      continue;
    }
    if (auto error = set_sampling(name, value, item, known)) return error;
    if (known) continue;
    if (auto error = check_default_only(name, value, known)) return error;
    if (known) continue;
    if (auto error = note_unknown(name, ignored)) return error;
  }
  if (auto error = check_one_prompt(row, rules)) return error;
  drop_unused_tools(row, item);
  if (has_chat_logprobs) {
    if (auto error = parse_chat_logprobs(row, item)) return error;
  }
  return check_sampling(rules, item);
}

}  // namespace llmrun
