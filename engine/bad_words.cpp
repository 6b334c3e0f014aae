#include "engine/bad_words.h"

#include <algorithm>
#include <cstddef>

namespace llmrun {

BadWords::BadWords(std::span<const std::string> words, const Tokenizer& tokenizer,
                   std::int64_t vocab_size) {
  for (const std::string& word : words) {
    const std::size_t begin = word.find_first_not_of(" \t\n\v\f\r");
    if (begin == word.npos) continue;  // nothing but space
    const std::string text = word.substr(begin);
    const std::vector<TokenId> at_start = tokenizer.encode(text, false);
    const std::vector<TokenId> after_space = tokenizer.encode(" " + text, false);
    if (at_start.empty()) continue;
    // Of another length, the space is a token of its own and the word's tokens are the same.
    const bool is_other_spelling =
        after_space.size() == at_start.size() && after_space.front() != at_start.front();
    add(at_start, vocab_size);
    if (is_other_spelling) add(after_space, vocab_size);
  }
}

void BadWords::add(const std::vector<TokenId>& sequence, std::int64_t vocab_size) {
  if (*std::max_element(sequence.begin(), sequence.end()) < vocab_size) {
    sequences_.push_back(sequence);
  }
}

std::vector<TokenId> BadWords::banned_token_ids(std::span<const TokenId> output_token_ids) const {
  std::vector<TokenId> banned;
  for (const std::vector<TokenId>& sequence : sequences_) {
    const std::size_t num_before = sequence.size() - 1;
    if (num_before > output_token_ids.size()) continue;
    const auto tail = output_token_ids.last(num_before);
    if (std::equal(tail.begin(), tail.end(), sequence.begin())) banned.push_back(sequence.back());
  }
  std::sort(banned.begin(), banned.end());
  banned.erase(std::unique(banned.begin(), banned.end()), banned.end());
  return banned;
}

}  // namespace llmrun
