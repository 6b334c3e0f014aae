// What each token id stands for. Filled by a loader, then constant.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "engine/core/token_id.h"

namespace llmrun {

// Files with larger ids are refused: tables are indexed by id.
inline constexpr std::int64_t kMaxTokenId = 1 << 24;

struct Token {
  std::string text;      // as the vocabulary spells it
  std::string bytes;     // what it adds to decoded text
  bool known = false;    // false: a gap in the ids
  bool is_byte = false;  // stands for one byte under DecodeRules::byte_fallback
  bool special = false;
};

class TokenTable {
 public:
  // Room for ids below `num_ids`; ids in between are gaps until set.
  void resize(std::size_t num_ids) { tokens_.resize(num_ids); }
  // Sets or replaces a token. REQUIRES: 0 <= id.
  void set(TokenId id, Token token) {
    const auto index = static_cast<std::size_t>(id);
    if (index >= tokens_.size()) tokens_.resize(index + 1);
    tokens_[index] = std::move(token);
  }

  std::int32_t size() const { return static_cast<std::int32_t>(tokens_.size()); }
  // A gap for ids out of range.
  const Token& operator[](TokenId id) const {
    return id >= 0 && id < size() ? tokens_[static_cast<std::size_t>(id)] : gap_;
  }

 private:
  std::vector<Token> tokens_;
  Token gap_;
};

}  // namespace llmrun
