#include "engine/chat_template/jinja_lexer.h"

#include <algorithm>
#include <optional>

#include <fmt/format.h>

#include "engine/chat_template/python_text.h"
#include "engine/core/utf8.h"

namespace llmrun::jinja {
namespace {

bool is_digit(char c) {
  return c >= '0' && c <= '9';
}
bool is_name_start(char32_t c) {
  if (c >= 0x80) return is_alphabetic(c);
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
}
bool is_name_part(char32_t c) {
  return is_name_start(c) || is_decimal_digit(c);
}
bool is_base_digit(char c, int base) {
  if (base <= 10) return c >= '0' && c < '0' + base;
  return is_digit(c) || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F');
}
int hex_value(char c) {
  return is_digit(c) ? c - '0' : (c | 0x20) - 'a' + 10;
}

// Resolves the escapes of a string literal as Python does; `offset` is that of `text`.
class StringLiteral {
 public:
  StringLiteral(std::string_view text, std::size_t offset) : text_(text), offset_(offset) {}

  std::string resolve() {
    std::string out;
    while (position_ < text_.size()) {
      const char c = text_[position_++];
      if (c != '\\' || position_ == text_.size()) {
        out.push_back(c);
      } else {
        resolve_escape(out, text_[position_++]);
      }
    }
    return out;
  }

 private:
  void resolve_escape(std::string& out, char c) {
    constexpr std::string_view kNames = "abfnrtv\\'\"";
    constexpr std::string_view kValues = "\a\b\f\n\r\t\v\\'\"";
    if (const std::size_t name = kNames.find(c); name != std::string_view::npos) {
      out.push_back(kValues[name]);
    } else if (c == '\n') {
      return;  // a line continued
    } else if (c == 'x') {
      append_utf8(out, hex_digits(2));
    } else if (c == 'u') {
      append_utf8(out, hex_digits(4));
    } else if (c == 'U') {
      append_utf8(out, hex_digits(8));
    } else if (c >= '0' && c <= '7') {
      auto value = static_cast<char32_t>(c - '0');
      for (int i = 0; i < 2 && position_ < text_.size() && is_base_digit(text_[position_], 8);
           ++i) {
        value = value * 8 + static_cast<char32_t>(text_[position_++] - '0');
      }
      append_utf8(out, value);
    } else if (c == 'N') {
      throw SyntaxError("the escape \\N{...} is not supported; write \\u....", place());
    } else {
      out.append({'\\', c});  // Python keeps unknown escapes
    }
  }

  char32_t hex_digits(int count) {
    char32_t value = 0;
    for (int i = 0; i < count; ++i) {
      if (position_ >= text_.size() || !is_base_digit(text_[position_], 16)) {
        throw SyntaxError(fmt::format("truncated escape, expected {} hexadecimal digits", count),
                          place());
      }
      value = value * 16 + static_cast<char32_t>(hex_value(text_[position_++]));
    }
    if (value > 0x10FFFF || (value >= 0xD800 && value <= 0xDFFF)) {
      throw SyntaxError(
          fmt::format("the escape U+{:04X} is not a character", static_cast<std::uint32_t>(value)),
          place());
    }
    return value;
  }

  std::size_t place() const { return offset_ + position_; }

  std::string_view text_;
  std::size_t offset_;
  std::size_t position_ = 0;
};

class Lexer {
 public:
  explicit Lexer(std::string_view source) : source_(source) {}

  std::vector<Token> run() {
    while (position_ < source_.size()) lex_data();
    push(TokenType::kEnd, "", source_.size());
    return std::move(tokens_);
  }

 private:
  bool starts_with(std::string_view text) const {
    return source_.substr(position_, text.size()) == text;
  }
  void push(TokenType type, std::string_view text, std::size_t offset) {
    tokens_.push_back({type, std::string(text), static_cast<std::uint32_t>(offset)});
  }
  void push_data(std::string_view text, std::size_t offset) {
    if (!text.empty()) push(TokenType::kData, text, offset);
  }
  void skip_space() {
    while (position_ < source_.size()) {
      std::size_t next = position_;
      if (!is_space(decode_code_point(source_, next))) return;
      position_ = next;
    }
  }

  // The text before a tag, after the whitespace control of the tag's beginning.
  std::string_view strip_before(std::string_view text, char sign, bool is_variable) const {
    if (sign == '-') return strip(text, StripSide::kRight);
    if (sign == '+' || is_variable) return text;
    const std::size_t line_begin = text.rfind('\n') + 1;  // 0 if there is none
    if (line_begin == 0 && !at_line_start_) return text;
    const std::string_view line = text.substr(line_begin);
    return strip(line, StripSide::kLeft).empty() ? text.substr(0, line_begin) : text;
  }

  // A tag's end has been consumed; the next tag may be the first of its line.
  void note_line_start() { at_line_start_ = position_ > 0 && source_[position_ - 1] == '\n'; }

