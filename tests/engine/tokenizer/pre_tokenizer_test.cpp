#include "engine/tokenizer/pre_tokenizer.h"

#include <string>
#include <vector>

#include <doctest/doctest.h>

#include "engine/core/error.h"

namespace llmrun {
namespace {

using nlohmann::json;
using Strings = std::vector<std::string>;

json byte_level(bool use_regex) {
  return {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"use_regex", use_regex}};
}
json split(const json& pattern, const char* behavior = "Isolated", bool invert = false) {
  return {{"type", "Split"}, {"pattern", pattern}, {"behavior", behavior}, {"invert", invert}};
}
json sequence(std::vector<json> elements) {
  return {{"type", "Sequence"}, {"pretokenizers", std::move(elements)}};
}

Strings pieces(const json& value, std::string_view text, bool begins_input = true) {
  std::vector<std::string_view> views;
  PreTokenizer::Buffers buffers;
  PreTokenizer(value, "p").split(text, begins_input, buffers, views);
  return {views.begin(), views.end()};
}

TEST_CASE("GPT-2's rule") {
  CHECK(pieces(byte_level(true), "I'm here,  you're  not!\n\n x1 ") ==
        Strings{"I", "'m", " here", ",", " ", " you", "'re", " ", " not", "!", "\n\n", " x", "1",
                " "});
  CHECK(pieces(byte_level(false), "a b") == Strings{"a b"});
  CHECK(pieces(byte_level(true), "").empty());
}

TEST_CASE("splits in a row, each inside the pieces of the one before") {
  const json value =
      sequence({split({{"Regex", "[0-9]"}}), split({{"String", "a."}}), byte_level(false)});
  CHECK(pieces(value, "xa.y12axa.") == Strings{"x", "a.", "y", "1", "2", "ax", "a."});
}

TEST_CASE("behaviors") {
  const json comma = {{"String", ","}};
  CHECK(pieces(sequence({split(comma), byte_level(false)}), "a,,b") == Strings{"a", ",", ",", "b"});
  CHECK(pieces(sequence({split(comma, "Removed"), byte_level(false)}), "a,,b,") ==
        Strings{"a", "b"});
  CHECK(pieces(sequence({split(comma, "Removed", true), byte_level(false)}), "a,,b") ==
        Strings{",", ","});
  CHECK(pieces(sequence({split({{"Regex", "x*"}}), byte_level(false)}), "axx\xC3\xA9") ==
        Strings{"a", "xx", "\xC3\xA9"});
}

TEST_CASE("digits") {
  const auto digits = [](bool individual) {
    return sequence({{{"type", "Digits"}, {"individual_digits", individual}}, byte_level(false)});
  };
  CHECK(pieces(digits(false), "a12\u0663b") == Strings{"a", "12\u0663", "b"});
  CHECK(pieces(digits(true), "a12\u0663b") == Strings{"a", "1", "2", "\u0663", "b"});
}

TEST_CASE("Metaspace") {
  const auto metaspace = [](const char* scheme, bool split) -> json {
    return {
        {"type", "Metaspace"}, {"replacement", "▁"}, {"prepend_scheme", scheme}, {"split", split}};
  };
  CHECK(pieces(metaspace("always", false), " a  b") == Strings{"▁a▁▁b"});
  CHECK(pieces(metaspace("always", false), "a b", false) == Strings{"▁a▁b"});
  CHECK(pieces(metaspace("first", false), "a b", true) == Strings{"▁a▁b"});
  CHECK(pieces(metaspace("first", false), "a b", false) == Strings{"a▁b"});
  CHECK(pieces(metaspace("never", false), "a ▁b") == Strings{"a▁▁b"});
  CHECK(pieces(metaspace("always", true), "a  bc ▁") == Strings{"▁a", "▁", "▁bc", "▁", "▁"});
  CHECK(pieces(metaspace("never", true), "a b") == Strings{"a", "▁b"});
  CHECK(pieces(metaspace("always", false), "").empty());
  const json old = {{"type", "Metaspace"}, {"replacement", "_"}, {"add_prefix_space", false}};
  CHECK(pieces(old, "a b") == Strings{"a", "_b"});
  CHECK(pieces(nullptr, "a b") == Strings{"a b"});
}

// Source of the expected pieces: pre_tokenize_str of Hugging Face's tokenizers 0.22.
TEST_CASE("what a split makes of its matches") {
  const auto cut = [](const char* behavior, bool invert, const char* text) {
    return pieces(split({{"String", "-"}}, behavior, invert), text);
  };
  CHECK(cut("Isolated", false, "--a-b--c-") ==
        Strings{"-", "-", "a", "-", "b", "-", "-", "c", "-"});
  CHECK(cut("Isolated", false, "a--bc") == Strings{"a", "-", "-", "bc"});
  CHECK(cut("Isolated", true, "--a-b--c-") == Strings{"-", "-", "a", "-", "b", "-", "-", "c", "-"});
  CHECK(cut("Isolated", true, "a--bc") == Strings{"a", "-", "-", "bc"});
  CHECK(cut("Removed", false, "--a-b--c-") == Strings{"a", "b", "c"});
  CHECK(cut("Removed", false, "a--bc") == Strings{"a", "bc"});
  CHECK(cut("Removed", true, "--a-b--c-") == Strings{"-", "-", "-", "-", "-", "-"});
  CHECK(cut("Removed", true, "a--bc") == Strings{"-", "-"});
  CHECK(cut("MergedWithPrevious", false, "--a-b--c-") == Strings{"-", "-", "a-", "b-", "-", "c-"});
  CHECK(cut("MergedWithPrevious", false, "a--bc") == Strings{"a-", "-", "bc"});
  CHECK(cut("MergedWithPrevious", true, "--a-b--c-") == Strings{"-", "-a", "-b", "-", "-c", "-"});
  CHECK(cut("MergedWithPrevious", true, "a--bc") == Strings{"a", "-", "-bc"});
  CHECK(cut("MergedWithNext", false, "--a-b--c-") == Strings{"-", "-a", "-b", "-", "-c", "-"});
  CHECK(cut("MergedWithNext", false, "a--bc") == Strings{"a", "-", "-bc"});
  CHECK(cut("MergedWithNext", true, "--a-b--c-") == Strings{"-", "-", "a-", "b-", "-", "c-"});
  CHECK(cut("MergedWithNext", true, "a--bc") == Strings{"a-", "-", "bc"});
  CHECK(cut("Contiguous", false, "--a-b--c-") == Strings{"--", "a", "-", "b", "--", "c", "-"});
  CHECK(cut("Contiguous", false, "a--bc") == Strings{"a", "--", "bc"});
  CHECK(cut("Contiguous", true, "--a-b--c-") == Strings{"--", "a", "-", "b", "--", "c", "-"});
  CHECK(cut("Contiguous", true, "a--bc") == Strings{"a", "--", "bc"});
  CHECK(pieces(split({{"Regex", "x*"}}), "axxb") == Strings{"a", "xx", "b"});
}

TEST_CASE("steps in a row") {
  const json metaspace = {{"type", "Metaspace"}, {"replacement", "▁"}};
  CHECK(pieces(sequence({{{"type", "WhitespaceSplit"}}, metaspace}), " a  b\tc▁d ") ==
        Strings{"▁a", "▁b", "▁c", "▁d"});
  CHECK(pieces({{"type", "ByteLevel"}, {"add_prefix_space", true}}, "a b") == Strings{" a", " b"});
  CHECK(pieces({{"type", "ByteLevel"}, {"add_prefix_space", true}}, " a") == Strings{" a"});
}

TEST_CASE("what is not supported is named") {
  const auto refused = [](const json& value, const char* message) {
    CHECK_THROWS_WITH_AS(PreTokenizer(value, "t.json: pre_tokenizer"), doctest::Contains(message),
                         Error);
  };
  refused(sequence({{{"type", "Whitespace"}}, byte_level(false)}),
          "t.json: pre_tokenizer: pretokenizers: type: pre-tokenizer \"Whitespace\"");
  refused(sequence({split({{"String", "a"}}, "Merged"), byte_level(false)}),
          "behavior: expected one of Isolated, Removed, MergedWithPrevious, MergedWithNext, "
          "Contiguous, found \"Merged\"");
  refused(sequence({byte_level(false), split({{"String", "a"}})}), "after ByteLevel");
  refused(sequence({split({{"Regex", "a("}}), byte_level(false)}), "bad pattern");
  refused(split({{"Other", "a"}}), "Regex: missing");
  refused({{"type", "Metaspace"}, {"replacement", "ab"}}, "replacement: expected one character");
  refused({{"type", "Metaspace"}, {"replacement", ""}}, "replacement: expected one character");
  refused({{"type", "Metaspace"}, {"replacement", "_"}, {"prepend_scheme", "x"}}, "prepend_scheme");
  refused(json::array(), "expected an object");
}

}  // namespace
}  // namespace llmrun
