// A SentencePiece model (tokenizer.model) with the rules of Hugging Face's LlamaTokenizer around
// the library: added and special tokens are cut out first, BOS and EOS are put around the text.
// Source: huggingface/transformers 4, models/llama/tokenization_llama.py.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "engine/tokenizer/added_tokens.h"
#include "engine/tokenizer/token_table.h"
#include "engine/tokenizer/tokenizer.h"
#include "engine/tokenizer/tokenizer_config.h"

namespace sentencepiece {
class SentencePieceProcessor;
}

namespace llmrun {

class SentencePieceTokenizer final : public Tokenizer {
 public:
  struct Options {
    // True: the library puts a space before every stretch of text between added tokens. False: one
    // space before the whole text, and only if add_prefix_space.
    bool legacy = true;
    bool add_prefix_space = true;
    bool add_bos_token = true;
    bool add_eos_token = false;
    bool remove_extra_whitespaces = false;  // of the model's normalizer
  };
  SentencePieceTokenizer(std::unique_ptr<sentencepiece::SentencePieceProcessor> processor,
                         TokenTable tokens, AddedTokens added_tokens,
                         SpecialTokenIds special_token_ids, Options options);
  ~SentencePieceTokenizer() override;

  std::int32_t vocab_size() const override { return tokens_.size(); }
  std::string_view token_bytes(TokenId id) const override { return tokens_[id].bytes; }
  bool is_byte_token(TokenId id) const override { return tokens_[id].is_byte; }
  bool is_special(TokenId id) const override { return tokens_[id].special; }
  std::optional<TokenId> token_to_id(std::string_view token) const override;
  const SpecialTokenIds& special_token_ids() const override { return special_token_ids_; }
  DecodeRules decode_rules() const override {
    return {
        .byte_fallback = true,
        .leading_space = options_.add_prefix_space ? LeadingSpace::kDropOne : LeadingSpace::kKeep};
  }
  bool adds_bos() const override {
    return options_.add_bos_token && special_token_ids_.bos.has_value();
  }

 protected:
  void encode_utf8(std::string_view text, bool add_special_tokens,
                   SpecialTokenText special_token_text, std::vector<TokenId>& ids) const override;

 private:
  void encode_spans(std::string_view text, SpecialTokenText special_token_text,
                    std::vector<TokenId>& ids) const;
  void encode_part(std::string_view text, std::vector<TokenId>& ids) const;
  std::vector<int> run_library(std::string_view text) const;

  std::unique_ptr<sentencepiece::SentencePieceProcessor> processor_;
  TokenTable tokens_;
  AddedTokens added_tokens_;
  SpecialTokenIds special_token_ids_;
  Options options_;
  std::string unk_text_;
  std::size_t unk_length_ = 0;  // pieces of unk_text_
};

// `bytes` is the content of a tokenizer.model, `name` names it in errors. Throws Error(kModel).
std::unique_ptr<Tokenizer> make_sentencepiece_tokenizer(std::string_view bytes,
                                                        const std::string& name,
                                                        const TokenizerConfig& config);

}  // namespace llmrun
