// tokenizer.json as it lies on disk, with its two large parts kept out of the JSON tree.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

#include "engine/core/token_id.h"
#include "engine/tokenizer/added_tokens.h"

namespace llmrun {

// Larger files, tokenizer.json or tokenizer.model, are refused.
inline constexpr std::uint64_t kMaxTokenizerBytes = 256 << 20;

struct TokenizerJson {
  struct VocabularyEntry {
    std::string token;
    TokenId id;
  };
  nlohmann::json root;                      // without model.vocab and model.merges
  std::vector<VocabularyEntry> vocabulary;  // model.vocab, in the order of the file
  std::vector<double> scores;               // of each entry, where model.vocab is a list of pairs
  std::vector<std::pair<std::string, std::string>> merges;  // model.merges, most urgent first
};

// Throws Error(kModel) that begins with `name` when `text` is not JSON, or vocabulary or merges are
// malformed: a pair that is not token and score, an id that is no integer from 0 to 2^24 or that
// lies far above the number of tokens, an id or a token twice, a merge that is not two strings.
TokenizerJson parse_tokenizer_json(std::string_view text, const std::string& name);

// Throws Error(kModel) for ids of the vocabulary as above. `name` begins the message.
void check_token_ids(const TokenizerJson& json, const std::string& name);

// An added token as tokenizer.json and tokenizer_config.json write it.
AddedToken parse_added_token(const nlohmann::json& value, const std::string& place);

}  // namespace llmrun
