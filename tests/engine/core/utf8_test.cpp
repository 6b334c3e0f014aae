#include "engine/core/utf8.h"

#include <string>
#include <utility>
#include <vector>

#include <doctest/doctest.h>

namespace llmrun {
namespace {

// An independent reference: a character is what encoding some scalar value gives.
bool is_scalar(char32_t c) {
  return c < 0xD800 || (c > 0xDFFF && c <= 0x10FFFF);
}

TEST_CASE("every scalar value round-trips and every prefix of it is incomplete") {
  for (char32_t c = 0; c <= 0x10FFFF; ++c) {
    if (!is_scalar(c)) continue;
    std::string text;
    append_utf8(text, c);
    const Utf8Character character = first_utf8_character(text);
    bool good = character.state == Utf8State::kValid && character.code_point == c &&
                character.length == text.size() && incomplete_utf8_tail(text) == 0;
    for (std::size_t length = 1; length < text.size(); ++length) {
      std::string cut = "a";
      cut.append(text, 0, length);
      good = good && incomplete_utf8_tail(cut) == length && first_invalid_utf8(cut) == 1 &&
             replace_invalid_utf8(cut) == "a\xEF\xBF\xBD";
    }
    if (!good) FAIL_CHECK("U+" << static_cast<std::uint32_t>(c));
  }
}

TEST_CASE("bad bytes become what Python's errors='replace' makes of them") {
  // Expected values printed by bytes.decode("utf-8", "replace").
  const std::string r(kReplacementCharacter);
  const std::vector<std::pair<std::string, std::string>> cases = {
      {"", ""},
      {"abc", "abc"},
      {"\x80", r},
      {"a\xFF"
       "b",
       "a" + r + "b"},
      {"\xC0\x80", r + r},                  // overlong NUL
      {"\xE0\x80\x80", r + r + r},          // overlong: 80 cannot follow E0
      {"\xED\xA0\x80", r + r + r},          // surrogate D800
      {"\xF4\x90\x80\x80", r + r + r + r},  // above U+10FFFF
      {"\xF5\x80", r + r},
      {"\xE2\x82", r},
      {"\xE2\x82z", r + "z"},
      {"\xF0\x9F\x98", r},
      {"\xF0\x9F\x98\xF0\x9F\x98\x80", r + "\xF0\x9F\x98\x80"},
      {"\xC3\xC3\xA9", r + "\xC3\xA9"},
      {std::string("a\0\xFE", 3), std::string("a\0", 2) + r},
  };
  for (const auto& [bytes, text] : cases) {
    CHECK(replace_invalid_utf8(bytes) == text);
    CHECK(is_valid_utf8(text));
  }
}

TEST_CASE("the offset of the first bad byte is found after long ASCII runs") {
  for (std::size_t length = 0; length < 40; ++length) {
    const std::string text = std::string(length, 'x') + "\xC3\xA9" + std::string(length, 'y');
    CHECK(first_invalid_utf8(text) == std::string_view::npos);
    CHECK(first_invalid_utf8(text + "\xE9" + text) == text.size());
  }
}

TEST_CASE("a tail that cannot become a character is not held back") {
  CHECK(incomplete_utf8_tail("\xE0\x80") == 0);
  CHECK(incomplete_utf8_tail("\xED\xA0") == 0);
  CHECK(incomplete_utf8_tail("\xC0") == 0);
  CHECK(incomplete_utf8_tail("\x80\x80\x80\x80") == 0);
  CHECK(incomplete_utf8_tail("\xF0\x90") == 2);
  CHECK(incomplete_utf8_tail("") == 0);
}

}  // namespace
}  // namespace llmrun
