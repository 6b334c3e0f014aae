// A tokenizer read from tokenizer.json: byte-level BPE (the families of GPT-2, Llama-3, Qwen2 and
// DeepSeek), BPE on characters with byte fallback (Llama-2, Mistral, Gemma), or a unigram model.
//
// Text goes through: added tokens in the raw text, normalizer, added tokens in the normalized text,
// pre-tokenizer, the model on each piece; then the template puts special tokens around it.
// Source: huggingface/tokenizers, tokenizer/mod.rs.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "engine/tokenizer/added_tokens.h"
#include "engine/tokenizer/bpe_model.h"
#include "engine/tokenizer/normalizer.h"
#include "engine/tokenizer/pre_tokenizer.h"
#include "engine/tokenizer/text_template.h"
#include "engine/tokenizer/token_table.h"
#include "engine/tokenizer/tokenizer.h"
#include "engine/tokenizer/tokenizer_config.h"
#include "engine/tokenizer/tokenizer_json.h"
#include "engine/tokenizer/unigram_model.h"

namespace llmrun {

class PipelineTokenizer final : public Tokenizer {
 public:
  struct Parts {
    TokenTable tokens;
    AddedTokens added_tokens;
    Normalizer normalizer;
    PreTokenizer pre_tokenizer;
    std::variant<BpeModel, UnigramModel> model;  // views the bytes of `tokens`
    // No token has a "▁" after another character: text may be cut before each such "▁", since no
    // merge crosses it. Short pieces are faster.
    bool cut_before_spaces = false;
    TextTemplate text_template;
    SpecialTokenIds special_token_ids;
    DecodeRules decode_rules;
  };
  explicit PipelineTokenizer(Parts parts) : parts_(std::move(parts)) {}

  std::int32_t vocab_size() const override { return parts_.tokens.size(); }
  std::string_view token_bytes(TokenId id) const override { return parts_.tokens[id].bytes; }
  bool is_byte_token(TokenId id) const override { return parts_.tokens[id].is_byte; }
  bool is_special(TokenId id) const override { return parts_.tokens[id].special; }
  std::optional<TokenId> token_to_id(std::string_view token) const override;
  const SpecialTokenIds& special_token_ids() const override { return parts_.special_token_ids; }
  DecodeRules decode_rules() const override { return parts_.decode_rules; }
  bool adds_bos() const override;

 protected:
  void encode_utf8(std::string_view text, bool add_special_tokens,
                   SpecialTokenText special_token_text, std::vector<TokenId>& ids) const override;

 private:
  void encode_piece(std::string_view piece, std::vector<TokenId>& ids) const;

  Parts parts_;
};

// `name` names the file in errors. Throws Error(kModel) for what is malformed, and by its name for
// a component that is not supported.
std::unique_ptr<Tokenizer> make_pipeline_tokenizer(const TokenizerJson& json,
                                                   const std::string& name,
                                                   const TokenizerConfig& config);

}  // namespace llmrun