  char take_sign() {
    const char c = position_ < source_.size() ? source_[position_] : '\0';
    if (c != '-' && c != '+') return '\0';
    ++position_;
    return c;
  }

  // Text up to the next tag, and that tag.
  void lex_data() {
    const std::size_t begin = position_;
    std::size_t tag = source_.find('{', begin);
    while (tag != std::string_view::npos &&
           (tag + 1 >= source_.size() ||
            std::string_view("{%#").find(source_[tag + 1]) == std::string_view::npos)) {
      tag = source_.find('{', tag + 1);
    }
    if (tag == std::string_view::npos) {
      push_data(source_.substr(begin), begin);
      position_ = source_.size();
      return;
    }
    const char kind = source_[tag + 1];
    position_ = tag + 2;
    const char sign = take_sign();
    push_data(strip_before(source_.substr(begin, tag - begin), sign, kind == '{'), begin);
    if (kind == '#') return lex_comment(tag);
    if (kind == '%' && lex_raw(tag)) return;
    const bool is_variable = kind == '{';
    push(is_variable ? TokenType::kVariableBegin : TokenType::kBlockBegin, "", tag);
    lex_tag(is_variable);
    note_line_start();
  }

  void lex_comment(std::size_t tag) {
    if (position_ == source_.size()) return;  // jinja2 lets a comment begin at the very end
    const std::size_t end = source_.find("#}", position_);
    if (end == std::string_view::npos) throw SyntaxError("missing end of comment tag", tag);
    const char sign = end > position_ ? source_[end - 1] : '\0';
    position_ = end + 2;
    finish_block(sign);
    note_line_start();
  }

  // What follows a block's or comment's end: "-" strips, "+" keeps, otherwise one newline goes.
  void finish_block(char sign) {
    if (sign == '-') {
      skip_space();
    } else if (sign != '+' && position_ < source_.size() && source_[position_] == '\n') {
      ++position_;
    }
  }

  // {% raw %} ... {% endraw %}; false, with nothing consumed, if the tag is another one.
  bool lex_raw(std::size_t tag) {
    const std::size_t restart = position_;
    if (!take_word("raw") || !(starts_with("%}") || starts_with("-%}"))) {
      position_ = restart;
      return false;
    }
    const bool strips = source_[position_] == '-';
    position_ += strips ? 3 : 2;
    if (strips) skip_space();
    note_line_start();
    const std::size_t begin = position_;
    while (true) {
      const std::size_t end = source_.find("{%", position_);
      if (end == std::string_view::npos) throw SyntaxError("missing end of raw directive", tag);
      position_ = end + 2;
      const char sign = take_sign();
      if (!take_word("endraw")) continue;
      const char end_sign = take_sign();
      if (!starts_with("%}")) continue;
      position_ += 2;
      finish_block(end_sign);
      push_data(strip_before(source_.substr(begin, end - begin), sign, false), begin);
      note_line_start();
      return true;
    }
  }

  // A word with optional space around it.
  bool take_word(std::string_view word) {
    skip_space();
    if (!starts_with(word)) return false;
    position_ += word.size();
    skip_space();
    return true;
  }

  // The end of the tag, if it is here: no bracket may be open.
  bool take_tag_end(bool is_variable) {
    if (!open_brackets_.empty()) return false;
    const std::size_t begin = position_;
    const std::string_view end = is_variable ? "}}" : "%}";
    char sign = '\0';
    if (starts_with(end)) {
      position_ += 2;
    } else if (position_ + 1 < source_.size() && source_.substr(position_ + 1, 2) == end &&
               (source_[position_] == '-' || (source_[position_] == '+' && !is_variable))) {
      sign = source_[position_];
      position_ += 3;
    } else {
      return false;
    }
    push(is_variable ? TokenType::kVariableEnd : TokenType::kBlockEnd, "", begin);
    if (!is_variable) {
      finish_block(sign);
    } else if (sign == '-') {
      skip_space();
    }
    return true;
  }

  void lex_tag(bool is_variable) {
    open_brackets_.clear();
    while (position_ < source_.size()) {
      if (take_tag_end(is_variable)) return;
      const std::size_t before = position_;
      skip_space();
      if (position_ != before) continue;
      const char c = source_[position_];
      if (is_digit(c)) {
        lex_number();
      } else if (lex_name()) {
        continue;
      } else if (c == '\'' || c == '"') {
        lex_string(c);
      } else {
        lex_operator();
      }
    }
  }

  // A name, if one begins here.
  bool lex_name() {
    std::size_t end = position_;
    for (std::size_t next = end; next < source_.size(); end = next) {
      const char32_t c = decode_code_point(source_, next);
      if (!(end == position_ ? is_name_start(c) : is_name_part(c))) break;
    }
    if (end == position_) return false;
    push(TokenType::kName, source_.substr(position_, end - position_), position_);
    position_ = end;
    return true;
  }

