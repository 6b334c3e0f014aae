#include "engine/tokenizer/added_tokens.h"

#include <string>
#include <vector>

#include <doctest/doctest.h>
#include <fmt/format.h>

namespace llmrun {
namespace {

std::string identity(std::string_view text) {
  return std::string(text);
}

// "a|<5>|b": texts, and ids in angle brackets.
std::string show(const std::vector<TextSpan>& spans) {
  std::string out;
  for (const TextSpan& span : spans) {
    if (!out.empty()) out += '|';
    out += span.id == TextSpan::kText ? std::string(span.text) : fmt::format("<{}>", span.id);
  }
  return out;
}

AddedTokens make(std::vector<AddedToken> tokens) {
  AddedTokens added;
  TokenId id = 0;
  for (AddedToken& token : tokens) {
    token.normalized = false;
    added.add(std::move(token), id++);
  }
  added.build(identity);
  return added;
}

std::string split(const AddedTokens& tokens, std::string_view text) {
  return show(tokens.split_raw(text, SpecialTokenText::kRecognize));
}

TEST_CASE("the leftmost, then longest token is found") {
  const AddedTokens tokens = make({{.content = "ab"},
                                   {.content = "abcd"},
                                   {.content = "bc"},
                                   {.content = "c"},
                                   {.content = "é"}});
  CHECK(split(tokens, "") == "");
  CHECK(split(tokens, "xyz") == "xyz");
  CHECK(split(tokens, "abc") == "<0>|<3>");
  CHECK(split(tokens, "abcd") == "<1>");
  CHECK(split(tokens, "abce") == "<0>|<3>|e");
  CHECK(split(tokens, "xbcab") == "x|<2>|<0>");
  CHECK(split(tokens, "a\xC3\xA9z") == "a|<4>|z");
  CHECK(split(tokens, "abab") == "<0>|<0>");
}

// An independent reference: tries every token at every place.
std::string split_slowly(const std::vector<std::string>& tokens, std::string_view text) {
  std::string out;
  std::string rest;
  const auto flush = [&] {
    if (!rest.empty()) out += fmt::format("{}{}", out.empty() ? "" : "|", rest);
    rest.clear();
  };
  while (!text.empty()) {
    std::size_t best = tokens.size();
    for (std::size_t i = 0; i < tokens.size(); ++i) {
      const bool longer = best == tokens.size() || tokens[i].size() > tokens[best].size();
      if (text.starts_with(tokens[i]) && longer) best = i;
    }
    if (best == tokens.size()) {
      rest += text[0];
      text.remove_prefix(1);
    } else {
      flush();
      out += fmt::format("{}<{}>", out.empty() ? "" : "|", best);
      text.remove_prefix(tokens[best].size());
    }
  }
  flush();
  return out;
}

TEST_CASE("random tokens over two letters are found as by trying them all") {
  std::uint32_t state = 1;
  const auto next = [&](std::uint32_t below) {
    state = state * 1664525U + 1013904223U;
    return (state >> 16) % below;
  };
  const auto word = [&](std::uint32_t max_length) {
    std::string text(1 + next(max_length), 'a');
    for (char& c : text) c = next(2) == 0 ? 'a' : 'b';
    return text;
  };
  for (int round = 0; round < 300; ++round) {
    std::vector<std::string> contents;
    std::vector<AddedToken> tokens;
    for (std::uint32_t i = 0; i < 1 + next(6); ++i) {
      const std::string content = word(5);
      bool known = false;
      for (const std::string& other : contents) known = known || other == content;
      if (known) continue;
      contents.push_back(content);
      tokens.push_back({.content = content});
    }
    const std::string text = word(40);
    CHECK(split(make(tokens), text) == split_slowly(contents, text));
  }
}

TEST_CASE("white space around a token") {
  const AddedTokens tokens = make({{.content = "<l>", .lstrip = true},
                                   {.content = "<r>", .rstrip = true},
                                   {.content = "<b>", .lstrip = true, .rstrip = true}});
  CHECK(split(tokens, "a <l> b") == "a|<0>| b");
  CHECK(split(tokens, "a <r> b") == "a |<1>|b");
  CHECK(split(tokens, "a \n\xE3\x80\x80<b>\t b") == "a|<2>|b");
  CHECK(split(tokens, " <b> <b> ") == "<2>|<2>");
  CHECK(split(tokens, "  <l>") == "<0>");
  CHECK(split(tokens, "<r>  ") == "<1>");
}

TEST_CASE("single words") {
  const AddedTokens tokens = make({{.content = "word", .single_word = true}});
  CHECK(split(tokens, "a word.") == "a |<0>|.");
  CHECK(split(tokens, "words") == "words");
  CHECK(split(tokens, "sword") == "sword");
  CHECK(split(tokens, "word_ \xC3\xA9word word") == "word_ \xC3\xA9word |<0>");
}

TEST_CASE("special tokens can be left as text, other added tokens cannot") {
  const AddedTokens tokens = make({{.content = "<s>", .special = true}, {.content = "<t>"}});
  CHECK(split(tokens, "a<s><t>") == "a|<0>|<1>");
  CHECK(show(tokens.split_raw("a<s><t>", SpecialTokenText::kPlainText)) == "a<s>|<1>");
}

TEST_CASE("normalized tokens are looked for in their normalized form") {
  AddedTokens tokens;
  tokens.add({.content = "Ab", .normalized = true}, 7);
  tokens.add({.content = "Cd", .normalized = false}, 8);
  tokens.build([](std::string_view text) {
    std::string lower(text);
    for (char& c : lower) c = static_cast<char>(c | 0x20);
    return lower;
  });
  CHECK(show(tokens.split_raw("AbCd", SpecialTokenText::kRecognize)) == "Ab|<8>");
  CHECK(show(tokens.split_normalized("abAb", SpecialTokenText::kRecognize)) == "<7>|Ab");
}

TEST_CASE("adding a token again changes its flags") {
  AddedTokens tokens;
  tokens.add({.content = "<x>", .normalized = false, .special = true}, 3);
  tokens.add({.content = "<x>", .rstrip = true, .normalized = false}, 3);
  tokens.build(identity);
  REQUIRE(tokens.find(3) != nullptr);
  CHECK(tokens.find(3)->special);
  CHECK(tokens.find(3)->rstrip);
  CHECK(tokens.find("<x>") == 3);
  CHECK(tokens.find("<y>") == TextSpan::kText);
  CHECK(tokens.max_id() == 3);
  CHECK(split(tokens, "<x> a") == "<3>|a");
}

TEST_CASE("many added tokens are found in linear time") {
  std::vector<AddedToken> many;
  for (int i = 0; i < 100000; ++i) many.push_back({.content = fmt::format("<extra_{}>", i)});
  const AddedTokens tokens = make(std::move(many));
  std::string text;
  for (int i = 0; i < 100000; ++i) text += "<extra_<extra_77777>";
  CHECK(tokens.split_raw(text, SpecialTokenText::kRecognize).size() == 200000);
}

}  // namespace
}  // namespace llmrun
