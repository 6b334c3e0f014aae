#include "engine/tokenizer/regex.h"

#include <string>
#include <vector>

#include <doctest/doctest.h>

#include "engine/core/error.h"

namespace llmrun {
namespace {

std::vector<std::string> matches(const std::string& pattern, std::string_view text) {
  const Regex regex(pattern, "p");
  Regex::Scanner scanner(regex);
  std::vector<std::string> found;
  std::size_t from = 0;
  std::size_t begin = 0;
  std::size_t end = 0;
  while (from <= text.size() && scanner.find(text, from, begin, end)) {
    found.emplace_back(text.substr(begin, end - begin));
    from = end > begin ? end : end + 1;
  }
  return found;
}

using Strings = std::vector<std::string>;

TEST_CASE("white space is the White_Space property") {
  CHECK(matches(R"(\s)", "a b\u00a0\u180e\u2003\u0085\u200b").size() == 4);
  CHECK(matches(R"([^\s]+)", "a \u180e\u00a0b") == Strings{"a", "\u180e", "b"});
  CHECK(matches(R"(\S+)", "a \u180e\u00a0b") == Strings{"a", "\u180e", "b"});
}

TEST_CASE("categories know the code points of Unicode 16") {
  CHECK(matches(R"(\p{L}+)", "a\U00031350\U00013460 b") == Strings{"a\U00031350\U00013460", "b"});
  CHECK(matches(R"([\p{N}]+)", "1\U00011F50") == Strings{"1\U00011F50"});
  CHECK(matches(R"([^\p{L}]+)", "!\U00031350!") == Strings{"!", "!"});
  CHECK(matches(R"(\P{L}+)", "!\U00031350!") == Strings{"!", "!"});
  CHECK(matches(R"(\d+)", "12\u0663\U00011F50x") == Strings{"12\u0663\U00011F50"});
}

TEST_CASE("lines end where Ruby's do") {
  CHECK(matches("^a|a$", "ab\na\nba\rba") == Strings{"a", "a", "a"});
  CHECK(matches("a$", "a\rb").empty());
  CHECK(matches("a.", "a\na\rab") == Strings{"a\r", "ab"});
}

TEST_CASE("escapes") {
  CHECK(matches(R"(\u4e00-)", "\u4e00-") == Strings{"\u4e00-"});
  CHECK(matches(R"([\u4e00-\u9fa5]+)", "a的b") == Strings{"的"});
  CHECK(matches(R"(\x41\x{42}\.\-\/)", "AB.-/") == Strings{"AB.-/"});
  CHECK(matches("[一-龥]+", "a的b") == Strings{"的"});
  CHECK(matches("(?i:'s|'T)", "'S't") == Strings{"'S", "'t"});
  CHECK(matches("[^\\r\\n]?+a++(?=b)(?!c)", "xaab") == Strings{"xaa"});
}

TEST_CASE("what the two engines read differently is refused with its place") {
  for (const char* pattern :
       {R"(\w+)",  R"(\h)",      R"(\b)",   R"([\S])",  R"([a&&b])",  R"([[:alpha:]])",
        "a{1,2}+", "(?m:a)",     "(?<n>a)", "(?#c)",    "(*FAIL)",    R"(\K)",
        R"(\R)",   R"(\1)",      "[]a]",    "\\",       R"(\p{Han})", R"(\p{^L})",
        R"(\pL)",  R"([\P{L}])", R"(\u12)", R"(\x{12)", R"(\p{L)"}) {
    INFO(pattern);
    CHECK_THROWS_WITH_AS(Regex(pattern, "t.json: pattern"),
                         doctest::Contains("t.json: pattern: pattern not supported"), Error);
  }
  CHECK_THROWS_WITH_AS(Regex("a(b", "t.json: pattern"),
                       doctest::Contains("t.json: pattern: bad pattern"), Error);
}

TEST_CASE("long runs need more stack than the default and get it") {
  const std::string text(512 << 10, 'a');
  CHECK(matches("(?:(?!b)a)+", text) == Strings{text});
}

TEST_CASE("a pattern that backtracks without end is an error, not a hang") {
  CHECK_THROWS_WITH_AS(matches("(?:a+)+$", std::string(64, 'a') + "b"),
                       doctest::Contains("gives up"), Error);
}

}  // namespace
}  // namespace llmrun
