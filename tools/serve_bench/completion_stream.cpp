#include "tools/serve_bench/completion_stream.h"

#include <nlohmann/json.hpp>

#include "engine/core/json.h"

namespace llmrun {
namespace {

constexpr std::size_t kMaxMessageBytes = 300;

const nlohmann::json* find(const nlohmann::json& object, const char* key) {
  if (!object.is_object()) return nullptr;
  const auto found = object.find(key);
  return found == object.end() || found->is_null() ? nullptr : &*found;
}

std::int64_t count_of(const nlohmann::json& usage, const char* key) {
  const nlohmann::json* value = find(usage, key);
  return value != nullptr && value->is_number_integer() ? value->get<std::int64_t>() : -1;
}

std::string string_of(const nlohmann::json* value) {
  return value != nullptr && value->is_string() ? value->get<std::string>() : "";
}

std::string message_of(const nlohmann::json& error) {
  const nlohmann::json* message = find(error, "message");
  return (message != nullptr && message->is_string() ? string_of(message) : dump_json(error))
      .substr(0, kMaxMessageBytes);
}

}  // namespace

CompletionStream::Pieces CompletionStream::feed(std::string_view bytes) {
  Pieces pieces;
  const bool in_bounds =
      parser_.feed(bytes, [&](std::string_view data) { take_event(data, pieces); });
  if (!in_bounds && error_.empty()) error_ = "an event is longer than 1 MiB";
  return pieces;
}

void CompletionStream::take_event(std::string_view data, Pieces& pieces) {
  if (is_done_ || !error_.empty()) return;
  if (data == "[DONE]") {
    is_done_ = true;
    return;
  }
  std::string problem;
  const auto event = try_parse_json(data, kRequestJson, problem);
  if (!event || !event->is_object()) {
    error_ = "an event is not a JSON object: " + problem;
    return;
  }
  if (const nlohmann::json* error = find(*event, "error")) {
    error_ = message_of(*error);
    if (error_.empty()) error_ = "error";
    return;
  }
  if (const nlohmann::json* usage = find(*event, "usage")) {
    num_prompt_tokens_ = count_of(*usage, "prompt_tokens");
    num_output_tokens_ = count_of(*usage, "completion_tokens");
  }
  const nlohmann::json* choices = find(*event, "choices");
  if (choices == nullptr || !choices->is_array() || choices->empty()) return;
  const nlohmann::json& choice = choices->front();
  const nlohmann::json* delta = find(choice, "delta");
  const nlohmann::json* token_ids = find(choice, "token_ids");
  std::string text = string_of(find(choice, "text"));
  if (delta != nullptr) {
    text = string_of(find(*delta, "content"));
    if (text.empty()) text = string_of(find(*delta, "reasoning_content"));
  }
  const std::size_t num_ids = token_ids != nullptr && token_ids->is_array() ? token_ids->size() : 0;
  // A token may have no text yet (a part of a character, a special token); the first event of a
  // chat and the last of some servers have none because there is no token.
  const bool has_role = delta != nullptr && find(*delta, "role") != nullptr;
  const bool is_end = find(choice, "finish_reason") != nullptr;
  if (text.empty() && num_ids == 0 && (has_role || is_end)) return;
  ++pieces.num_pieces;
  pieces.num_tokens += static_cast<std::int32_t>(num_ids);
  if (keep_text_) text_ += text;
}

}  // namespace llmrun
