#include "engine/chat_template/jinja_interpreter.h"

#include <algorithm>
#include <optional>

#include <fmt/format.h>

#include "engine/chat_template/jinja_loop.h"

namespace llmrun::jinja {
namespace {

// A global function or a filter-like built-in as a value, e.g. "raise_exception is defined".
class FunctionObject : public Object {
 public:
  explicit FunctionObject(std::string name, GlobalFunction function)
      : name_(std::move(name)), function_(function) {}

  std::string_view type_name() const override { return "function"; }
  void append_repr(std::string& out, RenderBudget& /*budget*/) override {
    out += fmt::format("<function {}>", name_);
  }
  bool is_callable() const override { return true; }
  Value call(Interpreter& interpreter, const Arguments& arguments) override {
    return function_(interpreter, arguments);
  }

 private:
  std::string name_;
  GlobalFunction function_;
};

}  // namespace

// Makes a scope current until the end of the block; `parent` need not be the current scope.
class Interpreter::ScopeGuard {
 public:
  ScopeGuard(Interpreter& interpreter, Scope* parent)
      : interpreter_(interpreter),
        outer_(std::exchange(interpreter.scope_, interpreter.push_scope(parent))) {}
  ~ScopeGuard() { interpreter_.pop_scope(std::exchange(interpreter_.scope_, outer_)); }
  ScopeGuard(const ScopeGuard&) = delete;
  ScopeGuard& operator=(const ScopeGuard&) = delete;

 private:
  Interpreter& interpreter_;
  Scope* outer_;
};

class Interpreter::MacroObject : public Object {
 public:
  MacroObject(const MacroDefinition& definition, Scope* closure)
      : definition_(definition), closure_(closure) {
    capture_scopes(closure);
  }

  std::string_view type_name() const override { return "Macro"; }
  void append_repr(std::string& out, RenderBudget& /*budget*/) override {
    out += definition_.name.empty() ? "<Macro anonymous>"
                                    : fmt::format("<Macro '{}'>", definition_.name);
  }
  bool is_callable() const override { return true; }

  Value call(Interpreter& interpreter, const Arguments& arguments) override {
    const RenderBudget::Depth depth(interpreter.budget_);
    if (interpreter.call_depth_ >= interpreter.budget_.limits().call_depth) {
      throw RenderError(fmt::format("macro '{}' is called deeper than {} levels", definition_.name,
                                    interpreter.budget_.limits().call_depth));
    }
    ++interpreter.call_depth_;
    std::string text;
    {
      const ScopeGuard scope(interpreter, closure_);
      std::string* const outer = std::exchange(interpreter.out_, &text);
      bind(interpreter, arguments);
      interpreter.execute(definition_.body);
      interpreter.out_ = outer;
    }
    --interpreter.call_depth_;
    return interpreter.string(std::move(text));
  }

 private:
  // Sets the parameters in the current scope. The order of the steps is that of Macro.__call__.
  void bind(Interpreter& interpreter, const Arguments& arguments) {
    const std::vector<MacroParameter>& parameters = definition_.parameters;
    std::vector<std::pair<std::string, Value>> keyword = arguments.keyword;
    const auto take_keyword = [&keyword](std::string_view name) -> std::optional<Value> {
      const auto found = std::find_if(keyword.begin(), keyword.end(),
                                      [&](const auto& entry) { return entry.first == name; });
      if (found == keyword.end()) return std::nullopt;
      Value value = std::move(found->second);
      keyword.erase(found);
      return value;
    };
    const std::size_t num_positional = std::min(arguments.positional.size(), parameters.size());
    std::vector<bool> is_missing(parameters.size(), false);
    bool takes_caller_by_name = false;
    for (std::size_t i = 0; i < parameters.size(); ++i) {
      const std::string& name =
          interpreter.template_.names[static_cast<std::size_t>(parameters[i].name_id)];
      takes_caller_by_name |= name == "caller";
      std::optional<Value> value;
      if (i < num_positional) {
        value = arguments.positional[i];
      } else {
        value = take_keyword(name);
      }
      is_missing[i] = !value;
      interpreter.assign(
          parameters[i].name_id,
          value ? *value : Value::undefined(fmt::format("parameter '{}' was not provided", name)));
    }
    if (definition_.uses_caller && !takes_caller_by_name) {
      std::optional<Value> caller = take_keyword("caller");
      set_special(interpreter, "caller", caller ? *caller : Value::undefined("No caller defined"));
    }
    bind_rest(interpreter, arguments, keyword);
    for (std::size_t i = 0; i < parameters.size(); ++i) {
      if (is_missing[i] && parameters[i].default_value) {
        interpreter.assign(parameters[i].name_id,
                           interpreter.evaluate(*parameters[i].default_value));
      }
    }
  }

