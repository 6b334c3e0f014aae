// Byte pair encoding of one piece of text. Its first symbols are bytes or characters.
// Source: Sennrich et al. 2016, arXiv 1508.07909; huggingface/tokenizers, models/bpe/model.rs and
// word.rs.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "engine/core/token_id.h"
#include "engine/tokenizer/string_index.h"

namespace llmrun {

// Which two adjacent tokens become which token; the pair with the lowest rank is merged first.
class MergeTable {
 public:
  struct Merge {
    std::uint32_t rank;
    TokenId id;  // of the merged token
  };

  explicit MergeTable(std::size_t num_merges);
  // Sets the merge of a pair; the last one set counts. REQUIRES: at most num_merges calls.
  void set(TokenId left, TokenId right, Merge merge);
  // nullptr when the pair does not merge.
  const Merge* find(TokenId left, TokenId right) const {
    const std::uint64_t key = make_key(left, right);
    for (std::size_t i = hash(key);; i = (i + 1) & mask_) {
      if (slots_[i].key == key) return &slots_[i].merge;
      if (slots_[i].key == kEmpty) return nullptr;
    }
  }

 private:
  static constexpr std::uint64_t kEmpty = ~std::uint64_t{0};
  struct Slot {
    std::uint64_t key = kEmpty;
    Merge merge{};
  };

  // Ids are not negative, so no key equals kEmpty.
  static std::uint64_t make_key(TokenId left, TokenId right) {
    return (static_cast<std::uint64_t>(left) << 32) | static_cast<std::uint32_t>(right);
  }
  std::size_t hash(std::uint64_t key) const {
    return static_cast<std::size_t>((key * 0x9E3779B97F4A7C15U) >> shift_);
  }

  std::vector<Slot> slots_;
  std::size_t mask_;
  int shift_;
};

struct BpeOptions {
  bool characters = false;     // the first symbols are characters, not bytes
  bool ignore_merges = false;  // a piece that is a token is that token, whatever the merges say
  bool byte_fallback = false;  // characters without a token become byte tokens ("<0xE4>")
  std::optional<TokenId> unk_token;  // for symbols without a token; without it they are dropped
  bool fuse_unk = false;             // neighbouring unknown symbols are one token
};

class BpeModel {
 public:
  // A token of the vocabulary, as it occurs in pieces. The string must outlive the model.
  struct Entry {
    std::string_view bytes;
    TokenId id;
  };
  // REQUIRES: no two entries have the same bytes or id; ids lie in [0, num_ids).
  BpeModel(const std::vector<Entry>& vocabulary, std::int32_t num_ids, MergeTable merges,
           BpeOptions options);

  // Appends the ids of one piece. Safe to call from several threads.
  void encode(std::string_view piece, std::vector<TokenId>& ids) const;

  // The id of the token that is spelled like this; StringIndex::kAbsent when there is none.
  TokenId find(std::string_view bytes) const { return vocabulary_.find(bytes); }

 private:
  // Whether encoding a token's own bytes gives that token; found out when first asked.
  enum class SelfEncoding : std::uint8_t { kUnknown, kYes, kNo };

  void append_bytes(std::string_view piece, std::vector<TokenId>& symbols) const;
  void append_characters(std::string_view piece, std::vector<TokenId>& symbols) const;
  bool append_byte_tokens(std::string_view character, std::vector<TokenId>& symbols) const;
  void merge_short(std::vector<TokenId>& ids, std::size_t begin) const;
  void merge_long(std::vector<TokenId>& ids, std::size_t begin) const;

  StringIndex vocabulary_;
  std::array<TokenId, 256> byte_ids_{};        // of tokens that are one byte
  std::array<TokenId, 256> byte_token_ids_{};  // of "<0x00>" and so on
  MergeTable merges_;
  BpeOptions options_;
  std::unique_ptr<std::atomic<SelfEncoding>[]> self_encoding_;
};

}  // namespace llmrun
