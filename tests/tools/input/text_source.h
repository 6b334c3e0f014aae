// A text as an input that arrives in pieces.
#pragma once

#include <algorithm>
#include <cstddef>
#include <memory>
#include <span>
#include <string>
#include <utility>

#include "tools/input/input_buffer.h"

namespace llmrun {

class TextSource final : public ByteSource {
 public:
  TextSource(std::string text, std::size_t piece) : text_(std::move(text)), piece_(piece) {}
  std::size_t read(std::span<char> out) override {
    const std::size_t count = std::min({piece_, out.size(), text_.size() - position_});
    std::copy_n(text_.begin() + static_cast<std::ptrdiff_t>(position_), count, out.begin());
    position_ += count;
    return count;
  }

 private:
  std::string text_;
  std::size_t piece_;
  std::size_t position_ = 0;
};

// A window of `chunk` bytes on a text that arrives in pieces.
inline InputBuffer make_input(std::string text, std::size_t piece, std::size_t chunk = 64) {
  return InputBuffer(std::make_unique<TextSource>(std::move(text), piece), chunk);
}

}  // namespace llmrun
