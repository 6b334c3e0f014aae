#include <cstddef>
#include <utility>

#include <fmt/format.h>

#include "engine/core/json.h"
#include "tools/input/request_checks.h"

namespace llmrun {
namespace {

using Json = nlohmann::ordered_json;

constexpr std::size_t kMaxMessages = 4096;

std::optional<RequestError> join_parts(const Json& parts, const std::string& place,
                                       std::string& text) {
  bool first = true;
  for (const Json& part : parts) {
    if (!part.is_object()) return wrong_type(place, "parts that are objects", part);
    const auto type = part.find("type");
    const auto part_text = part.find("text");
    if (type == part.end() || *type != "text") {
      return RequestError{"unsupported",
                          fmt::format("{}: only parts of type \"text\" are supported, found {}",
                                      place, type == part.end() ? "none" : describe_json(*type))};
    }
    if (part_text == part.end() || !part_text->is_string()) {
      return RequestError{"bad_parameter", place + ": a part of type \"text\" has no text"};
    }
    if (!first) text += '\n';
    first = false;
    text += part_text->get_ref<const std::string&>();
  }
  return std::nullopt;
}

// `message` with its content as one text. Adds the content's size to `num_bytes`.
std::optional<RequestError> parse_message(const Json& message, std::size_t index, Json& out,
                                          std::size_t& num_bytes) {
  const std::string place = fmt::format("messages[{}]", index);
  if (!message.is_object()) return wrong_type(place, "an object", message);
  const auto role = message.find("role");
  if (role == message.end() || !role->is_string() || role->get_ref<const std::string&>().empty()) {
    return RequestError{"bad_parameter", place + ": expected a role"};
  }
  out = message;
  const auto content = message.find("content");
  if (content == message.end() || content->is_null()) {
    if (message.contains("tool_calls")) return std::nullopt;
    return RequestError{"bad_parameter", place + ": has no content"};
  }
  if (content->is_array()) {
    std::string text;
    if (auto error = join_parts(*content, place + ".content", text)) return error;
    out["content"] = std::move(text);
  } else if (!content->is_string()) {
    return wrong_type(place + ".content", "a string or an array of parts", *content);
  }
  num_bytes += out["content"].get_ref<const std::string&>().size();
  return std::nullopt;
}

}  // namespace

std::optional<RequestError> parse_messages(const Json& value, const RequestRules& rules,
                                           InputItem& item) {
  if (!value.is_array()) return wrong_type("messages", "an array", value);
  if (value.empty()) return RequestError{"empty_prompt", "messages is empty"};
  if (value.size() > kMaxMessages) {
    return RequestError{"bad_parameter", fmt::format("messages: at most {} are taken, found {}",
                                                     kMaxMessages, value.size())};
  }
  item.kind = PromptKind::kMessages;
  item.messages = Json::array();
  std::size_t num_bytes = 0;
  for (const Json& message : value) {
    Json parsed;
    if (auto error = parse_message(message, item.messages.size(), parsed, num_bytes)) return error;
    item.messages.push_back(std::move(parsed));
  }
  if (rules.max_prompt_bytes > 0 && num_bytes > rules.max_prompt_bytes) {
    return RequestError{
        "too_long", fmt::format("the messages have {} bytes; more than {} cannot fit the context",
                                num_bytes, rules.max_prompt_bytes)};
  }
  return std::nullopt;
}

std::optional<RequestError> parse_tools(const Json& value, InputItem& item) {
  if (!value.is_array()) return wrong_type("tools", "an array", value);
  for (const Json& tool : value) {
    if (!tool.is_object()) return wrong_type("tools", "an array of objects", tool);
  }
  if (!value.empty()) item.tools = value;
  return std::nullopt;
}

std::optional<RequestError> parse_template_kwargs(const Json& value, InputItem& item) {
  if (!value.is_object()) return wrong_type("chat_template_kwargs", "an object", value);
  for (const auto& [name, scalar] : value.items()) {
    if (!scalar.is_structured()) continue;
    return wrong_type("chat_template_kwargs." + name, "a string, number or boolean", scalar);
  }
  item.chat_template_kwargs = value;
  return std::nullopt;
}

}  // namespace llmrun
