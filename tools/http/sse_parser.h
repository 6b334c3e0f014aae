// Server-sent events, as they come from a socket: in pieces that end anywhere.
//
// Source: https://html.spec.whatwg.org/multipage/server-sent-events.html, section 9.2.6. Only the
// data of events is kept; event names, ids and retry times have no use here.
#pragma once

#include <cstddef>
#include <functional>
#include <string>
#include <string_view>

namespace llmrun {

class SseParser {
 public:
  // The data lines of an event, joined by newlines; valid during the call.
  using OnEvent = std::function<void(std::string_view data)>;

  static constexpr std::size_t kMaxEventBytes = std::size_t{1} << 20;

  // Calls `on_event` for every event that `bytes` completes. Lines end with LF, CRLF or CR;
  // comments are dropped, and so is an event without its closing empty line. Returns false once an
  // event is longer than kMaxEventBytes; nothing is parsed from then on.
  bool feed(std::string_view bytes, const OnEvent& on_event);

 private:
  void take_line(std::string_view line, const OnEvent& on_event);

  std::string line_;  // begun, not ended yet
  std::string data_;
  bool has_data_ = false;
  bool skip_line_feed_ = false;  // the line before ended with CR
  bool at_start_ = true;         // a byte order mark may come
  bool overflowed_ = false;
};

}  // namespace llmrun
