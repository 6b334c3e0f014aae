// Where the Unicode tables of Hugging Face's tokenizers are not those of PCRE2 and utf8proc: its
// regular expressions know Unicode 16 (PCRE2 10.42: 14), its normal forms and combining marks
// Unicode 9 (utf8proc 2.8: 15), its lower case a later one.
#pragma once

#include <optional>
#include <span>
#include <string_view>

namespace llmrun {

struct CodePointRange {
  char32_t first;
  char32_t last;
};

// The code points of a general category ("L", "Nd") that joined it after Unicode 14, sorted.
// Nothing for categories that are not in the table.
std::optional<std::span<const CodePointRange>> later_code_points(std::string_view category);

// REQUIRES: ranges are sorted.
bool contains(std::span<const CodePointRange> ranges, char32_t code_point);

// True for marks that Hugging Face's NFC takes for unassigned: it neither reorders nor composes
// them.
bool is_unknown_to_nfc(char32_t code_point);

// True for characters that Hugging Face's NFKC and NFKD take for unassigned, beside those.
bool is_unknown_to_nfkc(char32_t code_point);

// True for what Hugging Face's StripAccents takes away.
bool is_accent(char32_t code_point);

// The lower case of a letter that came after Unicode 14; 0 for all others.
char32_t later_lowercase(char32_t code_point);

}  // namespace llmrun
