// Renders a parsed template: walks its tree with Python's scoping as jinja2 compiles it, and
// appends to one output string. One interpreter renders once. Source: jinja2 3.1.6, compiler.py and
// runtime.py.
#pragma once

#include <cstdint>
#include <ctime>
#include <deque>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "engine/chat_template/jinja_ast.h"
#include "engine/chat_template/jinja_value.h"
#include "engine/chat_template/render_budget.h"

namespace llmrun::jinja {

// Variables of one block. Blocks nest; a name is looked up from the inside out.
struct Scope {
  Scope* parent = nullptr;
  bool is_captured =
      false;  // a macro or an iterator refers to it: it lives as long as the rendering
  std::vector<std::pair<int, Value>> variables;  // by name_id
};

// What namespace() makes: the one mutable value of the language.
class Namespace : public Object {
 public:
  std::string_view type_name() const override { return "Namespace"; }
  void append_repr(std::string& out, RenderBudget& budget) override;
  std::optional<Value> attribute(std::string_view name, Interpreter& interpreter) override;
  // Names that begin with '_' are a RenderError.
  void set(std::string_view name, Value value);
  void clear() { attributes_.clear(); }

 private:
  std::vector<std::pair<std::string, Value>> attributes_;
};

class Interpreter {
 public:
  // `now` is what strftime_now() formats, in local time. References stay with the caller.
  Interpreter(const Template& parsed, const RenderLimits& limits, std::time_t now);
  ~Interpreter();
  Interpreter(const Interpreter&) = delete;
  Interpreter& operator=(const Interpreter&) = delete;

  // Sets a variable of the outermost scope; names that the template does not use are ignored.
  void set_variable(std::string_view name, Value value);
  // Throws RenderError; offset() then says where.
  std::string render();
  std::uint32_t offset() const { return offset_; }

  // For filters, methods and functions.
  RenderBudget& budget() { return budget_; }
  std::time_t now() const { return now_; }
  Value string(std::string text) { return Value::string(std::move(text), budget_); }
  std::shared_ptr<Namespace> make_namespace();
  Value call(const Value& callee, const Arguments& arguments);

 private:
  enum class Flow { kNext, kBreak, kContinue };
  class ScopeGuard;
  class MacroObject;
  class FilteredIterator;

  // Statements.
  Flow execute(const Block& block);
  Flow execute(const Statement& statement);
  Flow run(const Text& statement);
  Flow run(const Output& statement);
  Flow run(const For& statement);
  Flow run(const If& statement);
  Flow run(const Set& statement);
  Flow run(const SetBlock& statement);
  Flow run(const Macro& statement);
  Flow run(const CallBlock& statement);
  Flow run(const FilterBlock& statement);
  Flow run(const With& statement);
  Flow run(const Generation& statement);
  Flow run(const Break& /*statement*/) { return Flow::kBreak; }
  Flow run(const Continue& /*statement*/) { return Flow::kContinue; }
  // Runs a block in a scope of its own and returns what it prints.
  std::string capture(const Block& block, Flow& flow);
  void check_output() const;

  // Expressions; `offset` is where the node stands.
  Value evaluate(const Expression& expression);
  Value evaluate(const Literal& node, std::uint32_t offset);
  Value evaluate(const NameReference& node, std::uint32_t offset);
  Value evaluate(const SequenceLiteral& node, std::uint32_t offset);
  Value evaluate(const DictLiteral& node, std::uint32_t offset);
  Value evaluate(const Attribute& node, std::uint32_t offset);
  Value evaluate(const Subscript& node, std::uint32_t offset);
  Value evaluate(const Slice& node, std::uint32_t offset);
  Value evaluate(const Call& node, std::uint32_t offset);
  Value evaluate(const Filter& node, std::uint32_t offset);
  Value evaluate(const Test& node, std::uint32_t offset);
  Value evaluate(const Unary& node, std::uint32_t offset);
  Value evaluate(const Arithmetic& node, std::uint32_t offset);
  Value evaluate(const Comparison& node, std::uint32_t offset);
  Value evaluate(const Logical& node, std::uint32_t offset);
  Value evaluate(const Concatenation& node, std::uint32_t offset);
  Value evaluate(const Conditional& node, std::uint32_t offset);
  bool compare(ComparisonOperator op, const Value& left, const Value& right);
  Arguments evaluate(const CallArguments& arguments);
  Value call_node(const Call& node, std::uint32_t offset, const Value* caller);
  // `text` is the input of the innermost filter of a chain that has none.
  Value apply_block_filter(const Expression& filter, const Value& text);

  // Scopes.
  Scope* push_scope(Scope* parent);
  void pop_scope(Scope* scope);
  static void capture_scopes(Scope* scope);
  Value lookup(int name_id);
  void assign(int name_id, Value value);
  void assign(const Target& target, const Value& value);

  const Template& template_;
  RenderBudget budget_;
  std::time_t now_;
  std::uint32_t offset_ = 0;
  int call_depth_ = 0;
  int loop_name_id_ = -1;  // of "loop", if the template mentions it
  std::string output_;
  std::string* out_ = &output_;  // or the text of the block being captured
  std::deque<Scope> scopes_;
  std::vector<Scope*> free_scopes_;
  Scope* scope_ = nullptr;
  // A namespace can hold itself, so all are emptied at the end.
  std::vector<std::shared_ptr<Namespace>> namespaces_;
};

}  // namespace llmrun::jinja
