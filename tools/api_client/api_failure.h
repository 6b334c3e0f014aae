// Why a request to an OpenAI-compatible server was not answered, in the words of reports and
// records.
#pragma once

#include <string>
#include <string_view>

#include "tools/http/http_client.h"

namespace llmrun {

struct ApiFailure {
  // "connect", "timeout", "disconnected", "protocol", "http_429", "bad_response", ...; empty: none.
  std::string name;
  std::string message;
  bool can_retry = false;    // it was not a fault of the request
  double retry_after_s = 0;  // the server's wish; 0: none
};

// Of an exchange that ended without a whole response. Only kNone is no failure.
ApiFailure failure_of(HttpFailure failure, const std::string& message);
// Of a response with a status other than 200. Lost connections, 408, 429 and 5xx may pass.
ApiFailure failure_of(const HttpClientResponseHead& head, std::string_view body);

// The message of an error body: OpenAI's {"error": {"message": ...}}, else its first bytes.
std::string error_message_of(std::string_view body);

}  // namespace llmrun
