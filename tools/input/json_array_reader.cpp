#include "tools/input/json_array_reader.h"

#include <algorithm>
#include <utility>

#include <fmt/format.h>

#include "engine/core/json.h"

namespace llmrun {
namespace {

bool is_space(char c) {
  return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

// Follows one element to the byte behind it.
class ElementScanner {
 public:
  // Whether `c` still belongs to the element.
  bool take(char c) {
    if (in_string_) {
      if (escaped_) {
        escaped_ = false;
      } else if (c == '\\') {
        escaped_ = true;
      } else if (c == '"') {
        in_string_ = false;
      }
      return true;
    }
    if (closed_ || (depth_ == 0 && (c == ',' || c == ']' || c == '}'))) return false;
    if (c == '"') in_string_ = true;
    if (c == '{' || c == '[') ++depth_;
    if (c == '}' || c == ']') closed_ = --depth_ == 0;
    return true;
  }
  // An object or array has ended; the end of anything else is known by what comes behind it.
  bool closed() const { return closed_; }

 private:
  bool closed_ = false;
  std::uint64_t depth_ = 0;
  bool in_string_ = false;
  bool escaped_ = false;
};

}  // namespace

JsonArrayReader::JsonArrayReader(InputBuffer& input, std::size_t max_element_bytes)
    : input_(&input), max_element_bytes_(max_element_bytes) {
  input_->skip_byte_order_mark();
}

void JsonArrayReader::consume(std::size_t count) {
  const std::string_view text = input_->data().substr(0, count);
  line_ += std::count(text.begin(), text.end(), '\n');
  input_->consume(count);
}

void JsonArrayReader::skip_space() {
  do {
    const std::string_view data = input_->data();
    const auto* end = std::find_if_not(data.begin(), data.end(), is_space);
    consume(static_cast<std::size_t>(end - data.begin()));
    if (!input_->data().empty()) return;
  } while (input_->fill());
}

bool JsonArrayReader::take(char c) {
  skip_space();
  if (!input_->data().starts_with(c)) return false;
  consume(1);
  return true;
}

ArrayElement JsonArrayReader::fail(std::string error) {
  state_ = State::kDone;
  ArrayElement element;
  element.line = line_;
  element.offset = input_->offset();
  element.error = std::move(error);
  return element;
}

std::optional<ArrayElement> JsonArrayReader::next() {
  consume(pending_bytes_);
  pending_bytes_ = 0;
  if (state_ == State::kDone) return std::nullopt;
  if (state_ == State::kStart) {
    if (!take('[')) return fail("expected a JSON array, which begins with [");
    state_ = State::kElements;
  }
  if (take(']')) {
    skip_space();
    if (!input_->data().empty()) return fail("unexpected text behind the end of the array");
    state_ = State::kDone;
    return std::nullopt;
  }
  if (!first_ && !take(',')) {
    return fail(input_->data().empty() ? "the file ends inside the array; its end is missing"
                                       : "expected , or ] behind an element");
  }
  first_ = false;
  skip_space();
  return read_element();
}

ArrayElement JsonArrayReader::read_element() {
  ArrayElement element;
  element.line = line_;
  element.offset = input_->offset();
  ElementScanner scanner;
  std::size_t length = 0;  // of the part that is in data()
  bool ended = false;
  while (!ended) {
    const std::string_view data = input_->data();
    while (length < data.size() && scanner.take(data[length])) ++length;
    ended = length < data.size();
    if (length > max_element_bytes_) element.too_long = true;
    if (element.too_long) {
      element.length += length;
      consume(length);
      length = 0;
    }
    if (ended || input_->fill()) continue;
    if (!scanner.closed()) return fail("the file ends inside this element");
    break;
  }
  if (element.too_long) return element;
  element.text = input_->data().substr(0, length);
  element.length = length;
  if (length == 0) return fail("expected an element");
  pending_bytes_ = length;
  return element;
}

}  // namespace llmrun
