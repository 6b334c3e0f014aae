#include <array>

#include <fmt/format.h>
#include <openssl/evp.h>

#include "engine/core/sha256.h"
#include "tools/serve/chat_page.h"

namespace llmrun {
namespace {

// 'sha256-...' of what stands in the page's element `name`.
std::string source_of(std::string_view page, std::string_view name) {
  const std::string open = fmt::format("<{}>", name);
  const auto begin = page.find(open) + open.size();
  const auto end = page.find(fmt::format("</{}>", name), begin);
  const Sha256Digest digest = sha256(page.substr(begin, end - begin));
  std::array<unsigned char, 4 * ((sizeof(digest) + 2) / 3) + 1> text{};
  ::EVP_EncodeBlock(text.data(), reinterpret_cast<const unsigned char*>(digest.data()),
                    static_cast<int>(digest.size()));
  return fmt::format("'sha256-{}'", reinterpret_cast<const char*>(text.data()));
}

}  // namespace

std::string chat_page_policy() {
  return fmt::format(
      "default-src 'none'; style-src {}; script-src {}; connect-src http: https:; img-src data:; "
      "base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
      source_of(chat_page(), "style"), source_of(chat_page(), "script"));
}

}  // namespace llmrun
