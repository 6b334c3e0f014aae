// Who may ask: API keys, the Host header, and pages of other origins.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "engine/core/sha256.h"
#include "tools/serve/http_message.h"

namespace llmrun {

class ApiAccess {
 public:
  struct Options {
    std::vector<std::string> api_keys;         // none: everybody may ask
    bool is_loopback = true;                   // only names of this machine are taken as Host
    std::vector<std::string> allowed_hosts;    // further ones
    std::vector<std::string> allowed_origins;  // "http://host:port"; pages that may ask
  };

  explicit ApiAccess(const Options& options);

  // The refusal of a request, or nothing. /health needs no key.
  std::optional<HttpResponse> refuse(const HttpRequest& request) const;
  // Whose prompts may share a prefix cache: clients with the same key. 0 with one key or none.
  std::uint64_t tenant(const HttpRequest& request) const;
  // What a page of another origin may read: headers for the answer; none for other requests.
  HttpHeaders cross_origin_headers(const HttpRequest& request) const;

 private:
  bool host_is_allowed(const HttpRequest& request) const;
  // Of the same origin, of an allowed one, or not from a page at all.
  bool origin_is_allowed(const HttpRequest& request) const;
  // The digest of the key that was sent, if it is one of ours.
  std::optional<Sha256Digest> known_key(const HttpRequest& request) const;

  Options options_;
  std::vector<Sha256Digest> key_digests_;
};

}  // namespace llmrun