  void bind_rest(Interpreter& interpreter, const Arguments& arguments,
                 const std::vector<std::pair<std::string, Value>>& keyword) {
    RenderBudget& budget = interpreter.budget_;
    if (definition_.uses_kwargs && !has_parameter(interpreter, "kwargs")) {
      std::vector<std::pair<Value, Value>> items;
      items.reserve(keyword.size());
      for (const auto& [name, value] : keyword) {
        items.emplace_back(Value::string(name, budget), value);
      }
      set_special(interpreter, "kwargs", Value::dict(std::move(items), budget));
    } else if (!keyword.empty()) {
      throw RenderError(fmt::format("macro '{}' takes no keyword argument '{}'", definition_.name,
                                    keyword.front().first));
    }
    const std::size_t num_parameters = definition_.parameters.size();
    std::vector<Value> rest;
    for (std::size_t i = num_parameters; i < arguments.positional.size(); ++i) {
      rest.push_back(arguments.positional[i]);
    }
    if (definition_.uses_varargs && !has_parameter(interpreter, "varargs")) {
      set_special(interpreter, "varargs", Value::tuple(std::move(rest), budget));
    } else if (!rest.empty()) {
      throw RenderError(fmt::format("macro '{}' takes not more than {} argument(s)",
                                    definition_.name, num_parameters));
    }
  }

  bool has_parameter(const Interpreter& interpreter, std::string_view name) const {
    return std::any_of(definition_.parameters.begin(), definition_.parameters.end(),
                       [&](const MacroParameter& parameter) {
                         const auto id = static_cast<std::size_t>(parameter.name_id);
                         return interpreter.template_.names[id] == name;
                       });
  }

  static void set_special(Interpreter& interpreter, std::string_view name, Value value) {
    const std::vector<std::string>& names = interpreter.template_.names;
    const auto found = std::find(names.begin(), names.end(), name);
    if (found != names.end()) {
      interpreter.assign(static_cast<int>(found - names.begin()), std::move(value));
    }
  }

  const MacroDefinition& definition_;
  Scope* closure_;
};

// The items of a loop that pass its `if`, tested one by one as the loop asks for them.
class Interpreter::FilteredIterator : public Iterator {
 public:
  FilteredIterator(Interpreter& interpreter, const For& loop, const Value& iterable)
      : Iterator(iterable.nesting()),
        interpreter_(interpreter),
        loop_(loop),
        scope_(interpreter.scope_),
        cursor_(iterable, interpreter.budget_) {
    capture_scopes(scope_);
  }

  bool next(Value& item) override {
    while (cursor_.next(item)) {
      interpreter_.budget_.charge_loop_iteration();
      const ScopeGuard scope(interpreter_, scope_);
      interpreter_.assign(loop_.target, item);
      if (!is_true(interpreter_.evaluate(*loop_.condition))) continue;
      if (loop_.target.kind == Target::Kind::kTuple) {
        item = Value::tuple(to_vector(item, interpreter_.budget_), interpreter_.budget_);
      }
      return true;
    }
    return false;
  }

