#include "engine/bad_words.h"

#include <string>
#include <vector>

#include <doctest/doctest.h>

#include "tests/engine/top/fake_tokenizer.h"

namespace llmrun {
namespace {

using Ids = std::vector<TokenId>;

// "bad" is one token with and without a space; "ugly" is two; "x" has no token with a space; "zw"
// is one token without a space and two with it.
const FakeTokenizer& tokenizer() {
  static const FakeTokenizer instance(
      {{" "}, {"bad"}, {" bad"}, {"ug"}, {" ug"}, {"ly"}, {"x"}, {"y"}, {" z"}, {"w"}, {"zw"}});
  return instance;
}

Ids banned(const std::vector<std::string>& words, const Ids& output) {
  return BadWords(words, tokenizer()).banned_token_ids(output);
}

TEST_CASE("a word of one token is always banned, in both spellings") {
  CHECK(banned({"bad"}, {}) == Ids{1, 2});
  CHECK(banned({"bad"}, {6, 1}) == Ids{1, 2});
  CHECK(banned({"  bad"}, {}) == Ids{1, 2});  // leading space does not matter
}

TEST_CASE("the last token of a longer word is banned after the tokens before it") {
  CHECK(banned({"ugly"}, {}) == Ids{});
  CHECK(banned({"ugly"}, {3}) == Ids{5});
  CHECK(banned({"ugly"}, {6, 4}) == Ids{5});  // " ug" + "ly"
  CHECK(banned({"ugly"}, {3, 6}) == Ids{});
  CHECK(banned({"ugly"}, {5}) == Ids{});
  CHECK(banned({"xyx"}, {6}) == Ids{});
  CHECK(banned({"xyx"}, {6, 7}) == Ids{6});
  CHECK(banned({"xyx"}, {7, 6, 7}) == Ids{6});
}

TEST_CASE("where a space is a token of its own, the word is banned once") {
  CHECK(banned({"x"}, {}) == Ids{6});
  CHECK(banned({"x"}, {0}) == Ids{6});
}

TEST_CASE("after a space only a sequence of the same length counts, as in vLLM") {
  CHECK(banned({"zw"}, {}) == Ids{10});
  CHECK(banned({"zw"}, {8}) == Ids{10});
}

TEST_CASE("several words: each id once, in order") {
  CHECK(banned({"x", "ugly", "bad", "x"}, {3}) == Ids{1, 2, 5, 6});
  CHECK(banned({}, {3}) == Ids{});
  CHECK(banned({" ", "\n"}, {3}) == Ids{});
}

}  // namespace
}  // namespace llmrun
