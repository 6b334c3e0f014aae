#include "engine/tokenizer/unicode.h"

#include <doctest/doctest.h>

#include "engine/tokenizer/unicode_ranges.h"

namespace llmrun {
namespace {

TEST_CASE("white space") {
  int count = 0;
  for (char32_t c = 0; c <= 0x10FFFF; ++c) count += is_white_space(c) ? 1 : 0;
  CHECK(count == 25);
  for (const char32_t c : {U'\t', U'\r', U' ', U'\u0085', U'\u00a0', U'\u2003', U'\u3000'}) {
    CHECK(is_white_space(c));
  }
  for (const char32_t c : {U'a', U'\u180e', U'\u200b', U'\ufeff', U'\x1c'}) {
    CHECK_FALSE(is_white_space(c));
  }
}

TEST_CASE("word characters") {
  for (const char32_t c : {U'a', U'Z', U'0', U'_', U'é', U'的', U'\u0301', U'\u0663', U'Ⅷ', U'Ⓐ',
                           U'\u200d', U'\u203f', U'\U00031350', U'\U00011F50'}) {
    CHECK(is_word_character(c));
  }
  for (const char32_t c : {U' ', U'-', U'½', U'²', U'€', U'。', U'\u200b', U'\U0001F600'}) {
    CHECK_FALSE(is_word_character(c));
  }
}

TEST_CASE("ranges of later Unicode versions") {
  CHECK(contains(*later_code_points("L"), 0x31350));
  CHECK(contains(*later_code_points("L"), 0x323AF));
  CHECK_FALSE(contains(*later_code_points("L"), 0x323B0));
  CHECK_FALSE(contains(*later_code_points("L"), 'a'));
  CHECK(later_code_points("Lt")->empty());
  CHECK_FALSE(later_code_points("Han").has_value());
  CHECK_FALSE(later_code_points("").has_value());
  CHECK_FALSE(contains({}, 5));
}

}  // namespace
}  // namespace llmrun
