#include "tools/input/line_reader.h"

#include "engine/core/error.h"

namespace llmrun {
namespace {

std::string_view without_carriage_return(std::string_view text) {
  if (!text.empty() && text.back() == '\r') text.remove_suffix(1);
  return text;
}

}  // namespace

LineReader::LineReader(InputBuffer& input, std::size_t max_line_bytes)
    : input_(&input), max_line_bytes_(max_line_bytes) {}

void LineReader::skip_byte_order_mark() {
  input_->skip_byte_order_mark();
}

std::size_t LineReader::find_newline() {
  std::size_t searched = 0;
  while (true) {
    const std::string_view data = input_->data();
    const std::size_t newline = data.find('\n', searched);
    // The two bytes more are those of CRLF.
    if (newline != data.npos || data.size() >= max_line_bytes_ + 2) return newline;
    searched = data.size();
    if (!input_->fill()) return data.npos;
  }
}

std::optional<Line> LineReader::next() {
  if (num_lines_ == 0) skip_byte_order_mark();
  input_->consume(pending_bytes_);
  pending_bytes_ = 0;
  const std::size_t newline = find_newline();
  const std::string_view data = input_->data();
  if (data.empty()) return std::nullopt;

  Line line;
  line.number = ++num_lines_;
  line.offset = input_->offset();
  line.ended = newline != data.npos;
  line.text = without_carriage_return(data.substr(0, newline));
  line.size = line.ended ? newline + 1 : data.size();
  if (line.text.size() > max_line_bytes_) return skip_long_line(line);
  pending_bytes_ = line.size;
  return line;
}

bool LineReader::ready() const {
  return input_->data().find('\n', pending_bytes_) != std::string_view::npos || input_->ready();
}

Line LineReader::skip_long_line(Line line) {
  line.text = {};
  line.too_long = true;
  line.size = 0;
  do {
    const std::string_view data = input_->data();
    const std::size_t newline = data.find('\n');
    line.ended = newline != data.npos;
    const std::size_t count = line.ended ? newline + 1 : data.size();
    line.size += count;
    input_->consume(count);
  } while (!line.ended && input_->fill());
  return line;
}

}  // namespace llmrun