  // \d+(_\d+)*
  std::size_t skip_digits(std::size_t begin, int base) const {
    std::size_t end = begin;
    while (end < source_.size()) {
      const bool joined = source_[end] == '_' && end > begin && end + 1 < source_.size();
      if (!is_base_digit(source_[joined ? end + 1 : end], base)) break;
      end += joined ? 2 : 1;
    }
    return end;
  }

  char at(std::size_t offset) const { return offset < source_.size() ? source_[offset] : '\0'; }

  void push_number(TokenType type, std::size_t end) {
    std::string digits(source_.substr(position_, end - position_));
    std::erase(digits, '_');
    push(type, digits, position_);
    position_ = end;
  }

  void lex_number() {
    const std::size_t begin = position_;
    std::size_t end = skip_digits(begin, 10);
    bool is_float = false;
    // After a '.' the digits are an index ("a.0.1"), never a float.
    if (begin == 0 || source_[begin - 1] != '.') {
      if (at(end) == '.' && is_digit(at(end + 1))) {
        is_float = true;
        end = skip_digits(end + 1, 10);
      }
      if ((at(end) | 0x20) == 'e') {
        const std::size_t exponent = end + ((at(end + 1) == '+' || at(end + 1) == '-') ? 2 : 1);
        if (is_digit(at(exponent))) {
          is_float = true;
          end = skip_digits(exponent, 10);
        }
      }
    }
    if (is_float) return push_number(TokenType::kFloat, end);
    if (source_[begin] == '0') {
      const char prefix = static_cast<char>(at(begin + 1) | 0x20);
      const int base = prefix == 'x' ? 16 : prefix == 'o' ? 8 : prefix == 'b' ? 2 : 0;
      const std::size_t digits = begin + 2 + (at(begin + 2) == '_' ? 1 : 0);
      if (base != 0 && is_base_digit(at(digits), base)) {
        return push_number(TokenType::kInteger, skip_digits(digits, base));
      }
      end = begin + 1;
      while (at(end) == '0' || (at(end) == '_' && at(end + 1) == '0')) ++end;
    }
    push_number(TokenType::kInteger, end);
  }

  void lex_string(char quote) {
    std::size_t end = position_ + 1;
    while (end < source_.size() && source_[end] != quote) end += source_[end] == '\\' ? 2 : 1;
    if (end >= source_.size()) throw SyntaxError("a string that does not end", position_);
    const std::string_view text = source_.substr(position_ + 1, end - position_ - 1);
    push(TokenType::kString, StringLiteral(text, position_ + 1).resolve(), position_);
    position_ = end + 1;
  }

  void lex_operator() {
    constexpr std::string_view kTwoCharacters[] = {"**", "//", "==", "!=", ">=", "<="};
    constexpr std::string_view kOneCharacter = "+-/*%~[](){}><=.:|,;";
    for (const std::string_view name : kTwoCharacters) {
      if (!starts_with(name)) continue;
      push(TokenType::kOperator, name, position_);
      position_ += 2;
      return;
    }
    const char c = source_[position_];
    if (kOneCharacter.find(c) == std::string_view::npos) {
      throw SyntaxError(fmt::format("unexpected character {}", repr(source_.substr(position_, 1))),
                        position_);
    }
    balance_bracket(c);
    push(TokenType::kOperator, source_.substr(position_, 1), position_);
    ++position_;
  }

  void balance_bracket(char c) {
    if (c == '(') open_brackets_.push_back(')');
    if (c == '[') open_brackets_.push_back(']');
    if (c == '{') open_brackets_.push_back('}');
    if (c != ')' && c != ']' && c != '}') return;
    if (open_brackets_.empty()) throw SyntaxError(fmt::format("unexpected '{}'", c), position_);
    const char expected = open_brackets_.back();
    open_brackets_.pop_back();
    if (c != expected) {
      throw SyntaxError(fmt::format("unexpected '{}', expected '{}'", c, expected), position_);
    }
  }

  std::string_view source_;
  std::size_t position_ = 0;
  bool at_line_start_ = true;
  std::string open_brackets_;  // the closing brackets that are due, innermost last
  std::vector<Token> tokens_;
};

}  // namespace

std::string normalize_newlines(std::string_view source) {
  std::string out;
  out.reserve(source.size());
  for (std::size_t i = 0; i < source.size(); ++i) {
    if (source[i] != '\r') {
      out.push_back(source[i]);
    } else if (i + 1 >= source.size() || source[i + 1] != '\n') {
      out.push_back('\n');
    }
  }
  if (!out.empty() && out.back() == '\n') out.pop_back();
  return out;
}

std::vector<Token> tokenize(std::string_view source) {
  return Lexer(source).run();
}

SourcePosition locate(std::string_view source, std::uint32_t offset) {
  const std::string_view before = source.substr(0, offset);
  const std::size_t line_begin = before.rfind('\n') + 1;
  return {.line = static_cast<int>(std::count(before.begin(), before.end(), '\n')) + 1,
          .column = static_cast<int>(count_code_points(before.substr(line_begin))) + 1};
}

}  // namespace llmrun::jinja
