// Turns the source of a template into its syntax tree. Everything that is not supported is refused
// here, with its place: include, import, extends, block, autoescape, recursive loops, unknown
// filters and tests. Source: jinja2 3.1.6, parser.py.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

#include "engine/chat_template/jinja_ast.h"
#include "engine/chat_template/jinja_lexer.h"

namespace llmrun::jinja {

inline constexpr std::size_t kMaxTemplateBytes = 256U << 10;
// Statements, brackets and operators within each other.
inline constexpr int kMaxParseDepth = 64;

// Throws SyntaxError; its offset refers to normalize_newlines(source).
Template parse_template(std::string_view source);

}  // namespace llmrun::jinja
