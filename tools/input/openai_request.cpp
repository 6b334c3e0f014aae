#include <algorithm>
#include <span>
#include <stdexcept>
#include <string_view>
#include <utility>

#include <fmt/format.h>

#include "engine/core/json.h"
#include "tools/input/request_checks.h"

namespace llmrun {
namespace {

using Json = nlohmann::ordered_json;
using Result = std::optional<RequestError>;

// Do not change what is generated.
constexpr std::string_view kIgnoredFields[] = {"user",         "metadata",
                                               "store",        "stream_options",
                                               "service_tier", "parallel_tool_calls",
                                               "prediction",   "prompt_cache_key",
                                               "request_id",   "safety_identifier"};

// Change what is generated, in ways that are not supported.
constexpr std::string_view kUnsupportedFields[] = {"audio",
                                                   "chat_template",
                                                   "function_call",
                                                   "functions",
                                                   "guided_choice",
                                                   "guided_decoding",
                                                   "guided_grammar",
                                                   "guided_json",
                                                   "guided_regex",
                                                   "logits_processors",
                                                   "prompt_embeds",
                                                   "structured_outputs",
                                                   "truncate_prompt_tokens"};

bool is_one_of(std::span<const std::string_view> names, std::string_view name) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

// The error, with the field it is about.
RequestError about(const std::string& name, RequestError error) {
  if (error.param.empty()) error.param = name;
  return error;
}

RequestError unsupported(const std::string& name, const Json& value) {
  return {"unsupported", fmt::format("{}: {} is not supported", name, describe_json(value))};
}

// What both endpoints have in common.
Result parse_common_field(const std::string& name, const Json& value, const RequestRules& rules,
                          InputItem& item, IgnoredFields& ignored) {
  if (name == "model") return parse_model(value, rules, item);
  if (name == "return_token_ids") return parse_return_token_ids(value, item);
  if (name == "stream") {
    if (value == false) return std::nullopt;
    return RequestError{"unsupported", "a request of a batch must not be sent in stream mode"};
  }
  if (is_one_of(kIgnoredFields, name)) return std::nullopt;
  bool known = false;
  if (auto error = check_default_only(name, value, known); error || known) return error;
  if (auto error = set_sampling(name, value, item, known); error || known) return error;
  if (rules.refuse_unknown_fields) return unknown_field(name, suggest_field(name));
  return note_unknown(name, ignored);
}

}  // namespace

Result check_default_only(const std::string& name, const Json& value, bool& known) {
  known = true;
  if (name == "echo" || name == "continue_final_message" || name == "add_generation_prompt") {
    return value == (name == "add_generation_prompt") ? std::nullopt
                                                      : Result(unsupported(name, value));
  }
  if (name == "suffix") return value == "" ? std::nullopt : Result(unsupported(name, value));
  if (name == "tool_choice") {
    return value == "auto" || value == "none" ? std::nullopt : Result(unsupported(name, value));
  }
  if (name == "response_format") {
    const bool is_text = value.is_object() && value.value("type", Json()) == "text";
    return is_text ? std::nullopt : Result(unsupported(name, value));
  }
  if (name == "modalities") {
    return value == Json::array({"text"}) ? std::nullopt : Result(unsupported(name, value));
  }
  if (is_one_of(kUnsupportedFields, name)) return unsupported(name, value);
  known = false;
  return std::nullopt;
}

void drop_unused_tools(const Json& request, InputItem& item) {
  if (request.value("tool_choice", Json()) == "none") item.tools = Json();
}

Result parse_chat_logprobs(const Json& request, InputItem& item) {
  try {
    set_chat_logprobs(item.sampling, request.value("logprobs", Json()),
                      request.value("top_logprobs", Json()));
  } catch (const std::invalid_argument& error) {
    return RequestError{"bad_parameter", error.what(), "logprobs"};
  }
  return std::nullopt;
}

bool has_value(const Json& object, const char* key) {
  const auto it = object.find(key);
  return it != object.end() && !it->is_null();
}

Result parse_completion_body(const Json& body, const RequestRules& rules, InputItem& item,
                             IgnoredFields& ignored) {
  item.sampling = rules.defaults;
  if (!has_value(body, "prompt")) {
    return about("prompt", {"missing_prompt", "body: has no prompt"});
  }
  for (const auto& [name, value] : body.items()) {
    if (value.is_null()) continue;
    const Result error = name == "prompt" ? parse_prompt("prompt", value, rules, item)
                                          : parse_common_field(name, value, rules, item, ignored);
    if (error) return about(name, *error);
  }
  return check_sampling(rules, item);
}

Result parse_chat_body(const Json& body, const RequestRules& rules, InputItem& item,
                       IgnoredFields& ignored) {
  item.sampling = rules.defaults;
  if (!has_value(body, "messages")) {
    return about("messages", {"missing_prompt", "body: has no messages"});
  }
  for (const auto& [name, value] : body.items()) {
    if (value.is_null() || name == "logprobs" || name == "top_logprobs") continue;
    Result error;
    if (name == "messages") {
      error = parse_messages(value, rules, item);
    } else if (name == "tools") {
      error = parse_tools(value, item);
    } else if (name == "chat_template_kwargs") {
      error = parse_template_kwargs(value, item);
    } else {
      error = parse_common_field(name, value, rules, item, ignored);
    }
    if (error) return about(name, *error);
  }
  drop_unused_tools(body, item);
  if (auto error = parse_chat_logprobs(body, item)) return error;
  return check_sampling(rules, item);
}

Result parse_batch_row(const Json& row, const RequestRules& rules, InputItem& item,
                       IgnoredFields& ignored) {
  item.envelope = Envelope::kChatCompletions;
  if (!row.is_object()) {
    return RequestError{"invalid_json", "expected an object, found " + describe_json(row)};
  }
  if (auto error = parse_id(row, "custom_id", item)) return error;
  if (!item.has_id) return RequestError{"bad_id", "has no custom_id"};
  if (const Json method = row.value("method", Json("POST")); method != "POST") {
    return wrong_type("method", "\"POST\"", method);
  }
  const Json url = row.value("url", Json());
  const bool is_chat = url == "/v1/chat/completions";
  if (!is_chat && url != "/v1/completions") {
    return RequestError{
        "unsupported",
        "url: expected /v1/chat/completions or /v1/completions, found " + describe_json(url)};
  }
  item.envelope = is_chat ? Envelope::kChatCompletions : Envelope::kCompletions;
  const auto body = row.find("body");
  if (body == row.end() || !body->is_object()) {
    return RequestError{"missing_prompt", "body: expected an object"};
  }
  return is_chat ? parse_chat_body(*body, rules, item, ignored)
                 : parse_completion_body(*body, rules, item, ignored);
}

}  // namespace llmrun
