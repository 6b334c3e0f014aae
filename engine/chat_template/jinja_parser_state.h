// The recursive descent parser behind parse_template(): expressions are in
// jinja_expression_parser.cpp, statements in jinja_parser.cpp.
#pragma once

#include <initializer_list>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "engine/chat_template/jinja_parser.h"

namespace llmrun::jinja {

class Parser {
 public:
  explicit Parser(std::string source);
  Template parse();

 private:
  // Counts nesting while in scope.
  class DepthGuard {
   public:
    explicit DepthGuard(Parser& parser);
    ~DepthGuard() { --parser_.depth_; }
    DepthGuard(const DepthGuard&) = delete;
    DepthGuard& operator=(const DepthGuard&) = delete;

   private:
    Parser& parser_;
  };

  // Tokens.
  const Token& current() const { return tokens_[position_]; }
  const Token& next_token() const;
  Token take();
  bool is_name(std::string_view name) const;
  bool is_operator(std::string_view op) const;
  bool take_name(std::string_view name);
  bool take_operator(std::string_view op);
  void expect_operator(std::string_view op);
  void expect(TokenType type, std::string_view what);
  std::string expect_name();
  [[noreturn]] void fail(const std::string& message) const;

  int name_id(const std::string& name);
  ExpressionPtr make(std::uint32_t offset, Expression::Node node);

  // Expressions, lowest precedence first.
  ExpressionPtr parse_expression();
  ExpressionPtr parse_or();
  ExpressionPtr parse_and();
  ExpressionPtr parse_not();
  ExpressionPtr parse_comparison();
  ExpressionPtr parse_sum();
  ExpressionPtr parse_concatenation();
  ExpressionPtr parse_product();
  ExpressionPtr parse_power();
  ExpressionPtr parse_unary(bool with_filters);
  ExpressionPtr parse_primary();
  ExpressionPtr parse_name();
  ExpressionPtr parse_number();
  ExpressionPtr parse_list();
  ExpressionPtr parse_dict();
  // Expressions separated by commas are a tuple. Without `with_conditional`, "a if b" stops at
  // "if".
  ExpressionPtr parse_tuple(bool with_conditional, bool in_parentheses);
  bool at_tuple_end() const;
  ExpressionPtr parse_postfix(ExpressionPtr object);
  ExpressionPtr parse_attribute(ExpressionPtr object);
  ExpressionPtr parse_subscript(ExpressionPtr object);
  ExpressionPtr parse_filters_and_tests(ExpressionPtr input);
  ExpressionPtr parse_filter(ExpressionPtr input);
  ExpressionPtr parse_test(ExpressionPtr input);
  CallArguments parse_arguments();
  std::string parse_dotted_name();

  // Statements.
  Block parse_block(std::initializer_list<std::string_view> end_names);
  Block parse_statements(std::initializer_list<std::string_view> end_names);
  Statement parse_statement();
  Statement parse_for();
  Statement parse_if();
  Statement parse_set();
  Statement parse_macro();
  Statement parse_call_block();
  Statement parse_filter_block();
  Statement parse_with();
  Statement parse_generation();
  Statement parse_loop_control(bool is_break);
  Target parse_target(bool with_namespace);
  Target parse_single_target(bool with_namespace);
  void parse_signature(MacroDefinition& macro);
  void parse_macro_body(MacroDefinition& macro, std::string_view end_name);
  void parse_ending(std::string_view end_name);

  // An unknown filter or test is an error, but within an `if` only when it is evaluated.
  struct UnknownName {
    std::string message;
    std::uint32_t offset;
    bool is_certain;  // no enclosing `if` can save it any more
  };
  void forgive_unknown_names(std::size_t since);
  void confirm_unknown_names(std::size_t since);

  std::string source_;
  std::vector<Token> tokens_;
  std::size_t position_ = 0;
  int depth_ = 0;
  int for_depth_ = 0;        // enclosing for statements
  int breakable_depth_ = 0;  // of those, the ones that break and continue may leave from here
  RenderBudget literal_budget_{RenderLimits{.seconds = 60}};
  std::vector<std::string> names_;
  std::unordered_map<std::string, int> name_ids_;
  std::vector<MacroDefinition*> open_macros_;
  std::vector<UnknownName> unknown_names_;
};

}  // namespace llmrun::jinja
