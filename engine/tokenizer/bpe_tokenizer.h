// A BPE tokenizer read from tokenizer.json: on bytes, the families of GPT-2, Llama-3 and Qwen2; on
// characters with byte fallback, those of Llama-2 and Mistral.
//
// Text goes through: added tokens in the raw text, normalizer, added tokens in the normalized text,
// pre-tokenizer, BPE of each piece; then the template puts special tokens around it.
// Source: huggingface/tokenizers, tokenizer/mod.rs.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "engine/tokenizer/added_tokens.h"
#include "engine/tokenizer/bpe_model.h"
#include "engine/tokenizer/normalizer.h"
#include "engine/tokenizer/pre_tokenizer.h"
#include "engine/tokenizer/token_table.h"
#include "engine/tokenizer/tokenizer.h"
#include "engine/tokenizer/tokenizer_config.h"

namespace llmrun {

// The special tokens that the post-processor puts around a plain text.
struct TextTemplate {
  std::vector<TokenId> prefix;
  std::vector<TokenId> suffix;
};

class BpeTokenizer final : public Tokenizer {
 public:
  struct Parts {
    TokenTable tokens;
    AddedTokens added_tokens;
    Normalizer normalizer;
    PreTokenizer pre_tokenizer;
    BpeModel model;  // views the bytes of `tokens`
    TextTemplate text_template;
    SpecialTokenIds special_token_ids;
    DecodeRules decode_rules;
  };
  explicit BpeTokenizer(Parts parts) : parts_(std::move(parts)) {}

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
  Parts parts_;
};

// `text` is the content of a tokenizer.json, `name` names it in errors. Throws Error(kModel) for
// what is malformed, and by its name for a component that is not supported.
std::unique_ptr<Tokenizer> make_bpe_tokenizer(std::string_view text, const std::string& name,
                                              const TokenizerConfig& config);

}  // namespace llmrun
