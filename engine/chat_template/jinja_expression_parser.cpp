#include <charconv>
#include <cstdlib>
#include <type_traits>

#include <fmt/format.h>

#include "engine/chat_template/jinja_parser_state.h"

namespace llmrun::jinja {
namespace {

// Height of the tallest child of a node.
class ChildHeight {
 public:
  int operator()(const Literal& /*node*/) { return 0; }
  int operator()(const NameReference& /*node*/) { return 0; }
  int operator()(const SequenceLiteral& node) { return of(node.items); }
  int operator()(const DictLiteral& node) {
    for (const auto& [key, value] : node.items) of({key.get(), value.get()});
    return height_;
  }
  int operator()(const Attribute& node) { return of({node.object.get()}); }
  int operator()(const Subscript& node) { return of({node.object.get(), node.index.get()}); }
  int operator()(const Slice& node) {
    return of({node.object.get(), node.start.get(), node.stop.get(), node.step.get()});
  }
  int operator()(const Call& node) {
    of({node.callee.get()});
    return of(node.arguments);
  }
  int operator()(const Filter& node) {
    of({node.input.get()});
    return of(node.arguments);
  }
  int operator()(const Test& node) {
    of({node.input.get()});
    return of(node.arguments);
  }
  int operator()(const Unary& node) { return of({node.operand.get()}); }
  int operator()(const Arithmetic& node) { return of_chain(node); }
  int operator()(const Comparison& node) { return of_chain(node); }
  int operator()(const Logical& node) { return of(node.operands); }
  int operator()(const Concatenation& node) { return of(node.operands); }
  int operator()(const Conditional& node) {
    return of({node.condition.get(), node.then.get(), node.otherwise.get()});
  }

 private:
  int of(std::initializer_list<const Expression*> children) {
    for (const Expression* child : children) {
      if (child != nullptr) height_ = std::max(height_, child->height);
    }
    return height_;
  }
  int of(const std::vector<ExpressionPtr>& children) {
    for (const ExpressionPtr& child : children) of({child.get()});
    return height_;
  }
  int of(const CallArguments& arguments) {
    of(arguments.positional);
    for (const auto& [name, value] : arguments.keyword) of({value.get()});
    return of({arguments.spread_positional.get(), arguments.spread_keyword.get()});
  }
  template <typename Chain>
  int of_chain(const Chain& chain) {
    of({chain.first.get()});
    for (const auto& [op, operand] : chain.rest) of({operand.get()});
    return height_;
  }

