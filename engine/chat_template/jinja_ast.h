// The syntax tree of a template. Names are numbered, so that scopes compare integers. Chains of one
// precedence level (a + b - c, a or b or c) are one node, and the height of expressions is limited
// by the parser, so that walking or destroying a tree never goes deep.
#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "engine/chat_template/jinja_builtins.h"
#include "engine/chat_template/jinja_value.h"

namespace llmrun::jinja {

struct Expression;
struct Statement;
using ExpressionPtr = std::unique_ptr<Expression>;
using Block = std::vector<Statement>;

// --- Expressions
// ------------------------------------------------------------------------------------

struct CallArguments {
  std::vector<ExpressionPtr> positional;
  std::vector<std::pair<std::string, ExpressionPtr>> keyword;
  ExpressionPtr spread_positional;  // *args, or null
  ExpressionPtr spread_keyword;     // **kwargs, or null
};

struct Literal {
  Value value;
};
struct NameReference {
  int name_id;
};
struct SequenceLiteral {
  bool is_tuple;
  std::vector<ExpressionPtr> items;
};
struct DictLiteral {
  std::vector<std::pair<ExpressionPtr, ExpressionPtr>> items;
};
struct Attribute {  // object.name
  ExpressionPtr object;
  std::string name;
};
struct Subscript {  // object[index]
  ExpressionPtr object;
  ExpressionPtr index;
};
struct Slice {  // object[start:stop:step]; missing parts are null
  ExpressionPtr object;
  ExpressionPtr start, stop, step;
};
struct Call {
  ExpressionPtr callee;
  CallArguments arguments;
};
struct Filter {
  ExpressionPtr input;  // null in {% filter %} and {% set x | filter %}: the block's text
  std::string name;
  FilterFunction function;  // null: unknown, an error when evaluated
  CallArguments arguments;
};
struct Test {
  ExpressionPtr input;
  std::string name;
  TestFunction function;  // as in Filter
  CallArguments arguments;
};
enum class UnaryOperator { kNot, kMinus, kPlus };
struct Unary {
  UnaryOperator op;
  ExpressionPtr operand;
};
enum class BinaryOperator { kAdd, kSubtract, kMultiply, kDivide, kFloorDivide, kModulo, kPower };
struct Arithmetic {  // first op x op y ..., from the left
  ExpressionPtr first;
  std::vector<std::pair<BinaryOperator, ExpressionPtr>> rest;
};
enum class ComparisonOperator {
  kEqual,
  kNotEqual,
  kLess,
  kLessEqual,
  kGreater,
  kGreaterEqual,
  kIn,
  kNotIn
};
struct Comparison {  // a < b < c means a < b and b < c
  ExpressionPtr first;
  std::vector<std::pair<ComparisonOperator, ExpressionPtr>> rest;
};
struct Logical {  // yields the operand that decides
  bool is_or;
  std::vector<ExpressionPtr> operands;
};
struct Concatenation {  // a ~ b
  std::vector<ExpressionPtr> operands;
};
struct Conditional {  // then if condition else otherwise; otherwise may be null
  ExpressionPtr condition, then, otherwise;
};

struct Expression {
  using Node = std::variant<Literal, NameReference, SequenceLiteral, DictLiteral, Attribute,
                            Subscript, Slice, Call, Filter, Test, Unary, Arithmetic, Comparison,
                            Logical, Concatenation, Conditional>;
  Node node;
  std::uint32_t offset;  // byte in the source
  int height = 1;        // nodes on the longest way down
};

// --- Statements
// -------------------------------------------------------------------------------------

// What `set` and `for` assign to: a name, an attribute of a namespace, or several targets.
struct Target {
  enum class Kind { kName, kNamespaceAttribute, kTuple };
  Kind kind = Kind::kName;
  int name_id = 0;
  std::string attribute;
  std::vector<Target> items;
};

struct MacroParameter {
  int name_id;
  ExpressionPtr default_value;  // or null
};
struct MacroDefinition {
  std::string name;  // empty for the body of a call block
  std::vector<MacroParameter> parameters;
  Block body;
  bool uses_varargs = false;
  bool uses_kwargs = false;
  bool uses_caller = false;
};

struct Text {
  std::string text;
};
struct Output {
  ExpressionPtr value;
};
struct For {
  Target target;
  ExpressionPtr iterable;
  ExpressionPtr condition;  // or null
  Block body;
  Block otherwise;
};
struct If {
  std::vector<std::pair<ExpressionPtr, Block>> branches;
  Block otherwise;
};
struct Set {
  Target target;
  ExpressionPtr value;
};
struct SetBlock {
  Target target;
  ExpressionPtr filter;  // or null
  Block body;
};
struct Macro {
  int name_id;
  MacroDefinition definition;
};
struct CallBlock {
  ExpressionPtr call;  // holds a Call
  MacroDefinition caller;
};
struct FilterBlock {
  ExpressionPtr filter;
  Block body;
};
struct With {
  std::vector<std::pair<Target, ExpressionPtr>> variables;
  Block body;
};
struct Generation {  // marks what the assistant says; prints its body
  Block body;
};
struct Break {};
struct Continue {};

struct Statement {
  std::variant<Text, Output, For, If, Set, SetBlock, Macro, CallBlock, FilterBlock, With,
               Generation, Break, Continue>
      node;
  std::uint32_t offset;
};

struct Template {
  std::string source;  // newlines normalized; offsets count its bytes
  Block body;
  std::vector<std::string> names;  // by name_id
};

}  // namespace llmrun::jinja
