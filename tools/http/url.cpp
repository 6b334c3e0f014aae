#include "tools/http/url.h"

#include <algorithm>

#include <fmt/format.h>

#include "engine/core/error.h"

namespace llmrun {
namespace {

std::string_view default_port(std::string_view scheme) {
  return scheme == "https" ? "443" : "80";
}

bool is_port(std::string_view text) {
  if (text.empty() || text.size() > 5) return false;
  if (!std::all_of(text.begin(), text.end(), [](char c) { return c >= '0' && c <= '9'; })) {
    return false;
  }
  const int port = std::stoi(std::string(text));
  return port >= 1 && port <= 65535;
}

bool is_host_character(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
         c == '.' || c == '_' || c == ':';
}

bool is_path_character(char c) {
  return c > ' ' && c < 0x7f;
}

}  // namespace

std::string HttpUrl::authority() const {
  const std::string name = host.find(':') == std::string::npos ? host : "[" + host + "]";
  return port == default_port(scheme) ? name : name + ":" + port;
}

std::string HttpUrl::text() const {
  return scheme + "://" + authority() + path;
}

HttpUrl parse_http_url(std::string_view text, const std::string& flag) {
  const auto fail = [&](const std::string& what) {
    throw Error(ErrorKind::kUsage,
                fmt::format("{}: '{}': {}; expected http://HOST[:PORT][/PATH] or https://...", flag,
                            text, what));
  };
  HttpUrl url;
  const std::size_t scheme_end = text.find("://");
  if (scheme_end == std::string_view::npos) fail("no scheme");
  url.scheme = std::string(text.substr(0, scheme_end));
  if (url.scheme != "http" && url.scheme != "https") fail("the scheme is neither http nor https");
  std::string_view rest = text.substr(scheme_end + 3);
  if (rest.find_first_of("?#@") != std::string_view::npos) {
    fail("a user name, a query or a fragment has no place in it");
  }

  const std::size_t path_start = std::min(rest.find('/'), rest.size());
  std::string_view path = rest.substr(path_start);
  while (path.ends_with('/')) path.remove_suffix(1);
  if (!std::all_of(path.begin(), path.end(), is_path_character)) fail("bad character in the path");
  url.path = std::string(path);

  std::string_view authority = rest.substr(0, path_start);
  std::string_view port = default_port(url.scheme);
  if (authority.starts_with('[')) {
    const std::size_t end = authority.find(']');
    if (end == std::string_view::npos) fail("'[' without ']'");
    url.host = std::string(authority.substr(1, end - 1));
    authority.remove_prefix(end + 1);
    if (!authority.empty() && !authority.starts_with(':')) fail("bad port");
    if (!authority.empty()) port = authority.substr(1);
  } else {
    const std::size_t colon = std::min(authority.find(':'), authority.size());
    url.host = std::string(authority.substr(0, colon));
    if (colon < authority.size()) port = authority.substr(colon + 1);
  }
  if (url.host.empty()) fail("no host");
  if (!std::all_of(url.host.begin(), url.host.end(), is_host_character)) fail("bad host name");
  if (!is_port(port)) fail("bad port");
  url.port = std::string(port);
  return url;
}

}  // namespace llmrun
