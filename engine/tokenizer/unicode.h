// The Unicode properties that added tokens and normalizers ask for, as Rust's regex crate defines
// \s and \w.
#pragma once

#include <cstddef>
#include <string_view>

namespace llmrun {

// \s: the White_Space property.
bool is_white_space(char32_t code_point);

// \w: Alphabetic, marks, decimal digits, connector punctuation and joiners.
bool is_word_character(char32_t code_point);

// Bytes of white space at the beginning and at the end of a text. REQUIRES: text is UTF-8.
std::size_t leading_white_space(std::string_view text);
std::size_t trailing_white_space(std::string_view text);

// The last character of a text. REQUIRES: text is UTF-8 and not empty.
std::string_view last_utf8_character(std::string_view text);

// Where the character after the one at `position` begins; at the end or past it, one byte on.
std::size_t next_utf8_character(std::string_view text, std::size_t position);

}  // namespace llmrun
