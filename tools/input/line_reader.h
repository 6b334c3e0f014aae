// Lines of an input of any size.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

#include "tools/input/input_buffer.h"

namespace llmrun {

struct Line {
  std::string_view text{};   // without its end (LF or CRLF); empty when too long
  std::int64_t number = 0;   // from 1
  std::uint64_t offset = 0;  // of its first byte
  std::uint64_t size = 0;    // bytes, its end included
  bool too_long = false;     // its bytes were skipped
  bool ended = true;         // false: the input ends without a newline
};

class LineReader {
 public:
  // Will skip a byte order mark. `input` must outlive the reader.
  LineReader(InputBuffer& input, std::size_t max_line_bytes);

  // The view in it is valid until the next call. The end of the last line begins no further line.
  std::optional<Line> next();
  // Whether next() would return at once. Part of a line may be ready and the rest not; next() then
  // waits for it.
  bool ready() const;

 private:
  void skip_byte_order_mark();
  // Offset in data() of the newline that ends the line; npos when the input has none.
  std::size_t find_newline();
  Line skip_long_line(Line line);

  InputBuffer* input_;
  std::size_t max_line_bytes_;
  std::int64_t num_lines_ = 0;
  std::size_t pending_bytes_ = 0;  // of the line returned last, consumed by the next call
};

}  // namespace llmrun
