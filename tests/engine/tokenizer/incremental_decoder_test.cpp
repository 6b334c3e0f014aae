#include "engine/tokenizer/incremental_decoder.h"

#include <random>
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include "engine/core/utf8.h"

namespace llmrun {
namespace {

// Tokens given by hand; it only decodes.
class FakeTokenizer final : public Tokenizer {
 public:
  struct Entry {
    std::string bytes;
    bool is_byte = false;
    bool special = false;
  };
  FakeTokenizer(std::vector<Entry> entries, DecodeRules rules)
      : entries_(std::move(entries)), rules_(rules) {}

  std::int32_t vocab_size() const override { return static_cast<std::int32_t>(entries_.size()); }
  std::string_view token_bytes(TokenId id) const override {
    return known(id) ? std::string_view(at(id).bytes) : std::string_view();
  }
  bool is_byte_token(TokenId id) const override { return known(id) && at(id).is_byte; }
  bool is_special(TokenId id) const override { return known(id) && at(id).special; }
  std::optional<TokenId> token_to_id(std::string_view) const override { return std::nullopt; }
  const SpecialTokenIds& special_token_ids() const override { return special_token_ids_; }
  DecodeRules decode_rules() const override { return rules_; }
  bool adds_bos() const override { return false; }

 protected:
  void encode_utf8(std::string_view, bool, SpecialTokenText, std::vector<TokenId>&) const override {
  }

 private:
  bool known(TokenId id) const { return id >= 0 && id < vocab_size(); }
  const Entry& at(TokenId id) const { return entries_[static_cast<std::size_t>(id)]; }

  std::vector<Entry> entries_;
  DecodeRules rules_;
  SpecialTokenIds special_token_ids_;
};

std::string stream(const Tokenizer& tokenizer, const std::vector<TokenId>& ids, bool skip) {
  IncrementalDecoder decoder(tokenizer, {.skip_special_tokens = skip});
  std::string text;
  for (const TokenId id : ids) {
    const std::string delta = decoder.append(id);
    CHECK(is_valid_utf8(delta));
    text += delta;
  }
  return text + decoder.finish();
}

TEST_CASE("joined bytes: text appears when a character is complete") {
  const FakeTokenizer tokenizer({{"a"}, {"\xE2\x82"}, {"\xAC"}, {"\xF0\x9F\x98"}, {"b\xC3"}}, {});
  IncrementalDecoder decoder(tokenizer);
  CHECK(decoder.append(0) == "a");
  CHECK(decoder.append(1) == "");
  CHECK(decoder.append(2) == "\xE2\x82\xAC");
  CHECK(decoder.append(3) == "");
  CHECK(decoder.append(4) ==
        "\xEF\xBF\xBD"
        "b");
  CHECK(decoder.append(99) == "");
  CHECK(decoder.append(-1) == "");
  CHECK(decoder.finish() == "\xEF\xBF\xBD");
}

TEST_CASE("joined bytes: every sequence is the lossy text of all bytes") {
  std::vector<FakeTokenizer::Entry> entries;
  for (int byte = 0; byte < 256; ++byte)
    entries.push_back({std::string(1, static_cast<char>(byte))});
  entries.push_back({"\xE2\x82\xAC"});
  entries.push_back({"\x9F\x98\x80x"});
  entries.push_back({"<special>", false, true});
  const FakeTokenizer tokenizer(entries, {});
  std::mt19937 random(1);
  const std::vector<TokenId> likely = {0xC3, 0xA9, 0xE2, 0x82, 0xAC, 0xF0, 0x9F, 0x98,
                                       0x80, 0xED, 0xA0, 'a',  256,  257,  258};
  for (int round = 0; round < 20000; ++round) {
    std::vector<TokenId> ids;
    for (std::size_t i = 0; i < 1 + random() % 8; ++i) {
      ids.push_back(random() % 4 == 0 ? static_cast<TokenId>(random() % entries.size())
                                      : likely[random() % likely.size()]);
    }
    for (const bool skip : {false, true}) {
      std::string bytes;
      for (const TokenId id : ids) {
        if (!(skip && tokenizer.is_special(id))) bytes += tokenizer.token_bytes(id);
      }
      if (stream(tokenizer, ids, skip) != replace_invalid_utf8(bytes)) FAIL_CHECK(round);
    }
  }
}

TEST_CASE("byte fallback: a run is text as a whole or not at all") {
  const FakeTokenizer tokenizer(
      {{"\xE4", true}, {"\xBD", true}, {"\xA0", true}, {" x"}, {"</s>", false, true}, {" "}},
      {.byte_fallback = true, .leading_space = LeadingSpace::kDropOne});
  const std::string you = "\xE4\xBD\xA0";
  const std::string bad(kReplacementCharacter);
  CHECK(stream(tokenizer, {0, 1, 2, 3}, true) == you + " x");
  CHECK(stream(tokenizer, {0, 1, 2, 0}, true) == bad + bad + bad + bad);
  CHECK(stream(tokenizer, {0, 1, 3, 2}, true) == bad + bad + " x" + bad);
  CHECK(stream(tokenizer, {0, 4, 1, 2}, true) == you);  // skipped: the run goes on
  CHECK(stream(tokenizer, {0, 4, 1, 2}, false) == bad + "</s>" + bad + bad);
  CHECK(stream(tokenizer, {0, 1, 99, 2}, true) == you);  // no token: neither
}

TEST_CASE("all spaces of the first token are dropped") {
  const FakeTokenizer tokenizer(
      {{" x"}, {" "}, {"</s>", false, true}},
      {.byte_fallback = false, .leading_space = LeadingSpace::kDropInFirstToken});
  CHECK(stream(tokenizer, {0, 0}, true) == "x x");
  CHECK(stream(tokenizer, {1, 0}, true) == " x");
  CHECK(stream(tokenizer, {2, 0}, true) == "x");
  CHECK(stream(tokenizer, {2, 0}, false) == "</s> x");
  IncrementalDecoder decoder(tokenizer, {.skip_special_tokens = true, .continues_text = true});
  CHECK(decoder.append(0) == " x");
}

TEST_CASE("one leading space is dropped, unless the text goes on from somewhere") {
  const FakeTokenizer tokenizer({{" x"}, {"  y"}, {" "}, {"</s>", false, true}},
                                {.byte_fallback = true, .leading_space = LeadingSpace::kDropOne});
  CHECK(stream(tokenizer, {0, 0}, true) == "x x");
  CHECK(stream(tokenizer, {1}, true) == " y");
  CHECK(stream(tokenizer, {2, 2, 0}, true) == "  x");
  CHECK(stream(tokenizer, {3, 0}, true) == "x");
  CHECK(stream(tokenizer, {3, 0}, false) == "</s> x");
  IncrementalDecoder decoder(tokenizer, {.skip_special_tokens = true, .continues_text = true});
  CHECK(decoder.append(0) == " x");
}

}  // namespace
}  // namespace llmrun
