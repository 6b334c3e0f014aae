// The address of an HTTP server: "http://host:port/path".
#pragma once

#include <string>
#include <string_view>

namespace llmrun {

struct HttpUrl {
  std::string scheme;  // "http" or "https"
  std::string host;    // an IPv6 address without its brackets
  std::string port;    // digits; the scheme's own when the text names none
  std::string path;    // empty, or begins with '/' and does not end with one

  bool is_tls() const { return scheme == "https"; }
  // As the Host header has it: the port only where it is not the scheme's own.
  std::string authority() const;
  std::string text() const;  // scheme://authority/path
};

// Throws Error(kUsage) that names `flag` for anything else; a user name, a query or a fragment is
// refused.
HttpUrl parse_http_url(std::string_view text, const std::string& flag);

}  // namespace llmrun
