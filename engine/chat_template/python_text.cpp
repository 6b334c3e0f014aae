#include "engine/chat_template/python_text.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <limits>

#include <fmt/format.h>
#include <utf8proc.h>

#include "engine/core/utf8.h"

namespace llmrun::jinja {
namespace {

// Bytes of the sequence that begins with `lead`; 1 for a stray byte.
std::size_t sequence_length(unsigned char lead) {
  if (lead < 0xC2) return 1;
  if (lead < 0xE0) return 2;
  if (lead < 0xF0) return 3;
  return lead < 0xF5 ? 4 : 1;
}

utf8proc_category_t category(char32_t code_point) {
  return utf8proc_category(static_cast<utf8proc_int32_t>(code_point));
}

bool is_line_break(char32_t c) {
  return (c >= 0x0A && c <= 0x0D) || (c >= 0x1C && c <= 0x1E) || c == 0x85 || c == 0x2028 ||
         c == 0x2029;
}

bool is_printable(char32_t c) {
  if (c == ' ') return true;
  switch (category(c)) {
    case UTF8PROC_CATEGORY_CC:
    case UTF8PROC_CATEGORY_CF:
    case UTF8PROC_CATEGORY_CS:
    case UTF8PROC_CATEGORY_CO:
    case UTF8PROC_CATEGORY_CN:
    case UTF8PROC_CATEGORY_ZL:
    case UTF8PROC_CATEGORY_ZP:
    case UTF8PROC_CATEGORY_ZS: return false;
    default: return true;
  }
}

bool is_cased(char32_t c) {
  return is_upper_case(c) || is_lower_case(c) || category(c) == UTF8PROC_CATEGORY_LT;
}

enum class LetterCase { kUpper, kLower, kTitle };

void append_cased(std::string& out, char32_t c, LetterCase letter_case) {
  if (c < 0x80) {
    const bool is_letter =
        letter_case == LetterCase::kLower ? (c >= 'A' && c <= 'Z') : (c >= 'a' && c <= 'z');
    out.push_back(static_cast<char>(is_letter ? c ^ 0x20U : c));
    return;
  }
  // The common letters whose mapping is longer than one code point.
  if (c == 0xDF && letter_case != LetterCase::kLower) {
    out += letter_case == LetterCase::kUpper ? "SS" : "Ss";
    return;
  }
  if (c == 0x130 && letter_case == LetterCase::kLower) {
    out += "i\xCC\x87";
    return;
  }
  const auto code = static_cast<utf8proc_int32_t>(c);
  switch (letter_case) {
    case LetterCase::kUpper: return append_utf8(out, static_cast<char32_t>(utf8proc_toupper(code)));
    case LetterCase::kLower: return append_utf8(out, static_cast<char32_t>(utf8proc_tolower(code)));
    case LetterCase::kTitle: return append_utf8(out, static_cast<char32_t>(utf8proc_totitle(code)));
  }
}

// First code point in `first`, the others in lower case.
std::string recase(std::string_view text, LetterCase first, LetterCase rest) {
  std::string out;
  out.reserve(text.size());
  for (std::size_t offset = 0; offset < text.size();) {
    const bool at_start = offset == 0;
    append_cased(out, decode_code_point(text, offset), at_start ? first : rest);
  }
  return out;
}

bool is_continuation(char byte) {
  return (static_cast<unsigned char>(byte) & 0xC0U) == 0x80U;
}

// Where the code point that ends at `end` begins. REQUIRES: end > 0.
std::size_t previous_offset(std::string_view text, std::size_t end) {
  std::size_t begin = end - 1;
  while (begin > 0 && is_continuation(text[begin])) --begin;
  return begin;
}

// Where the first word ends, and where the last one begins, of a text that has no whitespace there.
std::size_t first_word_end(std::string_view text) {
  std::size_t end = 0;
  for (std::size_t next = 0; end < text.size(); end = next) {
    if (is_space(decode_code_point(text, next))) break;
  }
  return end;
}

std::size_t last_word_begin(std::string_view text) {
  std::size_t begin = text.size();
  while (begin > 0) {
    const std::size_t previous = previous_offset(text, begin);
    std::size_t next = previous;
    if (is_space(decode_code_point(text, next))) break;
    begin = previous;
  }
  return begin;
}

std::vector<char32_t> sorted_code_points(std::string_view text) {
  std::vector<char32_t> code_points;
  for (std::size_t offset = 0; offset < text.size();) {
    code_points.push_back(decode_code_point(text, offset));
  }
  std::sort(code_points.begin(), code_points.end());
  return code_points;
}

bool begins_title_word(char32_t c) {
  return is_space(c) || c == '-' || c == '(' || c == '{' || c == '[' || c == '<';
}

}  // namespace

char32_t decode_code_point(std::string_view text, std::size_t& offset) {
  const auto lead = static_cast<unsigned char>(text[offset]);
  const std::size_t length = std::min(sequence_length(lead), text.size() - offset);
  ++offset;
  if (length == 1) return lead;
  char32_t code_point = lead & (0x7FU >> length);
  for (std::size_t i = 1; i < length; ++i) {
    const auto byte = static_cast<unsigned char>(text[offset]);
    if ((byte & 0xC0U) != 0x80U) break;
    code_point = (code_point << 6) | (byte & 0x3FU);
    ++offset;
  }
  return code_point;
}

std::size_t count_code_points(std::string_view text) {
  return static_cast<std::size_t>(
      std::count_if(text.begin(), text.end(), [](char byte) { return !is_continuation(byte); }));
}

std::size_t byte_offset(std::string_view text, std::size_t code_point_index) {
  std::size_t offset = 0;
  while (code_point_index > 0 && offset < text.size()) {
    ++offset;
    while (offset < text.size() && is_continuation(text[offset])) {
      ++offset;
    }
    --code_point_index;
  }
  return offset;
}

bool is_space(char32_t c) {
  return (c >= 0x09 && c <= 0x0D) || (c >= 0x1C && c <= 0x20) || c == 0x85 || c == 0xA0 ||
         c == 0x1680 || (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 || c == 0x202F ||
         c == 0x205F || c == 0x3000;
}

bool is_alphabetic(char32_t c) {
  switch (category(c)) {
    case UTF8PROC_CATEGORY_LU:
    case UTF8PROC_CATEGORY_LL:
    case UTF8PROC_CATEGORY_LT:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_LO: return true;
    default: return false;
  }
}

bool is_decimal_digit(char32_t c) {
  return category(c) == UTF8PROC_CATEGORY_ND;
}
bool is_upper_case(char32_t c) {
  return category(c) == UTF8PROC_CATEGORY_LU;
}
bool is_lower_case(char32_t c) {
  return category(c) == UTF8PROC_CATEGORY_LL;
}

std::string_view strip(std::string_view text, StripSide side,
                       std::optional<std::string_view> chars) {
  const std::vector<char32_t> stripped =
      chars ? sorted_code_points(*chars) : std::vector<char32_t>();
  const auto is_stripped = [&](std::size_t begin) {
    const char32_t c = decode_code_point(text, begin);
    return chars ? std::binary_search(stripped.begin(), stripped.end(), c) : is_space(c);
  };
  std::size_t begin = 0;
  std::size_t end = text.size();
  if (side != StripSide::kRight) {
    while (begin < end) {
      std::size_t next = begin;
      decode_code_point(text, next);
      if (!is_stripped(begin)) break;
      begin = next;
    }
  }
  if (side != StripSide::kLeft) {
    while (end > begin) {
      const std::size_t previous = std::max(previous_offset(text, end), begin);
      if (!is_stripped(previous)) break;
      end = previous;
    }
  }
  return text.substr(begin, end - begin);
}

void split_whitespace(std::string_view text, std::int64_t max_splits, bool from_right,
                      const PartFunction& add_part) {
  const StripSide side = from_right ? StripSide::kRight : StripSide::kLeft;
  std::string_view rest = strip(text, side);
  while (!rest.empty() && max_splits-- != 0) {
    const std::size_t edge = from_right ? last_word_begin(rest) : first_word_end(rest);
    add_part(from_right ? rest.substr(edge) : rest.substr(0, edge));
    rest = strip(from_right ? rest.substr(0, edge) : rest.substr(edge), side);
  }
  if (!rest.empty()) add_part(rest);
}

void split(std::string_view text, std::string_view separator, std::int64_t max_splits,
           bool from_right, const PartFunction& add_part) {
  while (max_splits-- != 0) {
    const std::size_t found = from_right ? find_last(text, separator) : find_first(text, separator);
    if (found == std::string_view::npos) break;
    if (from_right) {
      add_part(text.substr(found + separator.size()));
      text = text.substr(0, found);
    } else {
      add_part(text.substr(0, found));
      text.remove_prefix(found + separator.size());
    }
  }
  add_part(text);
}

std::vector<std::string_view> split(std::string_view text, std::string_view separator) {
  std::vector<std::string_view> parts;
  split(text, separator, -1, false, [&parts](std::string_view part) { parts.push_back(part); });
  return parts;
}

void split_lines(std::string_view text, bool keep_ends, const PartFunction& add_part) {
  std::size_t begin = 0;
  for (std::size_t offset = 0; offset < text.size();) {
    const std::size_t end = offset;
    const char32_t c = decode_code_point(text, offset);
    if (!is_line_break(c)) continue;
    if (c == '\r' && offset < text.size() && text[offset] == '\n') ++offset;
    add_part(text.substr(begin, (keep_ends ? offset : end) - begin));
    begin = offset;
  }
  if (begin < text.size()) add_part(text.substr(begin));
}

std::size_t find_first(std::string_view text, std::string_view part, std::size_t offset) {
  if (offset > text.size()) return std::string_view::npos;
  if (part.empty()) return offset;
  // std::string_view::find is quadratic in the worst case; glibc's memmem is linear.
  const void* found = memmem(text.data() + offset, text.size() - offset, part.data(), part.size());
  if (found == nullptr) return std::string_view::npos;
  return static_cast<std::size_t>(static_cast<const char*>(found) - text.data());
}

std::size_t find_last(std::string_view text, std::string_view part) {
  return text.rfind(part);
}

std::size_t count_occurrences(std::string_view text, std::string_view part) {
  if (part.empty()) return count_code_points(text) + 1;
  std::size_t count = 0;
  for (std::size_t at = 0; (at = find_first(text, part, at)) != std::string_view::npos;
       at += part.size()) {
    ++count;
  }
  return count;
}

std::string replace(std::string_view text, std::string_view from, std::string_view to,
                    std::int64_t max_count) {
  std::string out;
  if (from.empty()) {  // Python inserts `to` before every code point and at the end
    std::size_t offset = 0;
    while (max_count != 0) {
      out += to;
      --max_count;
      if (offset >= text.size()) return out;
      const std::size_t begin = offset;
      decode_code_point(text, offset);
      out += text.substr(begin, offset - begin);
    }
    return out.append(text.substr(offset));
  }
  while (max_count-- != 0) {
    const std::size_t found = find_first(text, from);
    if (found == std::string_view::npos) break;
    out.append(text.substr(0, found)).append(to);
    text.remove_prefix(found + from.size());
  }
  return out.append(text);
}

std::string to_upper(std::string_view text) {
  return recase(text, LetterCase::kUpper, LetterCase::kUpper);
}

std::string to_lower(std::string_view text) {
  return recase(text, LetterCase::kLower, LetterCase::kLower);
}

std::string capitalize(std::string_view text) {
  return recase(text, LetterCase::kTitle, LetterCase::kLower);
}

std::string title_method(std::string_view text) {
  std::string out;
  bool in_word = false;
  for (std::size_t offset = 0; offset < text.size();) {
    const char32_t c = decode_code_point(text, offset);
    append_cased(out, c, in_word ? LetterCase::kLower : LetterCase::kTitle);
    in_word = is_cased(c);
  }
  return out;
}

std::string title_filter(std::string_view text) {
  std::string out;
  bool in_word = false;
  for (std::size_t offset = 0; offset < text.size();) {
    const char32_t c = decode_code_point(text, offset);
    if (begins_title_word(c)) {
      append_utf8(out, c);
      in_word = false;
    } else {
      append_cased(out, c, in_word ? LetterCase::kLower : LetterCase::kUpper);
      in_word = true;
    }
  }
  return out;
}

std::string reverse(std::string_view text) {
  std::string out(text.size(), '\0');
  std::size_t end = text.size();
  for (std::size_t offset = 0; offset < text.size();) {
    const std::size_t begin = offset;
    decode_code_point(text, offset);
    end -= offset - begin;
    std::copy(text.begin() + static_cast<std::ptrdiff_t>(begin),
              text.begin() + static_cast<std::ptrdiff_t>(offset),
              out.begin() + static_cast<std::ptrdiff_t>(end));
  }
  return out;
}

std::string repr(std::string_view text) {
  const bool has_single = text.find('\'') != std::string_view::npos;
  const bool has_double = text.find('"') != std::string_view::npos;
  const char quote = has_single && !has_double ? '"' : '\'';
  std::string out(1, quote);
  for (std::size_t offset = 0; offset < text.size();) {
    const std::size_t begin = offset;
    const char32_t c = decode_code_point(text, offset);
    if (c == static_cast<char32_t>(quote) || c == '\\') {
      out.append({'\\', static_cast<char>(c)});
    } else if (c == '\n') {
      out += "\\n";
    } else if (c == '\r') {
      out += "\\r";
    } else if (c == '\t') {
      out += "\\t";
    } else if (is_printable(c)) {
      out += text.substr(begin, offset - begin);
    } else if (c < 0x100) {
      out += fmt::format("\\x{:02x}", static_cast<std::uint32_t>(c));
    } else if (c < 0x10000) {
      out += fmt::format("\\u{:04x}", static_cast<std::uint32_t>(c));
    } else {
      out += fmt::format("\\U{:08x}", static_cast<std::uint32_t>(c));
    }
  }
  out.push_back(quote);
  return out;
}

std::string repr(double value) {
  if (std::isnan(value)) return "nan";
  if (std::isinf(value)) return value < 0 ? "-inf" : "inf";
  // d.ddde[+-]xx with the fewest digits; Python writes it positionally for -4 <= exponent < 16.
  char buffer[40] = {};  // zeros, so that the exponent ends
  const auto end =
      std::to_chars(buffer, buffer + sizeof buffer, value, std::chars_format::scientific);
  const std::string_view text(buffer, static_cast<std::size_t>(end.ptr - buffer));
  const std::size_t e = text.find('e');
  const int exponent = std::atoi(buffer + e + 1);
  if (exponent < -4 || exponent >= 16) return std::string(text);
  const bool negative = text[0] == '-';
  std::string digits;
  for (const char c : text.substr(0, e)) {
    if (c >= '0' && c <= '9') digits.push_back(c);
  }
  const int num_digits = static_cast<int>(digits.size());
  if (exponent < 0) {
    digits.insert(0, fmt::format("0.{:0>{}}", "", -exponent - 1));
  } else if (num_digits <= exponent + 1) {
    digits.append(static_cast<std::size_t>(exponent + 1 - num_digits), '0').append(".0");
  } else {
    digits.insert(digits.begin() + exponent + 1, '.');
  }
  if (negative) digits.insert(digits.begin(), '-');
  return digits;
}

namespace {

// Removes what Python allows around and inside numbers: white space, and '_' between digits.
std::optional<std::string> number_digits(std::string_view text) {
  const auto is_digit = [](char c) {
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
  };
  text = strip(text, StripSide::kBoth);
  std::string out;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '_') {
      out.push_back(text[i]);
    } else if (i == 0 || i + 1 == text.size() || !is_digit(text[i - 1]) || !is_digit(text[i + 1])) {
      return std::nullopt;
    }
  }
  return out;
}

}  // namespace

