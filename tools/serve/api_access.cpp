#include "tools/serve/api_access.h"

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>
#include <string_view>

namespace llmrun {
namespace {

bool contains(const std::vector<std::string>& list, std::string_view value) {
  return std::find(list.begin(), list.end(), value) != list.end();
}

std::string_view without_port(std::string_view host) {
  const auto bracket = host.rfind(']');
  const auto colon = host.rfind(':');
  if (colon == host.npos || (bracket != host.npos && colon < bracket)) return host;
  return host.substr(0, colon);
}

// The bytes of base64 text; what is not base64 ends it.
std::string decode_base64(std::string_view text) {
  constexpr std::string_view kDigits =
      "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string bytes;
  std::uint32_t bits = 0;
  int num_bits = 0;
  for (const char c : text) {
    const auto digit = kDigits.find(c);
    if (digit == kDigits.npos) break;
    bits = (bits << 6) | static_cast<std::uint32_t>(digit);
    num_bits += 6;
    if (num_bits < 8) continue;
    num_bits -= 8;
    bytes += static_cast<char>((bits >> num_bits) & 0xFF);
  }
  return bytes;
}

// The key in "Bearer KEY"; browsers send "Basic base64(user:KEY)" after asking for a password.
std::string presented_key(std::string_view authorization) {
  constexpr std::string_view kBearer = "Bearer ";
  constexpr std::string_view kBasic = "Basic ";
  if (authorization.starts_with(kBearer)) return std::string(authorization.substr(kBearer.size()));
  if (!authorization.starts_with(kBasic)) return {};
  const std::string pair = decode_base64(authorization.substr(kBasic.size()));
  const auto colon = pair.find(':');
  return colon == pair.npos ? std::string() : pair.substr(colon + 1);
}

}  // namespace

ApiAccess::ApiAccess(const Options& options) : options_(options) {
  for (const std::string& key : options.api_keys) key_digests_.push_back(sha256(key));
}

std::optional<HttpResponse> ApiAccess::refuse(const HttpRequest& request) const {
  if (!host_is_allowed(request)) {
    return error_response(403,
                          "this Host is not served here; --allowed-hosts lists those that are");
  }
  if (!origin_is_allowed(request)) {
    return error_response(
        403, "pages of this origin may not ask here; --allowed-origins lists those that may");
  }
  if (request.path == "/health" || request.method == "OPTIONS" || key_digests_.empty() ||
      known_key(request)) {
    return std::nullopt;
  }
  HttpResponse response = error_response(401, "no valid API key was given");
  response.headers.emplace_back("WWW-Authenticate",
                                request.path == "/" ? "Basic realm=\"llmrun\"" : "Bearer");
  return response;
}

HttpHeaders ApiAccess::cross_origin_headers(const HttpRequest& request) const {
  const std::string* origin = request.header("origin");
  if (origin == nullptr || !contains(options_.allowed_origins, *origin)) return {};
  return {{"Access-Control-Allow-Origin", *origin},
          {"Access-Control-Allow-Headers", "Authorization, Content-Type"},
          {"Access-Control-Allow-Methods", "GET, POST, OPTIONS"},
          {"Access-Control-Max-Age", "600"},
          {"Vary", "Origin"}};
}

// A page whose name was made to point at this machine would otherwise be of the same origin (DNS
// rebinding, CVE-2024-28224).
bool ApiAccess::host_is_allowed(const HttpRequest& request) const {
  const std::string* host = request.header("host");
  if (!options_.is_loopback || host == nullptr) return true;
  const std::string_view name = without_port(*host);
  constexpr std::array<std::string_view, 3> kOwnNames = {"localhost", "127.0.0.1", "[::1]"};
  return std::find(kOwnNames.begin(), kOwnNames.end(), name) != kOwnNames.end() ||
         contains(options_.allowed_hosts, name) || contains(options_.allowed_hosts, *host);
}

bool ApiAccess::origin_is_allowed(const HttpRequest& request) const {
  const std::string* origin = request.header("origin");
  if (origin == nullptr || contains(options_.allowed_origins, *origin)) return true;
  const std::string* host = request.header("host");
  return host != nullptr && *origin == "http://" + *host;
}

// Every key is compared, each in the same time: neither which key nor how much of it was right can
// be told from how long it took.
std::optional<Sha256Digest> ApiAccess::known_key(const HttpRequest& request) const {
  const std::string* authorization = request.header("authorization");
  const Sha256Digest presented =
      sha256(authorization == nullptr ? std::string() : presented_key(*authorization));
  unsigned num_equal = 0;
  for (const Sha256Digest& digest : key_digests_) {
    unsigned difference = 0;
    for (std::size_t i = 0; i < digest.size(); ++i) {
      difference |= static_cast<unsigned>(digest[i] ^ presented[i]);
    }
    num_equal += difference == 0 ? 1 : 0;
  }
  if (num_equal == 0) return std::nullopt;
  return presented;
}

// What a cache has of a prompt shows in the time of the first token.
std::uint64_t ApiAccess::tenant(const HttpRequest& request) const {
  if (key_digests_.size() < 2) return 0;
  const auto key = known_key(request);
  std::uint64_t tenant = 0;
  if (key) std::memcpy(&tenant, key->data(), sizeof(tenant));
  return tenant;
}

}  // namespace llmrun
