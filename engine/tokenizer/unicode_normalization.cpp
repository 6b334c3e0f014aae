#include "engine/tokenizer/unicode_normalization.h"

#include <algorithm>
#include <array>
#include <cstddef>
#include <vector>

#include <utf8proc.h>

#include "engine/core/error.h"
#include "engine/core/utf8.h"
#include "engine/tokenizer/unicode_ranges.h"

namespace llmrun {
namespace {

using CodePoints = std::vector<utf8proc_int32_t>;

// Characters that NFC keeps and that compose with nothing before them. Not all of them: the common
// scripts, so that most text needs no work.
bool is_stable(char32_t c) {
  return c < 0x300 ||                     // Latin
         (c >= 0x400 && c <= 0x482) ||    // Cyrillic
         (c >= 0x2010 && c <= 0x2027) ||  // dashes, quotes, bullets
         (c >= 0x3041 && c <= 0x3096) ||  // Hiragana
         (c >= 0x30A1 && c <= 0x30FA) ||  // Katakana
         (c >= 0x3001 && c <= 0x3003) ||  // ideographic punctuation
         (c >= 0x3400 && c <= 0x4DBF) ||  // CJK extension A
         (c >= 0x4E00 && c <= 0x9FFF) ||  // CJK
         (c >= 0xAC00 && c <= 0xD7A3) ||  // Hangul syllables
         (c >= 0xFF01 && c <= 0xFF5E) ||  // full-width ASCII
         (c >= 0x1F300 && c <= 0x1F64F);  // emoji
}

bool composes(NormalForm form) {
  return form == NormalForm::kNfc || form == NormalForm::kNfkc;
}

bool is_compatible(NormalForm form) {
  return form == NormalForm::kNfkc || form == NormalForm::kNfkd;
}

void append_decomposed(char32_t c, int options, CodePoints& out) {
  std::array<utf8proc_int32_t, 32> parts{};  // the longest decomposition has 18
  int boundary = 0;
  const utf8proc_ssize_t count =
      utf8proc_decompose_char(static_cast<utf8proc_int32_t>(c), parts.data(), parts.size(),
                              static_cast<utf8proc_option_t>(options), &boundary);
  LLMRUN_CHECK(count >= 0 && count <= static_cast<utf8proc_ssize_t>(parts.size()));
  out.insert(out.end(), parts.begin(), parts.begin() + count);
}

// Sorts each run of marks by combining class. utf8proc does this too, in quadratic time.
void sort_marks(CodePoints& text) {
  const auto combining_class = [](utf8proc_int32_t c) {
    return utf8proc_get_property(c)->combining_class;
  };
  for (auto begin = text.begin(); begin != text.end();) {
    if (combining_class(*begin) == 0) {
      ++begin;
      continue;
    }
    const auto end = std::find_if(begin, text.end(),
                                  [&](utf8proc_int32_t c) { return combining_class(c) == 0; });
    std::stable_sort(begin, end, [&](utf8proc_int32_t a, utf8proc_int32_t b) {
      return combining_class(a) < combining_class(b);
    });
    begin = end;
  }
}

// Appends the normal form of decomposed characters, and clears them.
void flush(CodePoints& text, NormalForm form, std::string& out) {
  sort_marks(text);
  auto length = static_cast<utf8proc_ssize_t>(text.size());
  if (composes(form)) {
    length = utf8proc_normalize_utf32(
        text.data(), length, static_cast<utf8proc_option_t>(UTF8PROC_STABLE | UTF8PROC_COMPOSE));
    LLMRUN_CHECK(length >= 0);
  }
  for (utf8proc_ssize_t i = 0; i < length; ++i) {
    append_utf8(out, static_cast<char32_t>(text[static_cast<std::size_t>(i)]));
  }
  text.clear();
}

}  // namespace

std::string to_normal_form(std::string_view text, NormalForm form) {
  const int options = UTF8PROC_STABLE | UTF8PROC_DECOMPOSE |
                      (is_compatible(form) ? static_cast<int>(UTF8PROC_COMPAT) : 0);
  std::string out;
  out.reserve(text.size());
  CodePoints stretch;  // between characters that Hugging Face does not know, which stay in place
  while (!text.empty()) {
    const auto [state, length, c] = first_utf8_character(text);
    if (is_unknown_to_nfc(c) || (is_compatible(form) && is_unknown_to_nfkc(c))) {
      flush(stretch, form, out);
      out.append(text.substr(0, length));
    } else {
      append_decomposed(c, options, stretch);
    }
    text.remove_prefix(length);
  }
  flush(stretch, form, out);
  return out;
}

bool is_surely_normal(std::string_view text, NormalForm form) {
  while (true) {
    std::size_t ascii = 0;
    while (ascii < text.size() && static_cast<unsigned char>(text[ascii]) < 0x80) ++ascii;
    text.remove_prefix(ascii);
    if (text.empty()) return true;
    if (form != NormalForm::kNfc) return false;
    const Utf8Character character = first_utf8_character(text);
    if (!is_stable(character.code_point)) return false;
    text.remove_prefix(character.length);
  }
}

std::string to_lowercase(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  while (!text.empty()) {
    const auto [state, length, c] = first_utf8_character(text);
    if (c == 0x130) {  // the only character whose lower case is two
      out += "i\u0307";
    } else if (const char32_t later = later_lowercase(c); later != 0) {
      append_utf8(out, later);
    } else {
      append_utf8(out, static_cast<char32_t>(utf8proc_tolower(static_cast<utf8proc_int32_t>(c))));
    }
    text.remove_prefix(length);
  }
  return out;
}

std::string strip_accents(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  while (!text.empty()) {
    const auto [state, length, c] = first_utf8_character(text);
    if (!is_accent(c)) out.append(text.substr(0, length));
    text.remove_prefix(length);
  }
  return out;
}

}  // namespace llmrun
