#include "engine/stop_matcher.h"

#include <algorithm>
#include <utility>

#include "engine/core/error.h"

namespace llmrun {

StopMatcher::Pattern::Pattern(std::string stop_string)
    : text(std::move(stop_string)), border(text.size()) {
  std::size_t length = 0;
  for (std::size_t i = 1; i < text.size(); ++i) {
    while (length > 0 && text[i] != text[length]) length = border[length - 1];
    if (text[i] == text[length]) ++length;
    border[i] = length;
  }
}

void StopMatcher::Pattern::advance(char next) {
  if (complete()) num_matched = border[num_matched - 1];
  while (num_matched > 0 && text[num_matched] != next) num_matched = border[num_matched - 1];
  if (text[num_matched] == next) ++num_matched;
}

StopMatcher::StopMatcher(std::span<const std::string> stop_strings, bool include_stop)
    : include_stop_(include_stop) {
  patterns_.reserve(stop_strings.size());
  for (const std::string& stop : stop_strings) {
    LLMRUN_CHECK(!stop.empty());
    patterns_.emplace_back(stop);
  }
}

std::optional<std::string> StopMatcher::append(std::string_view piece, bool may_stop,
                                               std::string& out) {
  if (patterns_.empty()) {
    out.append(piece);
    return std::nullopt;
  }
  for (std::size_t i = 0; i < piece.size(); ++i) {
    const Pattern* longest = nullptr;
    for (Pattern& pattern : patterns_) {
      pattern.advance(piece[i]);
      const bool longer = longest == nullptr || pattern.text.size() > longest->text.size();
      if (may_stop && pattern.complete() && longer) longest = &pattern;
    }
    if (longest == nullptr) continue;
    // The stop string ends at byte i, and what it covers is held back or in this piece.
    held_.append(piece.substr(0, i + 1));
    out.append(held_, 0, held_.size() - (include_stop_ ? 0 : longest->text.size()));
    held_.clear();
    return longest->text;
  }
  std::size_t num_held = 0;
  for (const Pattern& pattern : patterns_) {
    // A stop string that is complete but may not stop can still be the beginning of another match.
    const std::size_t length =
        pattern.complete() ? pattern.border[pattern.num_matched - 1] : pattern.num_matched;
    num_held = std::max(num_held, length);
  }
  if (include_stop_) num_held = 0;
  held_.append(piece);
  out.append(held_, 0, held_.size() - num_held);
  held_.erase(0, held_.size() - num_held);
  return std::nullopt;
}

void StopMatcher::finish(std::string& out) {
  out.append(held_);
  held_.clear();
}

}  // namespace llmrun
