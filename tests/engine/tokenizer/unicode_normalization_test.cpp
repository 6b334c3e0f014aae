#include "engine/tokenizer/unicode_normalization.h"

#include <fstream>
#include <string>

#include <doctest/doctest.h>
#include <nlohmann/json.hpp>
#include <utf8proc.h>

#include "engine/core/utf8.h"
#include "engine/tokenizer/normalizer.h"

namespace llmrun {
namespace {

std::string nfc(std::string_view text) {
  return to_normal_form(text, NormalForm::kNfc);
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
    if (!is_surely_normal(text, NormalForm::kNfc)) continue;
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

TEST_CASE("normalizers make of nasty strings what Hugging Face's make of them") {
  std::ifstream lines(LLMRUN_SOURCE_DIR "/tests/data/tokenizer/normalizers.jsonl");
  int num_lines = 0;
  for (std::string text; std::getline(lines, text); ++num_lines) {
    const nlohmann::json line = nlohmann::json::parse(text);
    const Normalizer normalizer({{"type", line["type"]}}, "n");
    std::string buffer;
    const auto found = normalizer.normalize(line["text"].get_ref<const std::string&>(), buffer);
    if (found != line["normalized"].get_ref<const std::string&>())
      FAIL_CHECK("line " << num_lines + 1 << ": " << text);
  }
  CHECK(num_lines > 300);
}

TEST_CASE("a long run of marks in the wrong order is not quadratic") {
  std::string text = "a";
  for (int i = 0; i < 200000; ++i) text += "\u0307\u0323";  // classes 230 and 220
  const std::string composed = nfc(text);
  CHECK(composed.starts_with("\u1ea1\u0323"));
  CHECK(composed.ends_with("\u0307\u0307"));
  CHECK(to_normal_form(text, NormalForm::kNfkd).size() == text.size());
}

}  // namespace
}  // namespace llmrun
