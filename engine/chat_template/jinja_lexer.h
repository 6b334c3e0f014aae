// Splits a template into tokens, with the whitespace rules of Hugging Face's settings of jinja2:
// trim_blocks, lstrip_blocks, one newline at the end dropped, all newlines become "\n".
// Source: jinja2 3.1.6, lexer.py.
#pragma once

#include <cstddef>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

namespace llmrun::jinja {

enum class TokenType {
  kData,  // text outside of tags
  kBlockBegin,
  kBlockEnd,
  kVariableBegin,
  kVariableEnd,
  kName,
  kString,  // text holds the value, escapes resolved
  kInteger,
  kFloat,
  kOperator,
  kEnd,
};

struct Token {
  TokenType type = TokenType::kEnd;
  std::string text;
  std::uint32_t offset = 0;  // byte in the normalized source
};

// A template that cannot be parsed; `offset` as in Token.
class SyntaxError : public std::runtime_error {
 public:
  SyntaxError(const std::string& message, std::size_t offset)
      : std::runtime_error(message), offset_(static_cast<std::uint32_t>(offset)) {}
  std::uint32_t offset() const { return offset_; }

 private:
  std::uint32_t offset_;
};

// Newlines become "\n"; one at the end is dropped.
std::string normalize_newlines(std::string_view source);

// Tokens of a normalized source; the last one is kEnd. Throws SyntaxError.
std::vector<Token> tokenize(std::string_view source);

// Line and column, both from 1, of a byte in the normalized source; columns count code points.
struct SourcePosition {
  int line = 1;
  int column = 1;
};
SourcePosition locate(std::string_view source, std::uint32_t offset);

}  // namespace llmrun::jinja
