#include "tools/serve/http_message.h"

#include <algorithm>
#include <cctype>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "engine/core/json.h"

namespace llmrun {
namespace {

using Problem = std::optional<HttpProblem>;

bool equal_ignoring_case(std::string_view a, std::string_view b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(), [](unsigned char x, unsigned char y) {
    return std::tolower(x) == std::tolower(y);
  });
}

// RFC 9110, section 5.6.2.
bool is_token(std::string_view text) {
  constexpr std::string_view kMarks = "!#$%&'*+-.^_`|~";
  return !text.empty() && std::all_of(text.begin(), text.end(), [&](unsigned char c) {
    return std::isalnum(c) != 0 || kMarks.find(static_cast<char>(c)) != kMarks.npos;
  });
}

std::string_view trimmed(std::string_view text) {
  const auto begin = text.find_first_not_of(" \t");
  if (begin == text.npos) return {};
  return text.substr(begin, text.find_last_not_of(" \t") - begin + 1);
}

Problem check_request_line(std::string_view line) {
  const auto first = line.find(' ');
  const auto last = line.rfind(' ');
  if (first == line.npos || first == last) return HttpProblem{400, "malformed request line"};
  const std::string_view target = line.substr(first + 1, last - first - 1);
  const std::string_view version = line.substr(last + 1);
  if (!is_token(line.substr(0, first))) return HttpProblem{400, "malformed method"};
  if (target.empty() || target[0] != '/' || target.find(' ') != target.npos) {
    return HttpProblem{400, "the target must be a path"};
  }
  if (!version.starts_with("HTTP/")) return HttpProblem{400, "malformed request line"};
  if (version != "HTTP/1.1" && version != "HTTP/1.0") {
    return HttpProblem{505, "only HTTP/1.1 and HTTP/1.0 are spoken here"};
  }
  return std::nullopt;
}

struct HeadFields {
  int num_hosts = 0;
  int num_lengths = 0;
  int num_encodings = 0;
};

Problem check_field(std::string_view name, std::string_view value, HeadFields& fields) {
  if (equal_ignoring_case(name, "host")) {
    fields.num_hosts += 1;
  } else if (equal_ignoring_case(name, "content-length")) {
    fields.num_lengths += 1;
    const bool is_number =
        !value.empty() && value.size() <= 18 && value.find_first_not_of("0123456789") == value.npos;
    if (!is_number) return HttpProblem{400, "malformed Content-Length"};
  } else if (equal_ignoring_case(name, "transfer-encoding")) {
    fields.num_encodings += 1;
    if (!equal_ignoring_case(value, "chunked")) {
      return HttpProblem{501, "the only transfer encoding taken is chunked"};
    }
  } else if (equal_ignoring_case(name, "content-encoding")) {
    if (!equal_ignoring_case(value, "identity")) {
      return HttpProblem{415, "compressed bodies are not taken"};
    }
  }
  return std::nullopt;
}

Problem check_header_line(std::string_view line, HeadFields& fields) {
  if (line[0] == ' ' || line[0] == '\t') return HttpProblem{400, "folded header"};
  const auto colon = line.find(':');
  if (colon == line.npos || !is_token(line.substr(0, colon))) {
    return HttpProblem{400, "malformed header name"};
  }
  return check_field(line.substr(0, colon), trimmed(line.substr(colon + 1)), fields);
}

bool has_control_character(std::string_view line) {
  return std::any_of(line.begin(), line.end(), [](char c) {
    const auto byte = static_cast<unsigned char>(c);
    return (byte < 0x20 && c != '\t') || byte == 0x7f;
  });
}

}  // namespace

const std::string* HttpRequest::header(std::string_view name) const {
  for (const auto& [key, value] : headers) {
    if (key == name) return &value;
  }
  return nullptr;
}

bool has_bare_line_feed(std::string_view bytes, char previous) {
  for (const char c : bytes) {
    if (c == '\n' && previous != '\r') return true;
    previous = c;
  }
  return false;
}

