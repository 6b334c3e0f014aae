#include "engine/stop_matcher.h"

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <doctest/doctest.h>

#include "engine/core/error.h"
#include "engine/core/random.h"
#include "engine/core/utf8.h"

namespace llmrun {
namespace {

struct Outcome {
  std::string text;
  std::optional<std::string> stop;
  bool operator==(const Outcome&) const = default;
};

// The definition: the stop string that is complete first, the longest of those; not within the
// first `num_protected` bytes.
Outcome reference(const std::string& text, const std::vector<std::string>& stops, bool include,
                  std::size_t num_protected) {
  for (std::size_t end = num_protected + 1; end <= text.size(); ++end) {
    const std::string_view so_far = std::string_view(text).substr(0, end);
    const std::string* longest = nullptr;
    for (const std::string& stop : stops) {
      if (so_far.ends_with(stop) && (longest == nullptr || stop.size() > longest->size())) {
        longest = &stop;
      }
    }
    if (longest == nullptr) continue;
    return {text.substr(0, include ? end : end - longest->size()), *longest};
  }
  return {text, std::nullopt};
}

// Bytes at the end of `text` with which a stop string begins: what must be held back, no more.
std::size_t num_held_back(const std::string& text, const std::vector<std::string>& stops) {
  std::size_t result = 0;
  for (const std::string& stop : stops) {
    for (std::size_t n = 1; n < stop.size() && n <= text.size(); ++n) {
      if (text.ends_with(std::string_view(stop).substr(0, n))) result = std::max(result, n);
    }
  }
  return result;
}

Outcome run(const std::vector<std::string>& pieces, const std::vector<std::string>& stops,
            bool include = false) {
  StopMatcher matcher(stops, include);
  Outcome outcome;
  for (const std::string& piece : pieces) {
    outcome.stop = matcher.append(piece, true, outcome.text);
    if (outcome.stop) return outcome;
  }
  matcher.finish(outcome.text);
  return outcome;
}

TEST_CASE("stop strings are found across pieces and inside them") {
  CHECK(run({"Hello wor", "ld"}, {"o w"}) == Outcome{"Hell", "o w"});
  CHECK(run({"Hel", "lo", " ", "world"}, {"o w"}) == Outcome{"Hell", "o w"});
  CHECK(run({"abSTOPcd"}, {"STOP"}) == Outcome{"ab", "STOP"});
  CHECK(run({"abSTOPcd"}, {"STOP"}, true) == Outcome{"abSTOP", "STOP"});
  CHECK(run({"STOP"}, {"STOP"}) == Outcome{"", "STOP"});
  CHECK(run({"ab", "S", "T", "O"}, {"STOP"}) == Outcome{"abSTO", std::nullopt});
  CHECK(run({"", "a", ""}, {"STOP"}) == Outcome{"a", std::nullopt});
  CHECK(run({"anything"}, {}) == Outcome{"anything", std::nullopt});
  CHECK(run({"aab"}, {"ab"}) == Outcome{"a", "ab"});  // falls back inside a failed match
  CHECK(run({"abcabd"}, {"abd"}) == Outcome{"abc", "abd"});
  CHECK(run({"caf\xC3\xA9!"}, {"\xC3\xA9"}) == Outcome{"caf", "\xC3\xA9"});
}

TEST_CASE("the stop string that is complete first counts, then the longest") {
  CHECK(run({"abcd"}, {"abcd", "bc"}) == Outcome{"a", "bc"});
  CHECK(run({"a", "b", "c", "d"}, {"abcd", "bc"}) == Outcome{"a", "bc"});
  CHECK(run({"abcd"}, {"cd", "bcd", "d"}) == Outcome{"a", "bcd"});
  CHECK(run({"xENDySTOP"}, {"STOP", "END"}) == Outcome{"x", "END"});
}

TEST_CASE("a stop string before min_tokens is text, one that ends after it is not") {
  StopMatcher matcher(std::vector<std::string>{"aa"}, false);
  std::string text;
  CHECK_FALSE(matcher.append("aaa", false, text));
  CHECK(text == "aa");
  CHECK(matcher.append("a", true, text) == "aa");
  CHECK(text == "aa");
}

TEST_CASE("an empty stop string is refused") {
  CHECK_THROWS_AS(StopMatcher(std::vector<std::string>{"a", ""}, false), Error);
}

TEST_CASE("a million random texts, cut at random") {
  // Characters of one to three bytes; the second and third share their first byte.
  const std::array<std::string, 4> alphabet = {"a", "\xC3\xA9", "\xC3\xA8", "\xE2\x82\xAC"};
  std::uint64_t state = 1;
  const auto below = [&](std::uint64_t bound) {
    state = mix64(state);
    return static_cast<std::size_t>(state % bound);
  };
  int num_stopped = 0;
  for (int trial = 0; trial < 1'000'000; ++trial) {
    const std::size_t num_letters = 1 + below(alphabet.size());
    const auto random_text = [&](std::size_t length) {
      std::string text;
      for (std::size_t i = 0; i < length; ++i) text += alphabet[below(num_letters)];
      return text;
    };
    std::vector<std::string> stops;
    for (std::size_t i = below(4); i > 0; --i) stops.push_back(random_text(1 + below(4)));
    const bool include = below(4) == 0;
    const std::size_t num_protected_pieces = below(3) == 0 ? below(4) : 0;

    StopMatcher matcher(stops, include);
    std::string text;
    std::size_t num_protected = 0;
    Outcome outcome;
    bool is_exact = true;
    for (std::size_t piece_idx = 0; piece_idx < 5 && !outcome.stop; ++piece_idx) {
      const std::string piece = random_text(below(5));
      text += piece;
      const bool may_stop = piece_idx >= num_protected_pieces;
      if (!may_stop) num_protected = text.size();
      outcome.stop = matcher.append(piece, may_stop, outcome.text);
      is_exact = is_exact && is_valid_utf8(outcome.text);
      if (!outcome.stop) {
        const std::size_t num_held = include ? 0 : num_held_back(text, stops);
        is_exact = is_exact && outcome.text == text.substr(0, text.size() - num_held);
      }
    }
    num_stopped += outcome.stop ? 1 : 0;
    if (!outcome.stop) matcher.finish(outcome.text);
    is_exact = is_exact && outcome == reference(text, stops, include, num_protected);
    if (is_exact) continue;
    CAPTURE(text);
    CAPTURE(outcome.text);
    for (const std::string& stop : stops) MESSAGE("stop string: " << stop);
    FAIL("differs from the reference");
  }
  CHECK(num_stopped > 200'000);
  CHECK(num_stopped < 900'000);
}

}  // namespace
}  // namespace llmrun
