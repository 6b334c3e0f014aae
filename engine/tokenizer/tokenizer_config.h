// The small files beside the vocabulary: tokenizer_config.json and, where it says nothing,
// special_tokens_map.json and added_tokens.json.
// Source: huggingface/transformers, tokenization_utils_base.py (_from_pretrained).
#pragma once

#include <cstddef>
#include <filesystem>
#include <optional>
#include <string>
#include <unordered_set>
#include <utility>
#include <vector>

#include "engine/core/token_id.h"
#include "engine/tokenizer/added_tokens.h"

namespace llmrun {

struct TokenizerConfig {
  std::string tokenizer_class;  // empty when not named
  std::optional<bool> add_bos_token;
  std::optional<bool> add_eos_token;
  std::optional<bool> add_prefix_space;
  std::optional<bool> legacy;

  // Tokens with a role, as their text.
  std::optional<AddedToken> bos_token;
  std::optional<AddedToken> eos_token;
  std::optional<AddedToken> unk_token;
  std::optional<AddedToken> pad_token;
  // Further special tokens: sep, cls, mask, additional_special_tokens.
  std::vector<AddedToken> other_special_tokens;

  // added_tokens_decoder, or else added_tokens.json, by id.
  std::vector<std::pair<TokenId, AddedToken>> added_tokens;

  // All tokens with a role and the further special ones, each content once; and their contents.
  std::vector<AddedToken> special_tokens() const;
  std::unordered_set<std::string> special_contents() const;
};

// Files that do not exist say nothing. Throws Error(kModel) that names file and key.
TokenizerConfig load_tokenizer_config(const std::filesystem::path& model_dir);

}  // namespace llmrun