 private:
  Interpreter& interpreter_;
  const For& loop_;
  Scope* scope_;
  Cursor cursor_;
};

void Namespace::append_repr(std::string& out, RenderBudget& budget) {
  out += "<Namespace {";
  for (std::size_t i = 0; i < attributes_.size(); ++i) {
    if (i > 0) out += ", ";
    jinja::append_repr(out, Value::string(attributes_[i].first, budget), budget);
    out += ": ";
    jinja::append_repr(out, attributes_[i].second, budget);
  }
  out += "}>";
}

std::optional<Value> Namespace::attribute(std::string_view name, Interpreter& /*interpreter*/) {
  for (const auto& [attribute, value] : attributes_) {
    if (attribute == name) return value;
  }
  return std::nullopt;
}

void Namespace::set(std::string_view name, Value value) {
  if (name.substr(0, 1) == "_") {
    throw RenderError(fmt::format("a namespace cannot hold '{}': its name begins with '_'", name));
  }
  for (auto& [attribute, old_value] : attributes_) {
    if (attribute == name) {
      old_value = std::move(value);
      return;
    }
  }
  attributes_.emplace_back(name, std::move(value));
}

Interpreter::Interpreter(const Template& parsed, const RenderLimits& limits, std::time_t now)
    : template_(parsed), budget_(limits), now_(now), scope_(push_scope(nullptr)) {
  const auto found = std::find(parsed.names.begin(), parsed.names.end(), "loop");
  if (found != parsed.names.end()) loop_name_id_ = static_cast<int>(found - parsed.names.begin());
}

Interpreter::~Interpreter() {
  for (const std::shared_ptr<Namespace>& entry : namespaces_) entry->clear();
}

void Interpreter::set_variable(std::string_view name, Value value) {
  const std::vector<std::string>& names = template_.names;
  const auto found = std::find(names.begin(), names.end(), name);
  if (found != names.end()) assign(static_cast<int>(found - names.begin()), std::move(value));
}

std::string Interpreter::render() {
  execute(template_.body);
  return std::move(output_);
}

std::shared_ptr<Namespace> Interpreter::make_namespace() {
  budget_.charge_items(4);
  namespaces_.push_back(std::make_shared<Namespace>());
  return namespaces_.back();
}

Value Interpreter::call(const Value& callee, const Arguments& arguments) {
  if (callee.is_undefined()) fail_undefined(callee);
  if (!callee.is(ValueKind::kObject)) {
    throw RenderError(fmt::format("'{}' object is not callable", type_name(callee)));
  }
  return callee.as_object().call(*this, arguments);
}

// --- Scopes
// -----------------------------------------------------------------------------------------

Scope* Interpreter::push_scope(Scope* parent) {
  if (free_scopes_.empty()) {
    budget_.charge_items(4);
    free_scopes_.push_back(&scopes_.emplace_back());
  }
  Scope* scope = free_scopes_.back();
  free_scopes_.pop_back();
  scope->parent = parent;
  return scope;
}

void Interpreter::pop_scope(Scope* scope) {
  if (scope->is_captured) return;
  scope->variables.clear();
  free_scopes_.push_back(scope);
}

void Interpreter::capture_scopes(Scope* scope) {
  for (; scope != nullptr && !scope->is_captured; scope = scope->parent) scope->is_captured = true;
}

Value Interpreter::lookup(int name_id) {
  for (const Scope* scope = scope_; scope != nullptr; scope = scope->parent) {
    for (const auto& [id, value] : scope->variables) {
      if (id == name_id) return value;
    }
  }
  const std::string& name = template_.names[static_cast<std::size_t>(name_id)];
  if (const GlobalFunction function = find_global(name)) {
    return std::shared_ptr<Object>(std::make_shared<FunctionObject>(name, function));
  }
  return Value::undefined(fmt::format("'{}' is undefined", name));
}

void Interpreter::assign(int name_id, Value value) {
  for (auto& [id, old_value] : scope_->variables) {
    if (id == name_id) {
      old_value = std::move(value);
      return;
    }
  }
  scope_->variables.emplace_back(name_id, std::move(value));
}

void Interpreter::assign(const Target& target, const Value& value) {
  switch (target.kind) {
    case Target::Kind::kName: return assign(target.name_id, value);
    case Target::Kind::kNamespaceAttribute: {
      const Value object = lookup(target.name_id);
      auto* const attributes =
          object.is(ValueKind::kObject) ? dynamic_cast<Namespace*>(&object.as_object()) : nullptr;
      if (attributes == nullptr) {
        throw RenderError("cannot assign attribute on non-namespace object");
      }
      return attributes->set(target.attribute, value);
    }
    case Target::Kind::kTuple: break;
  }
  if (value.is_undefined() || !is_iterable(value)) {
    throw RenderError(fmt::format("cannot unpack non-iterable {} object", type_name(value)));
  }
  const std::vector<Value> items = to_vector(value, budget_);
  if (items.size() != target.items.size()) {
    throw RenderError(
        fmt::format("expected {} values to unpack, found {}", target.items.size(), items.size()));
  }
  for (std::size_t i = 0; i < items.size(); ++i) assign(target.items[i], items[i]);
}

// --- Statements
// -------------------------------------------------------------------------------------

Interpreter::Flow Interpreter::execute(const Block& block) {
  for (const Statement& statement : block) {
    const Flow flow = execute(statement);
    if (flow != Flow::kNext) return flow;
  }
  return Flow::kNext;
}

Interpreter::Flow Interpreter::execute(const Statement& statement) {
  const RenderBudget::Depth depth(budget_);
  budget_.charge_steps();
  offset_ = statement.offset;
  return std::visit([this](const auto& node) { return run(node); }, statement.node);
}

void Interpreter::check_output() const {
  if (out_->size() > budget_.limits().output_bytes) {
    throw RenderError(
        fmt::format("the template prints more than {} bytes", budget_.limits().output_bytes));
  }
}

Interpreter::Flow Interpreter::run(const Text& statement) {
  *out_ += statement.text;
  check_output();
  return Flow::kNext;
}

Interpreter::Flow Interpreter::run(const Output& statement) {
  const Value value = evaluate(*statement.value);
  const std::size_t before = out_->size();
  append_string(*out_, value, budget_);
  budget_.charge_steps(static_cast<std::int64_t>((out_->size() - before) / 256));
  check_output();
  return Flow::kNext;
}

Interpreter::Flow Interpreter::run(const For& statement) {
  Value iterable = evaluate(*statement.iterable);
  if (statement.condition) {
    iterable =
        std::shared_ptr<Iterator>(std::make_shared<FilteredIterator>(*this, statement, iterable));
  }
  const auto loop = std::make_shared<LoopObject>(iterable, budget_);
  const Value loop_value = std::shared_ptr<Object>(loop);
  bool is_empty = true;
  for (Value item; loop->advance(item);) {
    budget_.charge_loop_iteration();
    const ScopeGuard scope(*this, scope_);
    if (loop_name_id_ >= 0) assign(loop_name_id_, loop_value);
    assign(statement.target, item);
    const Flow flow = execute(statement.body);
    if (flow == Flow::kBreak) break;
    // As in jinja2, an iteration that `continue` or `break` ends does not count against `else`.
    if (flow == Flow::kNext) is_empty = false;
  }
  if (!is_empty || statement.otherwise.empty()) return Flow::kNext;
  const ScopeGuard scope(*this, scope_);
  return execute(statement.otherwise);
}

Interpreter::Flow Interpreter::run(const If& statement) {
  for (const auto& [condition, block] : statement.branches) {
    if (is_true(evaluate(*condition))) return execute(block);
  }
  return execute(statement.otherwise);
}

Interpreter::Flow Interpreter::run(const Set& statement) {
  assign(statement.target, evaluate(*statement.value));
  return Flow::kNext;
}

std::string Interpreter::capture(const Block& block, Flow& flow) {
  const ScopeGuard scope(*this, scope_);
  std::string text;
  std::string* const outer = std::exchange(out_, &text);
  flow = execute(block);
  out_ = outer;
  return text;
}

Interpreter::Flow Interpreter::run(const SetBlock& statement) {
  Flow flow = Flow::kNext;
  Value text = string(capture(statement.body, flow));
  if (flow != Flow::kNext) return flow;
  assign(statement.target, statement.filter ? apply_block_filter(*statement.filter, text) : text);
  return Flow::kNext;
}

Interpreter::Flow Interpreter::run(const Macro& statement) {
  assign(statement.name_id,
         std::shared_ptr<Object>(std::make_shared<MacroObject>(statement.definition, scope_)));
  return Flow::kNext;
}

Interpreter::Flow Interpreter::run(const CallBlock& statement) {
  const Value caller =
      std::shared_ptr<Object>(std::make_shared<MacroObject>(statement.caller, scope_));
  const Value result =
      call_node(std::get<Call>(statement.call->node), statement.call->offset, &caller);
  append_string(*out_, result, budget_);
  check_output();
  return Flow::kNext;
}

Interpreter::Flow Interpreter::run(const FilterBlock& statement) {
  Flow flow = Flow::kNext;
  const Value text = string(capture(statement.body, flow));
  if (flow != Flow::kNext) return flow;
  const Value filtered = apply_block_filter(*statement.filter, text);
  // Unlike {{ }}, a filter block does not print its result with str().
  if (!filtered.is_string()) {
    throw RenderError(fmt::format("the filter block makes a value of type '{}', not a string",
                                  type_name(filtered)));
  }
  append_string(*out_, filtered, budget_);
  check_output();
  return Flow::kNext;
}

Interpreter::Flow Interpreter::run(const With& statement) {
  std::vector<Value> values;
  for (const auto& [target, value] : statement.variables) values.push_back(evaluate(*value));
  const ScopeGuard scope(*this, scope_);
  for (std::size_t i = 0; i < values.size(); ++i) assign(statement.variables[i].first, values[i]);
  return execute(statement.body);
}

Interpreter::Flow Interpreter::run(const Generation& statement) {
  const ScopeGuard scope(*this, scope_);
  return execute(statement.body);
}

}  // namespace llmrun::jinja
