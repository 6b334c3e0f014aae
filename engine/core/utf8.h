// UTF-8 as RFC 3629 defines it: no overlong forms, no surrogates, nothing above U+10FFFF.
//
// Bad bytes are replaced as Python's errors="replace" and Rust's from_utf8_lossy do: one U+FFFD for
// each maximal subpart (Unicode Standard, section 3.9, "U+FFFD Substitution of Maximal Subparts").
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace llmrun {

// U+FFFD in UTF-8.
inline constexpr std::string_view kReplacementCharacter = "\xEF\xBF\xBD";

enum class Utf8State : std::uint8_t {
  kValid,       // a whole character
  kInvalid,     // bytes that no continuation can make a character
  kIncomplete,  // the text ends inside what may still become a character
};

// The character, or the maximal subpart of one, at the beginning of a text.
struct Utf8Character {
  Utf8State state;
  std::uint8_t length;  // bytes; >= 1
  char32_t code_point;  // meaningful when valid
};

// REQUIRES: text is not empty.
Utf8Character first_utf8_character(std::string_view text);

// Offset of the first byte that is not part of a whole character; npos when all of `text` is UTF-8.
std::size_t first_invalid_utf8(std::string_view text);
inline bool is_valid_utf8(std::string_view text) {
  return first_invalid_utf8(text) == std::string_view::npos;
}

// `text` with every maximal subpart of bad bytes replaced by U+FFFD.
std::string replace_invalid_utf8(std::string_view text);

// Bytes at the end of `text` that begin a character and may be completed by more bytes: 0 to 3.
std::size_t incomplete_utf8_tail(std::string_view text);

// REQUIRES: code_point is a Unicode scalar value.
void append_utf8(std::string& out, char32_t code_point);

}  // namespace llmrun
