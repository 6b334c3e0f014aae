#include "tools/library_versions.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <array>

#include <CLI/Version.hpp>
#include <boost/version.hpp>
#include <fmt/format.h>
#include <nlohmann/json.hpp>
#include <openssl/crypto.h>
#include <pcre2.h>
#include <utf8proc.h>

namespace llmrun {

std::string library_versions() {
  std::array<char, 64> pcre2{};
  pcre2_config(PCRE2_CONFIG_VERSION, pcre2.data());
  return fmt::format(
      "Boost {}.{}.{}, CLI11 {}, fmt {}.{}.{}, nlohmann/json {}.{}.{}; OpenSSL {}, "
      "PCRE2 {}, utf8proc {}",
      BOOST_VERSION / 100000, BOOST_VERSION / 100 % 1000, BOOST_VERSION % 100, CLI11_VERSION,
      FMT_VERSION / 10000, FMT_VERSION / 100 % 100, FMT_VERSION % 100, NLOHMANN_JSON_VERSION_MAJOR,
      NLOHMANN_JSON_VERSION_MINOR, NLOHMANN_JSON_VERSION_PATCH,
      OpenSSL_version(OPENSSL_VERSION_STRING), pcre2.data(), utf8proc_version());
}

}  // namespace llmrun
