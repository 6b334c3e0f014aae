// A tokenizer whose vocabulary is a list. Encodes by the longest token that fits.
#pragma once

#include <cstddef>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "engine/tokenizer/tokenizer.h"

namespace llmrun {

class FakeTokenizer : public Tokenizer {
 public:
  struct Token {
    std::string bytes;
    bool is_special = false;
    bool is_byte = false;
  };

  explicit FakeTokenizer(std::vector<Token> tokens, DecodeRules rules = {})
      : tokens_(std::move(tokens)), rules_(rules) {}

  std::int32_t vocab_size() const override { return static_cast<std::int32_t>(tokens_.size()); }
  std::string_view token_bytes(TokenId id) const override { return token(id).bytes; }
  bool is_byte_token(TokenId id) const override { return token(id).is_byte; }
  bool is_special(TokenId id) const override { return token(id).is_special; }
  std::optional<TokenId> token_to_id(std::string_view /*token*/) const override { return {}; }
  const SpecialTokenIds& special_token_ids() const override { return special_token_ids_; }
  DecodeRules decode_rules() const override { return rules_; }
  bool adds_bos() const override { return false; }

 protected:
  void encode_utf8(std::string_view text, bool /*add_special_tokens*/,
                   SpecialTokenText /*special_token_text*/,
                   std::vector<TokenId>& ids) const override {
    while (!text.empty()) {
      std::size_t longest = 0;
      TokenId best = -1;
      for (TokenId id = 0; id < vocab_size(); ++id) {
        const std::string& bytes = token(id).bytes;
        if (bytes.size() > longest && text.starts_with(bytes)) {
          longest = bytes.size();
          best = id;
        }
      }
      if (best < 0) throw std::logic_error("no token for: " + std::string(text));
      ids.push_back(best);
      text.remove_prefix(longest);
    }
  }

 private:
  const Token& token(TokenId id) const { return tokens_.at(static_cast<std::size_t>(id)); }

  std::vector<Token> tokens_;
  DecodeRules rules_;
  SpecialTokenIds special_token_ids_;
};

}  // namespace llmrun
