#include "engine/tokenizer/sentencepiece_spelling.h"

#include <charconv>
#include <utility>

#include <fmt/format.h>

namespace llmrun {

std::optional<char> parse_byte_token(std::string_view token) {
  if (token.size() != 6 || !token.starts_with("<0x") || token.back() != '>') return std::nullopt;
  unsigned byte = 0;
  const char* digits_end = token.data() + 5;
  const auto [end, error] = std::from_chars(token.data() + 3, digits_end, byte, 16);
  if (error != std::errc() || end != digits_end) return std::nullopt;
  return static_cast<char>(byte);
}

std::string make_byte_token(char byte) {
  return fmt::format("<0x{:02X}>", static_cast<unsigned char>(byte));
}

Token make_sentencepiece_token(std::string text, bool special) {
  const std::optional<char> byte = parse_byte_token(text);
  std::string bytes = byte ? std::string(1, *byte) : replace_all(text, kSpaceSymbol, " ");
  return {.text = std::move(text),
          .bytes = std::move(bytes),
          .known = true,
          .is_byte = byte.has_value(),
          .special = special};
}

void append_replaced(std::string& out, std::string_view text, std::string_view from,
                     std::string_view to) {
  while (true) {
    const std::size_t at = text.find(from);
    out.append(text.substr(0, at));
    if (at == text.npos) return;
    out.append(to);
    text.remove_prefix(at + from.size());
  }
}

std::string replace_all(std::string_view text, std::string_view from, std::string_view to) {
  std::string out;
  append_replaced(out, text, from, to);
  return out;
}

}  // namespace llmrun
