// Python's str on UTF-8: the functions that templates see as methods and filters of strings.
// Indices and lengths count code points, as in Python; offsets count bytes. Text is taken as valid
// UTF-8; a stray byte counts as one code point and is copied through.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace llmrun::jinja {

// The code point at `offset`, which moves past it. REQUIRES: offset < text.size().
char32_t decode_code_point(std::string_view text, std::size_t& offset);
std::size_t count_code_points(std::string_view text);
// Byte offset of the code point with that index; text.size() when there are fewer.
std::size_t byte_offset(std::string_view text, std::size_t code_point_index);

// str.isspace() of one code point.
bool is_space(char32_t code_point);
bool is_alphabetic(char32_t code_point);
bool is_decimal_digit(char32_t code_point);
bool is_upper_case(char32_t code_point);
bool is_lower_case(char32_t code_point);

enum class StripSide { kLeft, kRight, kBoth };
// str.strip(chars): without `chars`, whitespace.
std::string_view strip(std::string_view text, StripSide side,
                       std::optional<std::string_view> chars = std::nullopt);

// Receives the parts of a split string, one by one.
using PartFunction = std::function<void(std::string_view)>;

// str.split and str.rsplit without a separator (runs of whitespace) and with one. max_splits < 0
// means no limit. From the right, the last part comes first. REQUIRES: separator not empty, and not
// longer than kMaxPartFromRight from the right.
void split_whitespace(std::string_view text, std::int64_t max_splits, bool from_right,
                      const PartFunction& add_part);
void split(std::string_view text, std::string_view separator, std::int64_t max_splits,
           bool from_right, const PartFunction& add_part);
void split_lines(std::string_view text, bool keep_ends, const PartFunction& add_part);
// The parts of short texts, all at once.
std::vector<std::string_view> split(std::string_view text, std::string_view separator);

// The first occurrence of `part` at or after `offset`, and the last one; npos if there is none.
// Finding takes time linear in both lengths. Finding from the right does not for long parts, so
// those are refused: REQUIRES: part.size() <= kMaxPartFromRight.
std::size_t find_first(std::string_view text, std::string_view part, std::size_t offset = 0);
std::size_t find_last(std::string_view text, std::string_view part);
inline constexpr std::size_t kMaxPartFromRight = 64;

// str.count: how often `part` occurs, without overlap.
std::size_t count_occurrences(std::string_view text, std::string_view part);

// str.replace; max_count < 0 means all.
std::string replace(std::string_view text, std::string_view from, std::string_view to,
                    std::int64_t max_count = -1);

std::string to_upper(std::string_view text);
std::string to_lower(std::string_view text);
std::string capitalize(std::string_view text);
// str.title(): every run of cased letters is a word ("They'Re").
std::string title_method(std::string_view text);
// Jinja's filter `title`: words begin after white space, '-', '(', '{', '[' and '<' ("They're").
std::string title_filter(std::string_view text);
std::string reverse(std::string_view text);

// repr(text): quoted, with Python's choice of quotes and escapes.
std::string repr(std::string_view text);
// repr(value) of a float: the shortest text that reads back as the same number.
std::string repr(double value);

// int(text, base) and float(text); nullopt where Python raises ValueError or the value does not
// fit 64 bits.
std::optional<std::int64_t> parse_int(std::string_view text, int base);
std::optional<double> parse_float(std::string_view text);

}  // namespace llmrun::jinja
