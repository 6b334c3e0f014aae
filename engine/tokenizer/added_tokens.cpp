#include "engine/tokenizer/added_tokens.h"

#include <algorithm>
#include <utility>

#include "engine/core/utf8.h"
#include "engine/tokenizer/unicode.h"

namespace llmrun {
namespace {

bool ends_with_word(std::string_view text) {
  return !text.empty() &&
         is_word_character(first_utf8_character(last_utf8_character(text)).code_point);
}

bool starts_with_word(std::string_view text) {
  return !text.empty() && is_word_character(first_utf8_character(text).code_point);
}

}  // namespace

void PatternSet::add(std::string pattern, TokenId id) {
  if (!pattern.empty()) patterns_.push_back({std::move(pattern), id});
}

void PatternSet::build() {
  const auto by_text = [](const Pattern& a, const Pattern& b) { return a.text < b.text; };
  const auto same_text = [](const Pattern& a, const Pattern& b) { return a.text == b.text; };
  std::stable_sort(patterns_.begin(), patterns_.end(), by_text);
  patterns_.erase(std::unique(patterns_.begin(), patterns_.end(), same_text), patterns_.end());
  for (const Pattern& pattern : patterns_) {
    is_first_byte_[static_cast<unsigned char>(pattern.text[0])] = true;
  }
}

// Narrows the sorted patterns byte by byte to those that begin like the text.
bool PatternSet::longest_at(std::string_view text, std::size_t begin, Match& match) const {
  bool found = false;
  auto first = patterns_.begin();
  auto last = patterns_.end();
  for (std::size_t depth = 0; begin + depth < text.size(); ++depth) {
    const auto byte = static_cast<unsigned char>(text[begin + depth]);
    // Among patterns with the same `depth` bytes, one that ends there sorts first.
    first = std::partition_point(first, last, [&](const Pattern& pattern) {
      return pattern.text.size() == depth || static_cast<unsigned char>(pattern.text[depth]) < byte;
    });
    last = std::partition_point(first, last, [&](const Pattern& pattern) {
      return static_cast<unsigned char>(pattern.text[depth]) == byte;
    });
    if (first == last) break;
    if (first->text.size() == depth + 1) {
      match = {begin, depth + 1, first->id};
      found = true;
    }
  }
  return found;
}

bool PatternSet::find(std::string_view text, std::size_t begin, Match& match) const {
  if (patterns_.empty()) return false;
  for (; begin < text.size(); ++begin) {
    if (!is_first_byte_[static_cast<unsigned char>(text[begin])]) continue;
    if (longest_at(text, begin, match)) return true;
  }
  return false;
}

void AddedTokens::add(AddedToken token, TokenId id) {
  const auto old = by_id_.find(id);
  const bool was_special = old != by_id_.end() && old->second.special;
  max_id_ = std::max(max_id_, id);
  by_content_[token.content] = id;
  // Once special, a token stays special, and is looked for as it was first added.
  if (!was_special) added_.emplace_back(token, id);
  token.special = token.special || was_special;
  by_id_[id] = std::move(token);
}

void AddedTokens::build(const std::function<std::string(std::string_view)>& normalize) {
  for (const auto& [token, id] : added_) {
    if (token.normalized) {
      normalized_patterns_.add(normalize(token.content), id);
    } else {
      raw_patterns_.add(token.content, id);
    }
  }
  raw_patterns_.build();
  normalized_patterns_.build();
  added_.clear();
}

const AddedToken* AddedTokens::find(TokenId id) const {
  const auto token = by_id_.find(id);
  return token == by_id_.end() ? nullptr : &token->second;
}

TokenId AddedTokens::find(std::string_view content) const {
  const auto token = by_content_.find(std::string(content));
  return token == by_content_.end() ? TextSpan::kText : token->second;
}

std::vector<TextSpan> AddedTokens::split(std::string_view text, const PatternSet& patterns,
                                         SpecialTokenText special) const {
  std::vector<TextSpan> spans;
  std::size_t position = 0;  // text before it is in a span
  PatternSet::Match match{};
  for (std::size_t from = 0; patterns.find(text, from, match); from = match.begin + match.length) {
    const AddedToken& token = by_id_.at(match.id);
    std::size_t begin = match.begin;
    std::size_t end = match.begin + match.length;
    // A match that does not count still hides what lies inside it.
    if (special == SpecialTokenText::kPlainText && token.special) continue;
    if (token.single_word &&
        (ends_with_word(text.substr(0, begin)) || starts_with_word(text.substr(end)))) {
      continue;
    }
    if (token.lstrip) begin -= trailing_white_space(text.substr(0, begin));
    if (token.rstrip) end += leading_white_space(text.substr(end));
    if (position < begin) spans.push_back({text.substr(position, begin - position)});
    spans.push_back({text.substr(match.begin, match.length), match.id});
    position = end;
  }
  if (position < text.size()) spans.push_back({text.substr(position)});
  return spans;
}

}  // namespace llmrun
