// The unigram language model over tokens: of all ways to cut a piece of text into tokens, the one
// with the highest sum of scores.
// Source: Kudo 2018, arXiv 1804.10959; huggingface/tokenizers, models/unigram/model.rs.
#pragma once

#include <array>
#include <optional>
#include <string_view>
#include <vector>

#include "engine/core/token_id.h"
#include "engine/tokenizer/prefix_trie.h"
#include "engine/tokenizer/string_index.h"

namespace llmrun {

class UnigramModel {
 public:
  // A token as it occurs in pieces; its index is its id. The string must outlive the model.
  struct Entry {
    std::string_view text;
    double score;
  };
  // `unk_id` stands for characters without a token, a run of them for one; without it they are
  // dropped. With `byte_fallback` such a run becomes byte tokens ("<0xE4>") where all are there.
  // REQUIRES: no two entries have the same text.
  UnigramModel(const std::vector<Entry>& vocabulary, std::optional<TokenId> unk_id,
               bool byte_fallback);

  // Appends the ids of one piece, in time linear in its length. Safe to call from several threads.
  // REQUIRES: piece is UTF-8.
  void encode(std::string_view piece, std::vector<TokenId>& ids) const;

  // The id of the token that is spelled like this; StringIndex::kAbsent when there is none.
  TokenId find(std::string_view text) const { return vocabulary_.find(text); }

 private:
  void append_unknown(std::string_view text, std::vector<TokenId>& ids) const;

  StringIndex vocabulary_;
  PrefixTrie trie_;
  std::vector<double> scores_;
  double unk_score_;
  std::optional<TokenId> unk_id_;
  bool byte_fallback_;
  std::array<TokenId, 256> byte_token_ids_{};
};

}  // namespace llmrun