  int height_ = 0;
};

}  // namespace

ExpressionPtr Parser::make(std::uint32_t offset, Expression::Node node) {
  const int height = std::visit(ChildHeight(), node) + 1;
  if (height > kMaxParseDepth) {
    throw SyntaxError(fmt::format("the expression is nested deeper than {} levels", kMaxParseDepth),
                      offset);
  }
  return std::make_unique<Expression>(Expression{std::move(node), offset, height});
}

ExpressionPtr Parser::parse_expression() {
  const DepthGuard guard(*this);
  const std::size_t num_unknown = unknown_names_.size();
  ExpressionPtr expression = parse_or();
  while (is_name("if")) {
    const std::uint32_t offset = take().offset;
    ExpressionPtr condition = parse_or();
    ExpressionPtr otherwise = take_name("else") ? parse_expression() : nullptr;
    expression = make(
        offset, Conditional{std::move(condition), std::move(expression), std::move(otherwise)});
    forgive_unknown_names(num_unknown);
  }
  return expression;
}

ExpressionPtr Parser::parse_or() {
  const std::uint32_t offset = current().offset;
  ExpressionPtr first = parse_and();
  if (!is_name("or")) return first;
  Logical logical{.is_or = true, .operands = {}};
  logical.operands.push_back(std::move(first));
  while (take_name("or")) logical.operands.push_back(parse_and());
  return make(offset, std::move(logical));
}

ExpressionPtr Parser::parse_and() {
  const std::uint32_t offset = current().offset;
  ExpressionPtr first = parse_not();
  if (!is_name("and")) return first;
  Logical logical{.is_or = false, .operands = {}};
  logical.operands.push_back(std::move(first));
  while (take_name("and")) logical.operands.push_back(parse_not());
  return make(offset, std::move(logical));
}

ExpressionPtr Parser::parse_not() {
  if (!is_name("not")) return parse_comparison();
  const DepthGuard guard(*this);
  const std::uint32_t offset = take().offset;
  return make(offset, Unary{UnaryOperator::kNot, parse_not()});
}

ExpressionPtr Parser::parse_comparison() {
  static constexpr std::pair<std::string_view, ComparisonOperator> kOperators[] = {
      {"==", ComparisonOperator::kEqual},  {"!=", ComparisonOperator::kNotEqual},
      {"<", ComparisonOperator::kLess},    {"<=", ComparisonOperator::kLessEqual},
      {">", ComparisonOperator::kGreater}, {">=", ComparisonOperator::kGreaterEqual}};
  ExpressionPtr first = parse_sum();
  const std::uint32_t offset = current().offset;
  Comparison comparison;
  while (true) {
    const auto* op = std::find_if(std::begin(kOperators), std::end(kOperators),
                                  [&](const auto& entry) { return is_operator(entry.first); });
    if (op != std::end(kOperators)) {
      take();
      comparison.rest.emplace_back(op->second, parse_sum());
    } else if (take_name("in")) {
      comparison.rest.emplace_back(ComparisonOperator::kIn, parse_sum());
    } else if (is_name("not") && next_token().type == TokenType::kName &&
               next_token().text == "in") {
      take();
      take();
      comparison.rest.emplace_back(ComparisonOperator::kNotIn, parse_sum());
    } else {
      break;
    }
  }
  if (comparison.rest.empty()) return first;
  comparison.first = std::move(first);
  return make(offset, std::move(comparison));
}

ExpressionPtr Parser::parse_sum() {
  ExpressionPtr first = parse_concatenation();
  const std::uint32_t offset = current().offset;
  Arithmetic chain;
  while (is_operator("+") || is_operator("-")) {
    const BinaryOperator op = take().text == "+" ? BinaryOperator::kAdd : BinaryOperator::kSubtract;
    chain.rest.emplace_back(op, parse_concatenation());
  }
  if (chain.rest.empty()) return first;
  chain.first = std::move(first);
  return make(offset, std::move(chain));
}

ExpressionPtr Parser::parse_concatenation() {
  ExpressionPtr first = parse_product();
  if (!is_operator("~")) return first;
  const std::uint32_t offset = current().offset;
  Concatenation chain;
  chain.operands.push_back(std::move(first));
  while (take_operator("~")) chain.operands.push_back(parse_product());
  return make(offset, std::move(chain));
}

ExpressionPtr Parser::parse_product() {
  static constexpr std::pair<std::string_view, BinaryOperator> kOperators[] = {
      {"*", BinaryOperator::kMultiply},
      {"/", BinaryOperator::kDivide},
      {"//", BinaryOperator::kFloorDivide},
      {"%", BinaryOperator::kModulo}};
  ExpressionPtr first = parse_power();
  const std::uint32_t offset = current().offset;
  Arithmetic chain;
  while (true) {
    const auto* op = std::find_if(std::begin(kOperators), std::end(kOperators),
                                  [&](const auto& entry) { return is_operator(entry.first); });
    if (op == std::end(kOperators)) break;
    take();
    chain.rest.emplace_back(op->second, parse_power());
  }
  if (chain.rest.empty()) return first;
  chain.first = std::move(first);
  return make(offset, std::move(chain));
}

ExpressionPtr Parser::parse_power() {
  ExpressionPtr first = parse_unary(true);
  const std::uint32_t offset = current().offset;
  Arithmetic chain;
  while (take_operator("**")) chain.rest.emplace_back(BinaryOperator::kPower, parse_unary(true));
  if (chain.rest.empty()) return first;
  chain.first = std::move(first);
  return make(offset, std::move(chain));
}

ExpressionPtr Parser::parse_unary(bool with_filters) {
  ExpressionPtr expression;
  if (is_operator("-") || is_operator("+")) {
    const DepthGuard guard(*this);
    const Token sign = take();
    const UnaryOperator op = sign.text == "-" ? UnaryOperator::kMinus : UnaryOperator::kPlus;
    expression = make(sign.offset, Unary{op, parse_unary(false)});
  } else {
    expression = parse_primary();
  }
  expression = parse_postfix(std::move(expression));
  return with_filters ? parse_filters_and_tests(std::move(expression)) : std::move(expression);
}

ExpressionPtr Parser::parse_primary() {
  const std::uint32_t offset = current().offset;
  switch (current().type) {
    case TokenType::kName: return parse_name();
    case TokenType::kInteger:
    case TokenType::kFloat: return parse_number();
    case TokenType::kString: {
      std::string text;
      while (current().type == TokenType::kString) text += take().text;
      return make(offset, Literal{Value::string(std::move(text), literal_budget_)});
    }
    case TokenType::kOperator:
      if (take_operator("(")) {
        ExpressionPtr expression = parse_tuple(true, true);
        expect_operator(")");
        return expression;
      }
      if (is_operator("[")) return parse_list();
      if (is_operator("{")) return parse_dict();
      fail(fmt::format("unexpected '{}'", current().text));
    default: fail("expected an expression");
  }
}

ExpressionPtr Parser::parse_name() {
  const Token token = take();
  if (token.text == "true" || token.text == "True") return make(token.offset, Literal{Value(true)});
  if (token.text == "false" || token.text == "False") {
    return make(token.offset, Literal{Value(false)});
  }
  if (token.text == "none" || token.text == "None") {
    return make(token.offset, Literal{Value::none()});
  }
  for (MacroDefinition* macro : open_macros_) {
    macro->uses_varargs |= token.text == "varargs";
    macro->uses_kwargs |= token.text == "kwargs";
    macro->uses_caller |= token.text == "caller";
  }
  return make(token.offset, NameReference{name_id(token.text)});
}

ExpressionPtr Parser::parse_number() {
  const Token token = take();
  if (token.type == TokenType::kFloat) {
    return make(token.offset, Literal{Value(std::strtod(token.text.c_str(), nullptr))});
  }
  const bool has_prefix = token.text.size() > 2 && token.text[0] == '0' && token.text[1] > '9';
  const char letter = has_prefix ? static_cast<char>(token.text[1] | 0x20) : '\0';
  const int base = letter == 'x' ? 16 : letter == 'o' ? 8 : letter == 'b' ? 2 : 10;
  std::int64_t value = 0;
  const char* begin = token.text.data() + (has_prefix ? 2 : 0);
  const char* end = token.text.data() + token.text.size();
  if (std::from_chars(begin, end, value, base).ec != std::errc()) {
    throw SyntaxError(fmt::format("the integer {} does not fit 64 bits", token.text), token.offset);
  }
  return make(token.offset, Literal{Value(value)});
}

ExpressionPtr Parser::parse_list() {
  const std::uint32_t offset = current().offset;
  expect_operator("[");
  SequenceLiteral list{.is_tuple = false, .items = {}};
  while (!is_operator("]")) {
    if (!list.items.empty()) expect_operator(",");
    if (is_operator("]")) break;
    list.items.push_back(parse_expression());
  }
  expect_operator("]");
  return make(offset, std::move(list));
}

ExpressionPtr Parser::parse_dict() {
  const std::uint32_t offset = current().offset;
  expect_operator("{");
  DictLiteral dict;
  while (!is_operator("}")) {
    if (!dict.items.empty()) expect_operator(",");
    if (is_operator("}")) break;
    ExpressionPtr key = parse_expression();
    expect_operator(":");
    dict.items.emplace_back(std::move(key), parse_expression());
  }
  expect_operator("}");
  return make(offset, std::move(dict));
}

bool Parser::at_tuple_end() const {
  return current().type == TokenType::kVariableEnd || current().type == TokenType::kBlockEnd ||
         is_operator(")");
}

ExpressionPtr Parser::parse_tuple(bool with_conditional, bool in_parentheses) {
  const std::uint32_t offset = current().offset;
  SequenceLiteral tuple{.is_tuple = true, .items = {}};
  bool has_comma = false;
  while (!at_tuple_end()) {
    if (with_conditional) {
      tuple.items.push_back(parse_expression());
    } else {
      const DepthGuard guard(*this);
      tuple.items.push_back(parse_or());
    }
    if (!take_operator(",")) break;
    has_comma = true;
  }
  if (!has_comma && tuple.items.size() == 1) return std::move(tuple.items.front());
  if (!has_comma && !in_parentheses) fail("expected an expression");
  return make(offset, std::move(tuple));
}

ExpressionPtr Parser::parse_postfix(ExpressionPtr object) {
  while (true) {
    if (is_operator(".")) {
      object = parse_attribute(std::move(object));
    } else if (is_operator("[")) {
      object = parse_subscript(std::move(object));
    } else if (is_operator("(")) {
      const std::uint32_t offset = current().offset;
      object = make(offset, Call{std::move(object), parse_arguments()});
    } else {
      return object;
    }
  }
}

ExpressionPtr Parser::parse_attribute(ExpressionPtr object) {
  expect_operator(".");
  const std::uint32_t offset = current().offset;
  if (current().type == TokenType::kName) {
    return make(offset, Attribute{std::move(object), take().text});
  }
  if (current().type != TokenType::kInteger) fail("expected a name or a number after '.'");
  return make(offset, Subscript{std::move(object), parse_number()});
}

ExpressionPtr Parser::parse_subscript(ExpressionPtr object) {
  const std::uint32_t offset = current().offset;
  expect_operator("[");
  const auto at_part_end = [this] { return is_operator(":") || is_operator("]"); };
  ExpressionPtr start = at_part_end() ? nullptr : parse_expression();
  if (take_operator("]")) {
    if (!start) fail("expected an index");
    return make(offset, Subscript{std::move(object), std::move(start)});
  }
  if (is_operator(",")) fail("an index of several parts is not supported");
  expect_operator(":");
  ExpressionPtr stop = at_part_end() ? nullptr : parse_expression();
  ExpressionPtr step;
  if (take_operator(":") && !at_part_end()) step = parse_expression();
  expect_operator("]");
  return make(offset, Slice{std::move(object), std::move(start), std::move(stop), std::move(step)});
}

ExpressionPtr Parser::parse_filters_and_tests(ExpressionPtr input) {
  while (true) {
    if (take_operator("|")) {
      input = parse_filter(std::move(input));
    } else if (is_name("is")) {
      input = parse_test(std::move(input));
    } else if (is_operator("(")) {
      const std::uint32_t offset = current().offset;
      input = make(offset, Call{std::move(input), parse_arguments()});
    } else {
      return input;
    }
  }
}

std::string Parser::parse_dotted_name() {
  std::string name = expect_name();
  while (take_operator(".")) name.append(".").append(expect_name());
  return name;
}

ExpressionPtr Parser::parse_filter(ExpressionPtr input) {
  const std::uint32_t offset = current().offset;
  Filter filter{
      .input = std::move(input), .name = parse_dotted_name(), .function = nullptr, .arguments = {}};
  filter.function = find_filter(filter.name);
  if (filter.function == nullptr) {
    unknown_names_.push_back({fmt::format("no filter named '{}'", filter.name), offset, false});
  }
  if (is_operator("(")) filter.arguments = parse_arguments();
  return make(offset, std::move(filter));
}

ExpressionPtr Parser::parse_test(ExpressionPtr input) {
  take();  // "is"
  const bool is_negated = take_name("not");
  const std::uint32_t offset = current().offset;
  Test test{
      .input = std::move(input), .name = parse_dotted_name(), .function = nullptr, .arguments = {}};
  test.function = find_test(test.name);
  if (test.function == nullptr) {
    unknown_names_.push_back({fmt::format("no test named '{}'", test.name), offset, false});
  }
  const TokenType type = current().type;
  if (is_operator("(")) {
    test.arguments = parse_arguments();
  } else if ((type == TokenType::kName && !is_name("else") && !is_name("or") && !is_name("and")) ||
             type == TokenType::kString || type == TokenType::kInteger ||
             type == TokenType::kFloat || is_operator("[") || is_operator("{")) {
    if (is_name("is")) fail("tests cannot be chained with 'is'");
    const DepthGuard guard(*this);
    test.arguments.positional.push_back(parse_postfix(parse_primary()));
  }
  ExpressionPtr expression = make(offset, std::move(test));
  return is_negated ? make(offset, Unary{UnaryOperator::kNot, std::move(expression)})
                    : std::move(expression);
}

CallArguments Parser::parse_arguments() {
  expect_operator("(");
  CallArguments arguments;
  bool need_comma = false;
  while (!is_operator(")")) {
    if (need_comma) {
      expect_operator(",");
      if (is_operator(")")) break;
    }
    need_comma = true;
    if (is_operator("*") && !arguments.spread_positional && !arguments.spread_keyword) {
      take();
      arguments.spread_positional = parse_expression();
    } else if (is_operator("**") && !arguments.spread_keyword) {
      take();
      arguments.spread_keyword = parse_expression();
    } else if (current().type == TokenType::kName && next_token().type == TokenType::kOperator &&
               next_token().text == "=" && !arguments.spread_keyword) {
      std::string name = take().text;
      take();
      for (const auto& [other, value] : arguments.keyword) {
        if (other == name) fail(fmt::format("keyword argument '{}' is repeated", name));
      }
      arguments.keyword.emplace_back(std::move(name), parse_expression());
    } else if (arguments.keyword.empty() && !arguments.spread_positional &&
               !arguments.spread_keyword) {
      arguments.positional.push_back(parse_expression());
    } else {
      fail("a positional argument after a keyword argument");
    }
  }
  expect_operator(")");
  return arguments;
}

}  // namespace llmrun::jinja