std::optional<std::int64_t> parse_int(std::string_view text, int base) {
  std::optional<std::string> digits = number_digits(text);
  if (!digits || digits->empty()) return std::nullopt;
  const bool negative = digits->front() == '-';
  if (negative || digits->front() == '+') digits->erase(0, 1);
  const std::string prefix = to_lower(digits->substr(0, 2));
  for (const auto& [name, prefix_base] :
       {std::pair{"0x", 16}, std::pair{"0o", 8}, std::pair{"0b", 2}}) {
    if (prefix == name && (base == prefix_base || base == 0)) {
      digits->erase(0, 2);
      base = prefix_base;
      break;
    }
  }
  if (base == 0) base = 10;
  if (base < 2 || base > 36 || digits->empty() || digits->front() == '-') return std::nullopt;
  if (negative) digits->insert(digits->begin(), '-');
  std::int64_t value = 0;
  const char* end = digits->data() + digits->size();
  const auto result = std::from_chars(digits->data(), end, value, base);
  if (result.ec != std::errc() || result.ptr != end) return std::nullopt;
  return value;
}

std::optional<double> parse_float(std::string_view text) {
  std::optional<std::string> digits = number_digits(text);
  if (!digits || digits->empty()) return std::nullopt;
  if (digits->front() == '+') {
    digits->erase(0, 1);
    if (!digits->empty() && digits->front() == '-') return std::nullopt;
  }
  if (digits->find('(') != std::string::npos) return std::nullopt;  // "nan(...)" is C, not Python
  double value = 0;
  const char* end = digits->data() + digits->size();
  const auto result = std::from_chars(digits->data(), end, value);
  if (result.ptr != end || digits->empty()) return std::nullopt;
  if (result.ec == std::errc::result_out_of_range) return std::strtod(digits->c_str(), nullptr);
  if (result.ec != std::errc()) return std::nullopt;
  return value;
}

}  // namespace llmrun::jinja
