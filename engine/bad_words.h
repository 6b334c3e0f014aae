// Words that must not be generated (vLLM's bad_words).
//
// A word is banned as the token sequences it has at the beginning of a text and, where that is
// another sequence of the same length, after a space. Its last token is banned whenever the output
// ends with the tokens before it; other ways to spell the word are not. A word with a token that
// the model does not have (a tokenizer may know more) cannot be generated, and is left out.
// Source: vllm/sampling_params.py, update_from_tokenizer; vllm/v1/sample/ops/bad_words.py.
#pragma once

#include <cstdint>
#include <limits>
#include <span>
#include <string>
#include <vector>

#include "engine/core/token_id.h"
#include "engine/tokenizer/tokenizer.h"

namespace llmrun {

class BadWords {
 public:
  // `vocab_size`: the model's tokens are 0 .. vocab_size - 1.
  BadWords(std::span<const std::string> words, const Tokenizer& tokenizer,
           std::int64_t vocab_size = std::numeric_limits<TokenId>::max());

  // What may not follow these output tokens: ascending, each id once.
  std::vector<TokenId> banned_token_ids(std::span<const TokenId> output_token_ids) const;

 private:
  void add(const std::vector<TokenId>& sequence, std::int64_t vocab_size);

  std::vector<std::vector<TokenId>> sequences_;  // none is empty
};

}  // namespace llmrun
