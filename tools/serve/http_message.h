// HTTP/1.1 requests and answers as the server's handlers see them, and what a request's head must
// look like to be taken at all.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace llmrun {

using HttpHeaders = std::vector<std::pair<std::string, std::string>>;

struct HttpRequest {
  std::string method;
  std::string path;     // of the target, without its query
  std::string client;   // its address and port
  HttpHeaders headers;  // names in lower case
  std::string body;

  // The header's value (`name` in lower case); null when there is none.
  const std::string* header(std::string_view name) const;
};

struct HttpResponse {
  int status = 200;
  std::string body{};
  std::string content_type = "application/json";
  HttpHeaders headers{};  // beside Content-Type, Content-Length and Connection
};

// Bounds of one request; what is over them is refused with 431 or 413.
struct HttpLimits {
  std::size_t max_line_bytes = 8 << 10;  // the request line, and each header
  std::size_t max_head_bytes = 32 << 10;
  std::size_t max_headers = 100;
  std::size_t max_body_bytes = 16 << 20;
};

struct HttpProblem {
  int status = 400;
  std::string message;
};

// What is wrong with a head (up to and with its empty line), or nothing. Stricter than parsers are:
// whatever two programs could read differently is refused (RFC 9112; request smuggling).
std::optional<HttpProblem> check_request_head(std::string_view head, const HttpLimits& limits);

// True when a line feed without its carriage return stands in `bytes`; `previous` is the byte
// before.
bool has_bare_line_feed(std::string_view bytes, char previous);

const char* reason_phrase(int status);

// The head of an answer with its empty line. `framing`: the Content-Length or Transfer-Encoding
// line without its end; empty: the body ends with the connection.
std::string response_head(const HttpResponse& response, std::string_view framing, bool keep_alive);

// An error in OpenAI's form: {"error": {"message", "type", "param", "code"}}.
HttpResponse error_response(int status, std::string_view message, std::string_view param = {});

}  // namespace llmrun