Problem check_request_head(std::string_view head, const HttpLimits& limits) {
  HeadFields fields;
  std::size_t num_lines = 0;
  std::string_view request_line;
  for (std::size_t begin = 0; begin < head.size();) {
    const std::size_t end = head.find("\r\n", begin);
    if (end == head.npos) return HttpProblem{400, "malformed head"};
    const std::string_view line = head.substr(begin, end - begin);
    begin = end + 2;
    if (line.empty()) break;
    if (line.size() > limits.max_line_bytes) return HttpProblem{431, "a header is too long"};
    if (has_control_character(line)) return HttpProblem{400, "control character in the head"};
    if (num_lines++ == 0) {
      request_line = line;
      if (Problem problem = check_request_line(line)) return problem;
    } else if (Problem problem = check_header_line(line, fields)) {
      return problem;
    }
    if (num_lines > limits.max_headers + 1) return HttpProblem{431, "too many headers"};
  }
  if (num_lines == 0) return HttpProblem{400, "malformed request line"};
  if (fields.num_lengths > 1 || fields.num_encodings > 1 ||
      (fields.num_lengths > 0 && fields.num_encodings > 0)) {
    return HttpProblem{400, "the body's length is given twice"};
  }
  const bool needs_host = request_line.ends_with("HTTP/1.1");
  if (fields.num_hosts > 1 || (needs_host && fields.num_hosts == 0)) {
    return HttpProblem{400, "exactly one Host header is needed"};
  }
  if (!needs_host && fields.num_encodings > 0) {
    return HttpProblem{400, "HTTP/1.0 has no transfer encodings"};
  }
  return std::nullopt;
}

const char* reason_phrase(int status) {
  switch (status) {
    case 200: return "OK";
    case 204: return "No Content";
    case 400: return "Bad Request";
    case 401: return "Unauthorized";
    case 403: return "Forbidden";
    case 404: return "Not Found";
    case 405: return "Method Not Allowed";
    case 408: return "Request Timeout";
    case 413: return "Content Too Large";
    case 415: return "Unsupported Media Type";
    case 421: return "Misdirected Request";
    case 429: return "Too Many Requests";
    case 431: return "Request Header Fields Too Large";
    case 500: return "Internal Server Error";
    case 501: return "Not Implemented";
    case 503: return "Service Unavailable";
    case 504: return "Gateway Timeout";
    case 505: return "HTTP Version Not Supported";
    default: return "Unknown";
  }
}

std::string response_head(const HttpResponse& response, std::string_view framing, bool keep_alive) {
  std::string head = fmt::format("HTTP/1.1 {} {}\r\nServer: llmrun\r\n", response.status,
                                 reason_phrase(response.status));
  if (response.status != 204) head += fmt::format("Content-Type: {}\r\n", response.content_type);
  if (!framing.empty()) head += fmt::format("{}\r\n", framing);
  for (const auto& [name, value] : response.headers) head += fmt::format("{}: {}\r\n", name, value);
  head += keep_alive ? "Connection: keep-alive\r\n\r\n" : "Connection: close\r\n\r\n";
  return head;
}

HttpResponse error_response(int status, std::string_view message, std::string_view param) {
  const char* type = "invalid_request_error";
  if (status == 401) type = "authentication_error";
  if (status == 403) type = "permission_error";
  if (status == 404) type = "not_found_error";
  if (status == 429) type = "rate_limit_error";
  if (status >= 500) type = "server_error";
  nlohmann::ordered_json error = {{"message", message}, {"type", type}};
  error["param"] = param.empty() ? nlohmann::ordered_json(nullptr) : nlohmann::ordered_json(param);
  error["code"] = status;
  return {.status = status, .body = dump_json(nlohmann::ordered_json{{"error", error}})};
}

}  // namespace llmrun
