// Unicode normal forms, lower case and stripped accents, as the normalizers of Hugging Face's
// tokenizers make them: with Unicode's tables of the versions that those know. Linear in the bytes
// of the text but for sorting runs of marks.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace llmrun {

// Source: Unicode Standard Annex 15.
enum class NormalForm : std::uint8_t { kNfc, kNfd, kNfkc, kNfkd };

// All of them: REQUIRES: text is UTF-8.
std::string to_normal_form(std::string_view text, NormalForm form);

// True when to_normal_form certainly leaves `text` as it is; false when that is not known.
bool is_surely_normal(std::string_view text, NormalForm form);

// Character by character, whatever stands around it.
std::string to_lowercase(std::string_view text);

// `text` without its combining marks.
std::string strip_accents(std::string_view text);

}  // namespace llmrun
