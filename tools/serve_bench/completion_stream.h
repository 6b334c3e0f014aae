// The body of a streamed completion, /v1/completions or /v1/chat/completions, read piece by piece.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "tools/http/sse_parser.h"

namespace llmrun {

class CompletionStream {
 public:
  // `keep_text`: what was generated is kept in text().
  explicit CompletionStream(bool keep_text) : keep_text_(keep_text) {}

  struct Pieces {
    std::int32_t num_pieces = 0;  // events that carry output
    std::int32_t num_tokens = 0;  // in them; 0: not told (no token_ids)
  };
  // Returns what `bytes` completed. A chat's first event, which has only the role, and the events
  // of the end (finish reason, usage) carry no output.
  Pieces feed(std::string_view bytes);

  // "[DONE]" has come.
  bool is_done() const { return is_done_; }
  // What the server says went wrong, or what is wrong with the stream; empty: nothing.
  const std::string& error() const { return error_; }
  // Of the usage event; -1: there was none.
  std::int64_t num_prompt_tokens() const { return num_prompt_tokens_; }
  std::int64_t num_output_tokens() const { return num_output_tokens_; }
  const std::string& text() const { return text_; }

 private:
  void take_event(std::string_view data, Pieces& pieces);

  bool keep_text_;
  SseParser parser_;
  bool is_done_ = false;
  std::string error_;
  std::int64_t num_prompt_tokens_ = -1;
  std::int64_t num_output_tokens_ = -1;
  std::string text_;
};

}  // namespace llmrun
