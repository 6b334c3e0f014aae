#include "engine/chat_template/jinja_parser.h"

#include <fmt/format.h>

#include "engine/chat_template/jinja_parser_state.h"

namespace llmrun::jinja {
namespace {

std::string describe(const Token& token) {
  switch (token.type) {
    case TokenType::kEnd: return "the end of the template";
    case TokenType::kBlockEnd: return "'%}'";
    case TokenType::kVariableEnd: return "'}}'";
    case TokenType::kBlockBegin: return "'{%'";
    case TokenType::kVariableBegin: return "'{{'";
    case TokenType::kData: return "text";
    case TokenType::kString: return "a string";
    default: return fmt::format("'{}'", token.text);
  }
}

std::string join_names(std::initializer_list<std::string_view> names) {
  return fmt::format("'{}'", fmt::join(names, "' or '"));
}

}  // namespace

Parser::DepthGuard::DepthGuard(Parser& parser) : parser_(parser) {
  if (++parser_.depth_ > kMaxParseDepth) {
    --parser_.depth_;  // no destructor runs for a guard that throws
    parser_.fail(fmt::format("the template is nested deeper than {} levels", kMaxParseDepth));
  }
}

Parser::Parser(std::string source) : source_(std::move(source)), tokens_(tokenize(source_)) {}

Template Parser::parse() {
  Block body = parse_block({});
  confirm_unknown_names(0);
  if (!unknown_names_.empty()) {
    throw SyntaxError(unknown_names_.front().message, unknown_names_.front().offset);
  }
  return {.source = std::move(source_), .body = std::move(body), .names = std::move(names_)};
}

const Token& Parser::next_token() const {
  return tokens_[std::min(position_ + 1, tokens_.size() - 1)];
}

Token Parser::take() {
  Token token = std::move(tokens_[position_]);
  if (position_ + 1 < tokens_.size()) ++position_;
  return token;
}

bool Parser::is_name(std::string_view name) const {
  return current().type == TokenType::kName && current().text == name;
}

bool Parser::is_operator(std::string_view op) const {
  return current().type == TokenType::kOperator && current().text == op;
}

bool Parser::take_name(std::string_view name) {
  if (!is_name(name)) return false;
  take();
  return true;
}

bool Parser::take_operator(std::string_view op) {
  if (!is_operator(op)) return false;
  take();
  return true;
}

void Parser::expect_operator(std::string_view op) {
  if (!take_operator(op)) fail(fmt::format("expected '{}', found {}", op, describe(current())));
}

void Parser::expect(TokenType type, std::string_view what) {
  if (current().type != type) fail(fmt::format("expected {}, found {}", what, describe(current())));
  take();
}

std::string Parser::expect_name() {
  if (current().type != TokenType::kName) {
    fail(fmt::format("expected a name, found {}", describe(current())));
  }
  return take().text;
}

void Parser::fail(const std::string& message) const {
  throw SyntaxError(message, current().offset);
}

int Parser::name_id(const std::string& name) {
  const auto [entry, inserted] = name_ids_.try_emplace(name, static_cast<int>(names_.size()));
  if (inserted) names_.push_back(name);
  return entry->second;
}

void Parser::forgive_unknown_names(std::size_t since) {
  const auto begin = unknown_names_.begin() + static_cast<std::ptrdiff_t>(since);
  unknown_names_.erase(std::remove_if(begin, unknown_names_.end(),
                                      [](const UnknownName& name) { return !name.is_certain; }),
                       unknown_names_.end());
}

void Parser::confirm_unknown_names(std::size_t since) {
  for (std::size_t i = since; i < unknown_names_.size(); ++i) unknown_names_[i].is_certain = true;
}

// Statements up to one of the end names, which is left as the current token; to the end of the
// template without end names.
Block Parser::parse_block(std::initializer_list<std::string_view> end_names) {
  const DepthGuard guard(*this);
  Block block;
  while (current().type != TokenType::kEnd) {
    const std::uint32_t offset = current().offset;
    const Token token = take();
    switch (token.type) {
      case TokenType::kData: block.push_back({Text{token.text}, offset}); break;
      case TokenType::kVariableBegin:
        block.push_back({Output{parse_tuple(true, false)}, offset});
        expect(TokenType::kVariableEnd, "'}}'");
        break;
      default:  // kBlockBegin
        for (const std::string_view name : end_names) {
          if (is_name(name)) return block;
        }
        block.push_back(parse_statement());
        expect(TokenType::kBlockEnd, "'%}'");
    }
  }
  if (end_names.size() > 0) {
    fail(fmt::format("the template ends without {}", join_names(end_names)));
  }
  return block;
}

// The rest of a tag, and the block it opens.
Block Parser::parse_statements(std::initializer_list<std::string_view> end_names) {
  take_operator(":");
  expect(TokenType::kBlockEnd, "'%}'");
  return parse_block(end_names);
}

Statement Parser::parse_statement() {
  if (current().type != TokenType::kName) fail("expected the name of a tag");
  const std::string name = current().text;
  if (name == "for") return parse_for();
  if (name == "if") return parse_if();
  if (name == "set") return parse_set();
  if (name == "macro") return parse_macro();
  if (name == "call") return parse_call_block();
  if (name == "filter") return parse_filter_block();
  if (name == "with") return parse_with();
  if (name == "generation") return parse_generation();
  if (name == "break" || name == "continue") return parse_loop_control(name == "break");
  for (const std::string_view known :
       {"block", "extends", "include", "import", "from", "autoescape", "print"}) {
    if (name == known) fail(fmt::format("the tag '{}' is not supported", name));
  }
  fail(fmt::format("unexpected tag '{}'", name));
}

Statement Parser::parse_for() {
  const std::uint32_t offset = take().offset;
  For loop;
  ++for_depth_;
  loop.target = parse_target(false);
  --for_depth_;
  if (!take_name("in")) fail(fmt::format("expected 'in', found {}", describe(current())));
  loop.iterable = parse_tuple(false, false);
  const std::size_t num_unknown = unknown_names_.size();
  ++for_depth_;
  if (take_name("if")) loop.condition = parse_expression();
  if (is_name("recursive")) fail("recursive loops are not supported");
  ++breakable_depth_;
  loop.body = parse_statements({"endfor", "else"});
  --breakable_depth_;
  if (take_name("else")) loop.otherwise = parse_statements({"endfor"});
  --for_depth_;
  confirm_unknown_names(num_unknown);
  parse_ending("endfor");
  return {std::move(loop), offset};
}

Statement Parser::parse_if() {
  const std::size_t num_unknown = unknown_names_.size();
  const std::uint32_t offset = take().offset;
  If statement;
  while (true) {
    ExpressionPtr condition = parse_tuple(false, false);
    statement.branches.emplace_back(std::move(condition),
                                    parse_statements({"elif", "else", "endif"}));
    if (take_name("elif")) continue;
    if (take_name("else")) statement.otherwise = parse_statements({"endif"});
    break;
  }
  forgive_unknown_names(num_unknown);
  parse_ending("endif");
  return {std::move(statement), offset};
}

Statement Parser::parse_set() {
  const std::uint32_t offset = take().offset;
  Target target = parse_target(true);
  if (take_operator("=")) {
    return {Set{std::move(target), parse_tuple(true, false)}, offset};
  }
  const std::size_t num_unknown = unknown_names_.size();
  SetBlock block{.target = std::move(target), .filter = nullptr, .body = {}};
  while (take_operator("|")) block.filter = parse_filter(std::move(block.filter));
  block.body = parse_statements({"endset"});
  confirm_unknown_names(num_unknown);
  parse_ending("endset");
  return {std::move(block), offset};
}

Statement Parser::parse_macro() {
  const std::uint32_t offset = take().offset;
  Macro macro{.name_id = 0, .definition = {}};
  macro.definition.name = expect_name();
  macro.name_id = name_id(macro.definition.name);
  parse_signature(macro.definition);
  parse_macro_body(macro.definition, "endmacro");
  return {std::move(macro), offset};
}

Statement Parser::parse_call_block() {
  const std::uint32_t offset = take().offset;
  CallBlock block;
  if (is_operator("(")) parse_signature(block.caller);
  const std::uint32_t call_offset = current().offset;
  block.call = parse_expression();
  if (!std::holds_alternative<Call>(block.call->node)) {
    throw SyntaxError("expected a call", call_offset);
  }
  parse_macro_body(block.caller, "endcall");
  return {std::move(block), offset};
}

Statement Parser::parse_filter_block() {
  const std::size_t num_unknown = unknown_names_.size();
  const std::uint32_t offset = take().offset;
  FilterBlock block;
  block.filter = parse_filter(nullptr);
  while (take_operator("|")) block.filter = parse_filter(std::move(block.filter));
  block.body = parse_statements({"endfilter"});
  confirm_unknown_names(num_unknown);
  parse_ending("endfilter");
  return {std::move(block), offset};
}

Statement Parser::parse_with() {
  const std::uint32_t offset = take().offset;
  With with;
  while (current().type != TokenType::kBlockEnd) {
    if (!with.variables.empty()) expect_operator(",");
    Target target = parse_target(false);
    expect_operator("=");
    with.variables.emplace_back(std::move(target), parse_expression());
  }
  const std::size_t num_unknown = unknown_names_.size();
  with.body = parse_statements({"endwith"});
  confirm_unknown_names(num_unknown);
  parse_ending("endwith");
  return {std::move(with), offset};
}

Statement Parser::parse_generation() {
  const std::uint32_t offset = take().offset;
  const std::size_t num_unknown = unknown_names_.size();
  const int breakable_depth = std::exchange(breakable_depth_, 0);
  Generation generation{.body = parse_statements({"endgeneration"})};
  breakable_depth_ = breakable_depth;
  confirm_unknown_names(num_unknown);
  parse_ending("endgeneration");
  return {std::move(generation), offset};
}

Statement Parser::parse_loop_control(bool is_break) {
  if (breakable_depth_ == 0) fail(fmt::format("'{}' outside of a loop", current().text));
  const std::uint32_t offset = take().offset;
  if (is_break) return {Break{}, offset};
  return {Continue{}, offset};
}

Target Parser::parse_target(bool with_namespace) {
  Target tuple{.kind = Target::Kind::kTuple, .name_id = 0, .attribute = {}, .items = {}};
  bool has_comma = false;
  while (!at_tuple_end() && !is_name("in")) {
    tuple.items.push_back(parse_single_target(with_namespace));
    if (!take_operator(",")) break;
    has_comma = true;
  }
  if (tuple.items.empty()) fail(fmt::format("expected a name, found {}", describe(current())));
  return has_comma ? std::move(tuple) : std::move(tuple.items.front());
}

Target Parser::parse_single_target(bool with_namespace) {
  const DepthGuard guard(*this);
  if (take_operator("(")) {
    Target target = parse_target(false);
    expect_operator(")");
    return target;
  }
  const Token token = current();
  Target target;
  const std::string name = expect_name();
  for (const std::string_view constant : {"true", "false", "none", "True", "False", "None"}) {
    if (name == constant) {
      throw SyntaxError(fmt::format("cannot assign to '{}'", name), token.offset);
    }
  }
  target.name_id = name_id(name);
  if (with_namespace && take_operator(".")) {
    target.kind = Target::Kind::kNamespaceAttribute;
    target.attribute = expect_name();
  } else if (name == "loop" && for_depth_ > 0) {
    throw SyntaxError("cannot assign to 'loop' in a for loop", token.offset);
  }
  return target;
}

void Parser::parse_signature(MacroDefinition& macro) {
  expect_operator("(");
  while (!is_operator(")")) {
    if (!macro.parameters.empty()) expect_operator(",");
    MacroParameter parameter{.name_id = name_id(expect_name()), .default_value = nullptr};
    if (take_operator("=")) {
      parameter.default_value = parse_expression();
    } else if (!macro.parameters.empty() && macro.parameters.back().default_value) {
      fail("a parameter without a default follows one with a default");
    }
    for (const MacroParameter& other : macro.parameters) {
      if (other.name_id == parameter.name_id) fail("two parameters of the same name");
    }
    macro.parameters.push_back(std::move(parameter));
  }
  expect_operator(")");
}

// The rest of the tag, the body and the end tag. Loops around the macro cannot be left from inside.
void Parser::parse_macro_body(MacroDefinition& macro, std::string_view end_name) {
  const std::size_t num_unknown = unknown_names_.size();
  const int breakable_depth = std::exchange(breakable_depth_, 0);
  open_macros_.push_back(&macro);
  macro.body = parse_statements({end_name});
  open_macros_.pop_back();
  breakable_depth_ = breakable_depth;
  confirm_unknown_names(num_unknown);
  parse_ending(end_name);
}

// The name of an end tag, which parse_block has found.
void Parser::parse_ending(std::string_view end_name) {
  if (!take_name(end_name)) {
    fail(fmt::format("expected '{}', found {}", end_name, describe(current())));
  }
}

Template parse_template(std::string_view source) {
  if (source.size() > kMaxTemplateBytes) {
    throw SyntaxError(
        fmt::format("the template has {} bytes, more than {}", source.size(), kMaxTemplateBytes),
        0);
  }
  return Parser(normalize_newlines(source)).parse();
}

}  // namespace llmrun::jinja
