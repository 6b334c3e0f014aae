// Text to token ids and back, equal to Hugging Face's tokenizers. One tokenizer serves all threads.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "engine/core/token_id.h"

namespace llmrun {

// What happens to the spelling of a special token ("<|eot_id|>") inside a text.
enum class SpecialTokenText : std::uint8_t {
  kRecognize,  // it becomes the token, as in Hugging Face and as chat templates need it
  kPlainText,  // it is encoded like any other text (split_special_tokens=True): for untrusted input
};

// The tokens with a role; absent when the model has none.
struct SpecialTokenIds {
  std::optional<TokenId> bos;
  std::optional<TokenId> eos;
  std::optional<TokenId> pad;
  std::optional<TokenId> unk;
};

// The spaces at the beginning of a decoded text that encoding put there.
enum class LeadingSpace : std::uint8_t {
  kKeep,
  kDropOne,           // one space is dropped
  kDropInFirstToken,  // all spaces of the first token are dropped
};

// How the bytes of tokens become text.
struct DecodeRules {
  // Byte tokens ("<0xE4>") exist: a run of them is text when the whole run is UTF-8, otherwise one
  // U+FFFD for each byte. Without them all bytes are joined and bad UTF-8 is replaced.
  bool byte_fallback = false;
  LeadingSpace leading_space = LeadingSpace::kKeep;
};

class Tokenizer {
 public:
  virtual ~Tokenizer() = default;

  // The ids of `text`. Bytes that are not UTF-8 count as U+FFFD, as with Python's
  // errors="replace". `add_special_tokens` adds what the model wants around a plain prompt (BOS);
  // text made by a chat template has it already. Time is n log n in the bytes of `text` at worst.
  // Throws Error(kModel) when the model's own pattern gives up on the text.
  std::vector<TokenId> encode(
      std::string_view text, bool add_special_tokens,
      SpecialTokenText special_token_text = SpecialTokenText::kRecognize) const;

  // The text of `ids`, always UTF-8. Ids without a token add nothing.
  std::string decode(std::span<const TokenId> ids, bool skip_special_tokens) const;

  // One more than the largest id that has a token. A model's logits may have more rows; those ids
  // must never be sampled.
  virtual std::int32_t vocab_size() const = 0;

  // Bytes the token adds to a text, maybe only a part of a character; empty for ids without a
  // token. Valid as long as the tokenizer.
  virtual std::string_view token_bytes(TokenId id) const = 0;

  // True for a token that stands for one byte under DecodeRules::byte_fallback.
  virtual bool is_byte_token(TokenId id) const = 0;

  // True for tokens that skip_special_tokens leaves out.
  virtual bool is_special(TokenId id) const = 0;

  // The id of a token as the vocabulary spells it ("<|eot_id|>", "Ġthe", "▁the").
  virtual std::optional<TokenId> token_to_id(std::string_view token) const = 0;

  virtual const SpecialTokenIds& special_token_ids() const = 0;
  virtual DecodeRules decode_rules() const = 0;

  // True when encode(text, true) begins with the BOS token.
  virtual bool adds_bos() const = 0;

  // token_bytes as UTF-8, for reports and logprobs; bytes that are no character become U+FFFD.
  std::string piece(TokenId id) const;

 protected:
  // Appends the ids of `text`, which is UTF-8.
  virtual void encode_utf8(std::string_view text, bool add_special_tokens,
                           SpecialTokenText special_token_text,
                           std::vector<TokenId>& ids) const = 0;
};

// The tokenizer of a Hugging Face model folder: tokenizer.json, else tokenizer.model, else
// vocab.json and merges.txt, with tokenizer_config.json, special_tokens_map.json and
// added_tokens.json beside it. Throws Error(kModel) that names file and key, or line or byte, of
// what is missing, malformed or not supported.
std::unique_ptr<Tokenizer> load_tokenizer(const std::filesystem::path& model_dir);

}  // namespace llmrun
