#include "engine/tokenizer/normalizer.h"

#include <string>

#include <doctest/doctest.h>
#include <utf8proc.h>

#include "engine/core/error.h"
#include "engine/core/utf8.h"

namespace llmrun {
namespace {

std::string nfc(std::string_view text) {
  static const Normalizer normalizer(nlohmann::json{{"type", "NFC"}}, "n");
  std::string buffer;
  return std::string(normalizer.normalize(text, buffer));
}

TEST_CASE("canonical composition") {
  CHECK(nfc("") == "");
  CHECK(nfc("plain ASCII\n") == "plain ASCII\n");
  CHECK(nfc("e\u0301") == "\u00e9");
  CHECK(nfc("q\u0307\u0323") == "q\u0323\u0307");  // reordered by class
  CHECK(nfc("\u1100\u1161\u11a8") == "\uac01");    // Hangul
  CHECK(nfc("\u212b\u2126") == "\u00c5\u03a9");    // singletons
  CHECK(nfc("\u0958") == "\u0915\u093c");          // excluded from composition
  CHECK(nfc("q\u0344") == "q\u0308\u0301");
  CHECK(nfc(std::string("a\0e\xCC\x81", 5)) == std::string("a\0\xC3\xA9", 4));
}

TEST_CASE("marks of newer Unicode stay where they are, as in Hugging Face's NFC") {
  CHECK(nfc("a\u0345\u08d3") == "a\u0345\u08d3");  // utf8proc alone would swap them
  CHECK(nfc("e\u08d3\u0301e\u0301") == "e\u08d3\u0301\u00e9");
  CHECK(nfc("\U00011935\U00011930") == "\U00011935\U00011930");  // nor is this composed
}

TEST_CASE("text that skips the work would not have changed") {
  for (char32_t c = 0; c <= 0x10FFFF; ++c) {
    if (c >= 0xD800 && c <= 0xDFFF) continue;
    std::string text;
    append_utf8(text, c);
    if (!is_surely_nfc(text)) continue;
    const utf8proc_property_t* property = utf8proc_get_property(static_cast<utf8proc_int32_t>(c));
    const bool keeps_its_place = property->combining_class == 0;
    // Composes with nothing before it: after any stable character there is one more character.
    std::string after = "a\xEA\xB0\x80";  // U+AC00, which takes a Hangul consonant
    after += text;
    utf8proc_uint8_t* composed = nullptr;
    const utf8proc_ssize_t length =
        utf8proc_map(reinterpret_cast<const utf8proc_uint8_t*>(after.data()),
                     static_cast<utf8proc_ssize_t>(after.size()), &composed,
                     static_cast<utf8proc_option_t>(UTF8PROC_STABLE | UTF8PROC_COMPOSE));
    const bool same = length == static_cast<utf8proc_ssize_t>(after.size()) &&
                      after == reinterpret_cast<const char*>(composed);
    std::free(composed);
    const bool nul = c == 0;  // ends the C string
    if (!keeps_its_place || (!same && !nul)) FAIL_CHECK("U+" << static_cast<std::uint32_t>(c));
  }
}

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
                                   {"normalizers", {{{"type", "NFC"}}, {{"type", "Lowercase"}}}}};
  CHECK_THROWS_WITH_AS(
      Normalizer(sequence, "t.json: normalizer"),
      "t.json: normalizer: normalizers: type: normalizer \"Lowercase\" is not supported "
      "(supported: NFC, Prepend, Replace, Strip, Precompiled, Sequence)",
      Error);
  CHECK_THROWS_AS(Normalizer(nlohmann::json(7), "n"), Error);
  CHECK_THROWS_AS(Normalizer(nlohmann::json::object(), "n"), Error);
  std::string buffer;
  CHECK(Normalizer(nlohmann::json(), "n").normalize("e\u0301", buffer) == "e\u0301");
}

}  // namespace
}  // namespace llmrun
