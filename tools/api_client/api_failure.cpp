#include "tools/api_client/api_failure.h"

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "engine/core/json.h"
#include "engine/core/utf8.h"

namespace llmrun {
namespace {

constexpr std::size_t kMaxMessageBytes = 300;

const char* name_of(HttpFailure failure) {
  switch (failure) {
    case HttpFailure::kNone: return "";
    case HttpFailure::kConnect: return "connect";
    case HttpFailure::kTimeout: return "timeout";
    case HttpFailure::kDisconnected: return "disconnected";
    case HttpFailure::kProtocol: return "protocol";
  }
  return "";
}

bool may_pass(unsigned status) {
  return status == 408 || status == 429 || status >= 500;
}

// "error" of OpenAI and most others is an object; of some a text, of FastAPI "detail".
std::string message_in(const nlohmann::json& body) {
  if (!body.is_object()) return "";
  for (const char* key : {"error", "message", "detail"}) {
    const auto found = body.find(key);
    if (found == body.end() || found->is_null()) continue;
    if (found->is_string()) return found->get<std::string>();
    if (found->is_object() && found->contains("message") && (*found)["message"].is_string()) {
      return (*found)["message"].get<std::string>();
    }
    return dump_json(*found);
  }
  return "";
}

}  // namespace

ApiFailure failure_of(HttpFailure failure, const std::string& message) {
  return {.name = name_of(failure),
          .message = message,
          .can_retry = failure != HttpFailure::kNone,
          .retry_after_s = 0};
}

ApiFailure failure_of(const HttpClientResponseHead& head, std::string_view body) {
  return {.name = fmt::format("http_{}", head.status),
          .message = error_message_of(body),
          .can_retry = may_pass(head.status),
          .retry_after_s = head.retry_after_s};
}

std::string error_message_of(std::string_view body) {
  std::string problem;
  std::string message;
  if (const auto value = try_parse_json(body, kRequestJson, problem)) message = message_in(*value);
  if (message.empty()) message = std::string(body);
  if (message.size() > kMaxMessageBytes) {
    message.resize(kMaxMessageBytes);
    message.resize(message.size() - incomplete_utf8_tail(message));
  }
  return replace_invalid_utf8(message);
}

}  // namespace llmrun
