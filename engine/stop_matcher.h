// Finds stop strings in text that comes in pieces, wherever the pieces are cut.
//
// Generation stops at the first byte at which some stop string is complete; of several that are
// complete there, the longest counts. So the result depends on the text alone, not on how tokens
// cut it. Text is handed on as soon as no stop string can begin in it.
#pragma once

#include <cstddef>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace llmrun {

class StopMatcher {
 public:
  // No stop string may be empty. With `include_stop`, the stop string stays in the text, and
  // nothing is ever held back.
  StopMatcher(std::span<const std::string> stop_strings, bool include_stop);

  // Appends to `out` the text that is certain by now. `may_stop` false: a stop string that is
  // complete within this piece is text like any other (min_tokens). Returns the stop string that
  // was found; the rest of the piece is then dropped, and no further call may follow.
  // Pieces and stop strings of valid UTF-8 give pieces of valid UTF-8.
  std::optional<std::string> append(std::string_view piece, bool may_stop, std::string& out);

  // Appends what is held back, when no more text comes.
  void finish(std::string& out);

 private:
  // A stop string and how much of it the text ends with (Knuth, Morris, Pratt).
  struct Pattern {
    std::string text;
    std::vector<std::size_t> border;  // [i]: longest proper prefix of text[0, i] that is its suffix
    std::size_t num_matched = 0;

    explicit Pattern(std::string stop_string);
    void advance(char next);
    bool complete() const { return num_matched == text.size(); }
  };

  std::vector<Pattern> patterns_;
  bool include_stop_;
  std::string held_;  // the end of the text: a prefix of some stop string
};

}  // namespace llmrun
