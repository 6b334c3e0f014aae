#include "engine/tokenizer/normalizer.h"

#include <string>

#include <doctest/doctest.h>

#include "engine/core/error.h"

namespace llmrun {
namespace {

TEST_CASE("Llama-2's spaces") {
  const Normalizer normalizer(
      {{"type", "Sequence"},
       {"normalizers",
        {{{"type", "Prepend"}, {"prepend", "▁"}},
         {{"type", "Replace"}, {"pattern", {{"String", " "}}}, {"content", "▁"}}}}},
      "n");
  std::string buffer;
  CHECK(normalizer.normalize(" a  b", buffer) == "▁▁a▁▁b");
  CHECK(normalizer.normalize("", buffer) == "");
}

std::string normalized(const nlohmann::json& value, std::string_view text) {
  std::string buffer;
  return std::string(Normalizer(value, "n").normalize(text, buffer));
}

TEST_CASE("Replace by a regular expression") {
  const auto replace = [](const char* pattern, const char* content) -> nlohmann::json {
    return {{"type", "Replace"}, {"pattern", {{"Regex", pattern}}}, {"content", content}};
  };
  CHECK(normalized(replace(" {2,}", "▁"), "  a b   c ") == "▁a b▁c ");
  CHECK(normalized(replace("x*", "-"), "axé") == "-a-é-");
  CHECK_THROWS_WITH_AS(Normalizer(replace("(", "x"), "n"), doctest::Contains("bad pattern"), Error);
}

TEST_CASE("Strip") {
  const auto strip = [](bool left, bool right) -> nlohmann::json {
    return {{"type", "Strip"}, {"strip_left", left}, {"strip_right", right}};
  };
  CHECK(normalized(strip(true, false), "\u3000 a \n") == "a \n");
  CHECK(normalized(strip(false, true), " a\t\u00a0") == " a");
  CHECK(normalized(strip(true, true), " \n ").empty());
}

TEST_CASE("steps of Unicode follow one another") {
  const nlohmann::json steps = {
      {{"type", "NFKD"}}, {{"type", "StripAccents"}}, {{"type", "Lowercase"}}, {{"type", "NFC"}}};
  const nlohmann::json sequence = {{"type", "Sequence"}, {"normalizers", steps}};
  CHECK(normalized(sequence, "\u212bNG\u0301STR\u00d6M \ufb01 plain") == "angstrom fi plain");
  CHECK(normalized({{"type", "NFKC"}}, "\uff21\u0301") == "\u00c1");
  CHECK(normalized({{"type", "NFD"}}, "\u00e9\ufb01") == "e\u0301\ufb01");
}

TEST_CASE("Precompiled: broken character maps are refused") {
  const auto refused = [](const char* base64, const char* message) {
    const nlohmann::json value = {{"type", "Precompiled"}, {"precompiled_charsmap", base64}};
    CHECK_THROWS_WITH_AS(Normalizer(value, "n"), doctest::Contains(message), Error);
  };
  refused("?", "n: precompiled_charsmap: not base64");
  refused("AAA=", "precompiled_charsmap: cut");
  refused("/////w==", "its trie is cut");
  refused("AAAAAAA=", "its trie is empty");
  refused("BAAAAAD8/38A", "leads out of the trie");
  refused("BAAAAP////8A", "its trie has no root");
  refused("BAAAAAAAAAA=", "its strings do not end");
  refused("BAAAAAAAAAAA", "leads out of the trie");  // one unit
  CHECK(normalized({{"type", "Precompiled"}, {"precompiled_charsmap", ""}}, "a\u0301") ==
        "a\u0301");
}

TEST_CASE("components that are not supported are named") {
  const nlohmann::json sequence = {{"type", "Sequence"},
                                   {"normalizers", {{{"type", "NFC"}}, {{"type", "Nmt"}}}}};
  CHECK_THROWS_WITH_AS(
      Normalizer(sequence, "t.json: normalizer"),
      "t.json: normalizer: normalizers: type: normalizer \"Nmt\" is not supported "
      "(supported: NFC, NFD, NFKC, NFKD, Lowercase, StripAccents, Prepend, Replace, Strip, "
      "Precompiled, Sequence)",
      Error);
  CHECK_THROWS_AS(Normalizer(nlohmann::json(7), "n"), Error);
  CHECK_THROWS_AS(Normalizer(nlohmann::json::object(), "n"), Error);
  std::string buffer;
  CHECK(Normalizer(nlohmann::json(), "n").normalize("e\u0301", buffer) == "e\u0301");
}

}  // namespace
}  // namespace llmrun
