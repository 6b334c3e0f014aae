// Tokens to text one at a time. The texts returned by all append() and finish() calls, joined, are
// Tokenizer::decode() of all ids, and each of them is UTF-8.
#pragma once

#include <string>
#include <string_view>

#include "engine/core/token_id.h"
#include "engine/tokenizer/tokenizer.h"

namespace llmrun {

struct IncrementalDecoderOptions {
  bool skip_special_tokens = true;
  // The ids continue a text that is not decoded here (the prompt): a leading space is kept.
  bool continues_text = false;
};

// Holds back the bytes of an unfinished character; with byte tokens the whole run of them, because
// one bad byte at its end changes all of the run's text.
class IncrementalDecoder {
 public:
  // `tokenizer` must outlive the decoder.
  explicit IncrementalDecoder(const Tokenizer& tokenizer, IncrementalDecoderOptions options = {});

  // The text that `id` completes; often empty. Or appends it to `out`.
  std::string append(TokenId id);
  void append(TokenId id, std::string& out);

  // What is held back, with U+FFFD for what never became a character. No append() may follow.
  std::string finish();
  void finish(std::string& out);

 private:
  void flush_byte_run(std::string& out);
  void emit(std::string_view text, std::string& out);

  const Tokenizer* tokenizer_;
  DecodeRules rules_;
  bool skip_special_tokens_;
  bool at_start_;     // a leading space is still to be stripped
  std::string held_;  // an unfinished character, or a run of byte tokens
};

}  // namespace llmrun
