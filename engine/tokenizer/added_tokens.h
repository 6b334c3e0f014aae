// Tokens that are found in a text before the model sees it: special tokens and what users add.
// Source: huggingface/tokenizers, tokenizer/added_vocabulary.rs.
#pragma once

#include <array>
#include <cstddef>
#include <functional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "engine/core/token_id.h"
#include "engine/tokenizer/tokenizer.h"

namespace llmrun {

struct AddedToken {
  std::string content;
  bool single_word = false;  // only where no word character touches it
  bool lstrip = false;       // takes the white space before it
  bool rstrip = false;       // takes the white space after it
  bool normalized = true;    // looked for in the normalized text, in its normalized form
  bool special = false;
};

// A part of a text: a token that was found, or text between such tokens.
struct TextSpan {
  static constexpr TokenId kText = -1;
  std::string_view text;
  TokenId id = kText;
};

// Finds the leftmost, then longest, of a set of patterns.
class PatternSet {
 public:
  struct Match {
    std::size_t begin;
    std::size_t length;
    TokenId id;
  };

  // Of equal patterns the first one added counts. Empty patterns are ignored.
  void add(std::string pattern, TokenId id);
  void build();

  bool empty() const { return patterns_.empty(); }
  // The first match at or after `begin`; false when there is none. REQUIRES: build() was called.
  bool find(std::string_view text, std::size_t begin, Match& match) const;

 private:
  struct Pattern {
    std::string text;
    TokenId id;
  };
  bool longest_at(std::string_view text, std::size_t begin, Match& match) const;

  std::vector<Pattern> patterns_;          // sorted by text
  std::array<bool, 256> is_first_byte_{};  // of some pattern
};

class AddedTokens {
 public:
  // Adds a token under `id`, or changes the flags of one that is there.
  void add(AddedToken token, TokenId id);

  // Prepares matching. `normalize` is the tokenizer's normalizer.
  void build(const std::function<std::string(std::string_view)>& normalize);

  // nullptr when no such token was added.
  const AddedToken* find(TokenId id) const;
  // kText when no such token was added.
  TokenId find(std::string_view content) const;
  // The largest id; kText when there is none.
  TokenId max_id() const { return max_id_; }
  const std::unordered_map<TokenId, AddedToken>& tokens() const { return by_id_; }

  // Cuts raw text at the tokens with normalized = false, and normalized text at the others.
  // The spans cover the text in order, except white space that a token takes.
  std::vector<TextSpan> split_raw(std::string_view text, SpecialTokenText special) const {
    return split(text, raw_patterns_, special);
  }
  std::vector<TextSpan> split_normalized(std::string_view text, SpecialTokenText special) const {
    return split(text, normalized_patterns_, special);
  }

 private:
  std::vector<TextSpan> split(std::string_view text, const PatternSet& patterns,
                              SpecialTokenText special) const;

  std::vector<std::pair<AddedToken, TokenId>> added_;  // in the order of add(), with old flags
  std::unordered_map<TokenId, AddedToken> by_id_;
  std::unordered_map<std::string, TokenId> by_content_;
  TokenId max_id_ = TextSpan::kText;
  PatternSet raw_patterns_;
  PatternSet normalized_patterns_;
};

}  // namespace llmrun
