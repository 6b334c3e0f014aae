// The elements of one large JSON array, one at a time, as text.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "tools/input/input_buffer.h"

namespace llmrun {

// One element, not yet parsed. Only its ends are known: brackets balance outside of strings.
struct ArrayElement {
  std::string_view text;     // empty when too long
  std::int64_t line = 0;     // where it begins, from 1
  std::uint64_t offset = 0;  // of its first byte
  std::uint64_t length = 0;  // bytes
  bool too_long = false;     // its bytes were skipped
  std::string error;         // why the array cannot be read from here on; it is then the last
};

class JsonArrayReader {
 public:
  // Skips a byte order mark. `input` must outlive the reader.
  JsonArrayReader(InputBuffer& input, std::size_t max_element_bytes);

  // The view in it is valid until the next call.
  std::optional<ArrayElement> next();

 private:
  enum class State { kStart, kElements, kDone };

  void skip_space();
  void consume(std::size_t count);
  // Takes `c`, after white space, if it is next.
  bool take(char c);
  // Reads to the element's end.
  ArrayElement read_element();
  ArrayElement fail(std::string error);

  InputBuffer* input_;
  std::size_t max_element_bytes_;
  State state_ = State::kStart;
  bool first_ = true;
  std::int64_t line_ = 1;
  std::size_t pending_bytes_ = 0;  // of the element returned last, consumed by the next call
};

}  // namespace llmrun
