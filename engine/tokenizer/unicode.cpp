#include "engine/tokenizer/unicode.h"

#include <utf8proc.h>

#include "engine/core/utf8.h"
#include "engine/tokenizer/unicode_ranges.h"

namespace llmrun {

bool is_white_space(char32_t c) {
  if (c < 0x80) return (c >= 0x09 && c <= 0x0D) || c == 0x20;
  return c == 0x85 || c == 0xA0 || c == 0x1680 || (c >= 0x2000 && c <= 0x200A) || c == 0x2028 ||
         c == 0x2029 || c == 0x202F || c == 0x205F || c == 0x3000;
}

bool is_word_character(char32_t c) {
  // Symbols that are Alphabetic: circled and squared letters.
  if ((c >= 0x24B6 && c <= 0x24E9) || (c >= 0x1F130 && c <= 0x1F149) ||
      (c >= 0x1F150 && c <= 0x1F169) || (c >= 0x1F170 && c <= 0x1F189)) {
    return true;
  }
  if (c == 0x200C || c == 0x200D) return true;
  switch (utf8proc_category(static_cast<utf8proc_int32_t>(c))) {
    case UTF8PROC_CATEGORY_LU:
    case UTF8PROC_CATEGORY_LL:
    case UTF8PROC_CATEGORY_LT:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_LO:
    case UTF8PROC_CATEGORY_MN:
    case UTF8PROC_CATEGORY_MC:
    case UTF8PROC_CATEGORY_ME:
    case UTF8PROC_CATEGORY_ND:
    case UTF8PROC_CATEGORY_NL:
    case UTF8PROC_CATEGORY_PC: return true;
    default: break;
  }
  for (const char* category : {"L", "M", "Nd"}) {
    if (contains(*later_code_points(category), c)) return true;
  }
  return false;
}

std::string_view last_utf8_character(std::string_view text) {
  std::size_t begin = text.size() - 1;
  while (begin > 0 && (static_cast<unsigned char>(text[begin]) & 0xC0U) == 0x80) --begin;
  return text.substr(begin);
}

std::size_t next_utf8_character(std::string_view text, std::size_t position) {
  if (position >= text.size()) return position + 1;
  return position + first_utf8_character(text.substr(position)).length;
}

std::size_t leading_white_space(std::string_view text) {
  std::size_t length = 0;
  while (length < text.size()) {
    const Utf8Character first = first_utf8_character(text.substr(length));
    if (!is_white_space(first.code_point)) break;
    length += first.length;
  }
  return length;
}

std::size_t trailing_white_space(std::string_view text) {
  std::size_t length = 0;
  while (length < text.size()) {
    const std::string_view last = last_utf8_character(text.substr(0, text.size() - length));
    if (!is_white_space(first_utf8_character(last).code_point)) break;
    length += last.size();
  }
  return length;
}

}  // namespace llmrun
