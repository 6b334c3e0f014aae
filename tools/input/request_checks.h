// Pieces that the readers of request fields share. Each returns why the request is refused, or
// nothing.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include <nlohmann/json.hpp>

#include "tools/input/input_item.h"
#include "tools/input/request_fields.h"

namespace llmrun {

RequestError wrong_type(std::string_view field, std::string_view expected,
                        const nlohmann::ordered_json& found);
RequestError unknown_field(std::string_view name, std::string_view suggestion);

// An integer token that fits; nothing for 1.0, true, "1" and 2^63.
std::optional<std::int64_t> as_integer(const nlohmann::ordered_json& value);

// Sets the sampling parameter `name`; `known` says whether there is one.
std::optional<RequestError> set_sampling(const std::string& name,
                                         const nlohmann::ordered_json& value, InputItem& item,
                                         bool& known);
std::optional<RequestError> check_sampling(const RequestRules& rules, const InputItem& item);

// Whether the field is there and is not null.
bool has_value(const nlohmann::ordered_json& object, const char* key);

// Refuses what OpenAI's and vLLM's servers would do and this engine cannot: `known` says whether
// `name` is such a field, whose default alone is taken.
std::optional<RequestError> check_default_only(const std::string& name,
                                               const nlohmann::ordered_json& value, bool& known);

// Refuses what looks misspelt, counts the rest.
std::optional<RequestError> note_unknown(const std::string& name, IgnoredFields& ignored);

// A text, or an array of token ids.
std::optional<RequestError> parse_prompt(const char* field, const nlohmann::ordered_json& value,
                                         const RequestRules& rules, InputItem& item);

// Chat messages. Content in parts becomes one text, as vLLM joins them; other media are refused.
std::optional<RequestError> parse_messages(const nlohmann::ordered_json& value,
                                           const RequestRules& rules, InputItem& item);
std::optional<RequestError> parse_tools(const nlohmann::ordered_json& value, InputItem& item);
// What a chat template may be told: names with scalar values.
std::optional<RequestError> parse_template_kwargs(const nlohmann::ordered_json& value,
                                                  InputItem& item);
// Takes tools back that tool_choice does not want used.
void drop_unused_tools(const nlohmann::ordered_json& request, InputItem& item);
// A chat's `logprobs` (true or false) and `top_logprobs`.
std::optional<RequestError> parse_chat_logprobs(const nlohmann::ordered_json& request,
                                                InputItem& item);
std::optional<RequestError> parse_model(const nlohmann::ordered_json& value,
                                        const RequestRules& rules, InputItem& item);
std::optional<RequestError> parse_return_token_ids(const nlohmann::ordered_json& value,
                                                   InputItem& item);

}  // namespace llmrun
