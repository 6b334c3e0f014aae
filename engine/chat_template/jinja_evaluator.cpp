#include <cmath>
#include <limits>

#include <fmt/format.h>

#include "engine/chat_template/jinja_interpreter.h"

namespace llmrun::jinja {
namespace {

[[noreturn]] void fail_overflow() {
  throw RenderError("an integer does not fit 64 bits");
}

std::string_view symbol(BinaryOperator op) {
  switch (op) {
    case BinaryOperator::kAdd: return "+";
    case BinaryOperator::kSubtract: return "-";
    case BinaryOperator::kMultiply: return "*";
    case BinaryOperator::kDivide: return "/";
    case BinaryOperator::kFloorDivide: return "//";
    case BinaryOperator::kModulo: return "%";
    case BinaryOperator::kPower: return "** or pow()";
  }
  return "?";
}

std::int64_t floor_divide(std::int64_t a, std::int64_t b) {
  if (b == -1) {
    if (a == std::numeric_limits<std::int64_t>::min()) fail_overflow();
    return -a;
  }
  const std::int64_t quotient = a / b;
  return (a % b != 0 && (a < 0) != (b < 0)) ? quotient - 1 : quotient;
}

// Python: the result has the sign of the divisor.
double modulo(double a, double b) {
  const double remainder = std::fmod(a, b);
  if (remainder == 0) return std::copysign(0.0, b);
  return (remainder < 0) != (b < 0) ? remainder + b : remainder;
}

double floor_divide(double a, double b) {
  const double remainder = std::fmod(a, b);
  double quotient = (a - remainder) / b;
  if (remainder != 0 && (b < 0) != (remainder < 0)) quotient -= 1.0;
  if (quotient == 0) return std::copysign(0.0, a / b);
  const double floored = std::floor(quotient);
  return quotient - floored > 0.5 ? floored + 1.0 : floored;
}

Value integer_power(std::int64_t base, std::int64_t exponent) {
  if (exponent < 0) {
    if (base == 0) throw RenderError("0.0 cannot be raised to a negative power");
    return std::pow(static_cast<double>(base), static_cast<double>(exponent));
  }
  std::int64_t result = 1;
  if (base == 0 || base == 1) return exponent == 0 ? std::int64_t{1} : base;
  if (base == -1) return std::int64_t{exponent % 2 == 0 ? 1 : -1};
  for (; exponent > 0; --exponent) {
    if (__builtin_mul_overflow(result, base, &result)) fail_overflow();
  }
  return result;
}

Value integer_arithmetic(BinaryOperator op, std::int64_t a, std::int64_t b) {
  std::int64_t result = 0;
  const bool divides = op == BinaryOperator::kDivide || op == BinaryOperator::kFloorDivide ||
                       op == BinaryOperator::kModulo;
  if (divides && b == 0) {
    throw RenderError(op == BinaryOperator::kDivide ? "division by zero"
                                                    : "integer division or modulo by zero");
  }
  switch (op) {
    case BinaryOperator::kAdd:
      if (__builtin_add_overflow(a, b, &result)) fail_overflow();
      return result;
    case BinaryOperator::kSubtract:
      if (__builtin_sub_overflow(a, b, &result)) fail_overflow();
      return result;
    case BinaryOperator::kMultiply:
      if (__builtin_mul_overflow(a, b, &result)) fail_overflow();
      return result;
    case BinaryOperator::kDivide: return static_cast<double>(a) / static_cast<double>(b);
    case BinaryOperator::kFloorDivide: return floor_divide(a, b);
    case BinaryOperator::kModulo: return b == -1 ? std::int64_t{0} : a - floor_divide(a, b) * b;
    case BinaryOperator::kPower: return integer_power(a, b);
  }
  return result;
}

Value float_arithmetic(BinaryOperator op, double a, double b) {
  const bool divides = op == BinaryOperator::kDivide || op == BinaryOperator::kFloorDivide ||
                       op == BinaryOperator::kModulo;
  if (divides && b == 0) throw RenderError("float division by zero");
  switch (op) {
    case BinaryOperator::kAdd: return a + b;
    case BinaryOperator::kSubtract: return a - b;
    case BinaryOperator::kMultiply: return a * b;
    case BinaryOperator::kDivide: return a / b;
    case BinaryOperator::kFloorDivide: return floor_divide(a, b);
    case BinaryOperator::kModulo: return modulo(a, b);
    case BinaryOperator::kPower: {
      const double result = std::pow(a, b);
      if (std::isinf(result) && std::isfinite(a) && std::isfinite(b)) {
        throw RenderError("the power is too large");
      }
      if (std::isnan(result) && !std::isnan(a) && !std::isnan(b)) {
        throw RenderError("complex numbers are not supported");
      }
      return result;
    }
  }
  return 0.0;
}

Value repeat(const Value& value, std::int64_t count, RenderBudget& budget) {
  const auto times = static_cast<std::size_t>(std::max<std::int64_t>(count, 0));
  if (value.is_string()) {
    const std::string_view text = value.as_string();
    if (!text.empty() && times > budget.limits().string_bytes / text.size()) {
      budget.charge_string(budget.limits().string_bytes + 1);
    }
    std::string out;
    for (std::size_t i = 0; i < times && !text.empty(); ++i) out += text;
    return Value::string(std::move(out), budget);
  }
  const Sequence& sequence = value.as_sequence();
  const std::size_t size = sequence.items.size();
  const std::size_t limit = budget.limits().allocated_bytes;
  if (size > 0) budget.charge_items(times > limit / size ? limit : times * size);
  std::vector<Value> items;
  for (std::size_t i = 0; i < times && size > 0; ++i) {
    items.insert(items.end(), sequence.items.begin(), sequence.items.end());
  }
  return Value::sequence({.type = sequence.type, .items = std::move(items)}, budget);
}

bool is_repeatable(const Value& value) {
  return value.is_string() ||
         (value.is(ValueKind::kSequence) && value.as_sequence().type <= SequenceType::kTuple);
}

Value concatenate(const Value& left, const Value& right, RenderBudget& budget) {
  if (left.is_string() && right.is_string()) {
    const std::string_view a = left.as_string();
    const std::string_view b = right.as_string();
    std::string text;
    text.reserve(a.size() + b.size());
    text.append(a).append(b);
    return Value::string(std::move(text), budget);
  }
  if (is_repeatable(left) && left.is(ValueKind::kSequence) && is_repeatable(right) &&
      right.is(ValueKind::kSequence) && left.as_sequence().type == right.as_sequence().type) {
    std::vector<Value> items = to_vector(left, budget);
    const std::vector<Value>& rest = right.as_sequence().items;
    items.insert(items.end(), rest.begin(), rest.end());
    return Value::sequence({.type = left.as_sequence().type, .items = std::move(items)}, budget);
  }
  if (left.is_string() || left.is(ValueKind::kSequence)) {
    throw RenderError(fmt::format("can only concatenate {0} (not \"{1}\") to {0}", type_name(left),
                                  type_name(right)));
  }
  throw RenderError(fmt::format("unsupported operand type(s) for +: '{}' and '{}'", type_name(left),
                                type_name(right)));
}

Value arithmetic(BinaryOperator op, const Value& left, const Value& right, RenderBudget& budget) {
  if (op == BinaryOperator::kModulo && left.is_string()) {
    return format_percent(left, right, budget);
  }
  if (left.is_undefined()) fail_undefined(left);
  if (right.is_undefined()) fail_undefined(right);
  if (left.is_integral() && right.is_integral()) {
    return integer_arithmetic(op, left.as_int(), right.as_int());
  }
  if (left.is_number() && right.is_number()) {
    return float_arithmetic(op, left.as_double(), right.as_double());
  }
  if (op == BinaryOperator::kAdd) return concatenate(left, right, budget);
  if (op == BinaryOperator::kMultiply) {
    if (is_repeatable(left) && right.is_integral()) return repeat(left, right.as_int(), budget);
    if (left.is_integral() && is_repeatable(right)) return repeat(right, left.as_int(), budget);
  }
  throw RenderError(fmt::format("unsupported operand type(s) for {}: '{}' and '{}'", symbol(op),
                                type_name(left), type_name(right)));
}

// Built-in functions read the texts they are given.
void charge_inputs(const Value& input, const Arguments& arguments, RenderBudget& budget) {
  charge_text(input, budget);
  for (const Value& argument : arguments.positional) charge_text(argument, budget);
}

}  // namespace

Value add(const Value& left, const Value& right, RenderBudget& budget) {
  return arithmetic(BinaryOperator::kAdd, left, right, budget);
}

Value remainder(const Value& left, const Value& right) {
  if (left.is_integral() && right.is_integral()) {
    return integer_arithmetic(BinaryOperator::kModulo, left.as_int(), right.as_int());
  }
  return float_arithmetic(BinaryOperator::kModulo, left.as_double(), right.as_double());
}

Value Interpreter::evaluate(const Expression& expression) {
  const RenderBudget::Depth depth(budget_);
  budget_.charge_steps();
  return std::visit([&](const auto& node) { return evaluate(node, expression.offset); },
                    expression.node);
}

Value Interpreter::evaluate(const Literal& node, std::uint32_t /*offset*/) {
  return node.value;
}

Value Interpreter::evaluate(const NameReference& node, std::uint32_t /*offset*/) {
  return lookup(node.name_id);
}

Value Interpreter::evaluate(const SequenceLiteral& node, std::uint32_t offset) {
  std::vector<Value> items;
  items.reserve(node.items.size());
  for (const ExpressionPtr& item : node.items) items.push_back(evaluate(*item));
  offset_ = offset;
  return node.is_tuple ? Value::tuple(std::move(items), budget_)
                       : Value::list(std::move(items), budget_);
}

Value Interpreter::evaluate(const DictLiteral& node, std::uint32_t offset) {
  Dict dict;
  for (const auto& [key_expression, value_expression] : node.items) {
    Value key = evaluate(*key_expression);
    Value value = evaluate(*value_expression);
    budget_.charge_steps(static_cast<std::int64_t>(dict.items.size() / 8));
    dict.set(key, std::move(value));
  }
  offset_ = offset;
  return Value::dict(std::move(dict.items), budget_);
}

Value Interpreter::evaluate(const Attribute& node, std::uint32_t offset) {
  const Value object = evaluate(*node.object);
  offset_ = offset;
  return get_attribute(*this, object, node.name);
}

Value Interpreter::evaluate(const Subscript& node, std::uint32_t offset) {
  const Value object = evaluate(*node.object);
  const Value index = evaluate(*node.index);
  offset_ = offset;
  return get_item(*this, object, index);
}

Value Interpreter::evaluate(const Slice& node, std::uint32_t offset) {
  const Value object = evaluate(*node.object);
  Value parts[3];
  const Value* given[3] = {};
  const ExpressionPtr* expressions[3] = {&node.start, &node.stop, &node.step};
  for (int i = 0; i < 3; ++i) {
    if (!*expressions[i]) continue;
    parts[i] = evaluate(**expressions[i]);
    given[i] = &parts[i];
  }
  offset_ = offset;
  return get_slice(*this, object, given[0], given[1], given[2]);
}

Arguments Interpreter::evaluate(const CallArguments& arguments) {
  Arguments values;
  values.positional.reserve(arguments.positional.size());
  for (const ExpressionPtr& argument : arguments.positional) {
    values.positional.push_back(evaluate(*argument));
  }
  if (arguments.spread_positional) {
    const std::vector<Value> rest = to_vector(evaluate(*arguments.spread_positional), budget_);
    values.positional.insert(values.positional.end(), rest.begin(), rest.end());
  }
  for (const auto& [name, argument] : arguments.keyword) {
    values.keyword.emplace_back(name, evaluate(*argument));
  }
  if (arguments.spread_keyword) {
    const Value rest = evaluate(*arguments.spread_keyword);
    if (!rest.is(ValueKind::kDict)) throw RenderError("argument after ** must be a mapping");
    for (const auto& [key, value] : rest.as_dict().items) {
      if (!key.is_string()) throw RenderError("keywords must be strings");
      values.keyword.emplace_back(std::string(key.as_string()), value);
    }
  }
  return values;
}

Value Interpreter::call_node(const Call& node, std::uint32_t offset, const Value* caller) {
  // A method is called without making a value of it.
  if (const auto* attribute = std::get_if<Attribute>(&node.callee->node)) {
    const Value object = evaluate(*attribute->object);
    if (const MethodLookup method = find_method(object, attribute->name);
        method.status == MethodStatus::kFound && caller == nullptr) {
      const Arguments arguments = evaluate(node.arguments);
      offset_ = offset;
      charge_inputs(object, arguments, budget_);
      return method.function(*this, object, arguments);
    }
    offset_ = offset;
    const Value callee = get_attribute(*this, object, attribute->name);
    Arguments arguments = evaluate(node.arguments);
    if (caller != nullptr) arguments.keyword.emplace_back("caller", *caller);
    offset_ = offset;
    return call(callee, arguments);
  }
  const Value callee = evaluate(*node.callee);
  Arguments arguments = evaluate(node.arguments);
  if (caller != nullptr) arguments.keyword.emplace_back("caller", *caller);
  offset_ = offset;
  return call(callee, arguments);
}

Value Interpreter::evaluate(const Call& node, std::uint32_t offset) {
  return call_node(node, offset, nullptr);
}

Value Interpreter::evaluate(const Filter& node, std::uint32_t offset) {
  const Value input = evaluate(*node.input);
  const Arguments arguments = evaluate(node.arguments);
  offset_ = offset;
  if (node.function == nullptr) throw RenderError(fmt::format("no filter named '{}'", node.name));
  charge_inputs(input, arguments, budget_);
  return node.function(*this, input, arguments);
}

Value Interpreter::apply_block_filter(const Expression& filter, const Value& text) {
  const auto& node = std::get<Filter>(filter.node);
  const Value input = node.input ? apply_block_filter(*node.input, text) : text;
  const Arguments arguments = evaluate(node.arguments);
  offset_ = filter.offset;
  if (node.function == nullptr) throw RenderError(fmt::format("no filter named '{}'", node.name));
  charge_inputs(input, arguments, budget_);
  return node.function(*this, input, arguments);
}

Value Interpreter::evaluate(const Test& node, std::uint32_t offset) {
  const Value input = evaluate(*node.input);
  const Arguments arguments = evaluate(node.arguments);
  offset_ = offset;
  if (node.function == nullptr) throw RenderError(fmt::format("no test named '{}'", node.name));
  charge_inputs(input, arguments, budget_);
  return node.function(*this, input, arguments);
}

Value Interpreter::evaluate(const Unary& node, std::uint32_t offset) {
  const Value operand = evaluate(*node.operand);
  offset_ = offset;
  if (node.op == UnaryOperator::kNot) return !is_true(operand);
  if (operand.is_undefined()) fail_undefined(operand);
  if (!operand.is_number()) {
    throw RenderError(fmt::format("bad operand type for unary {}: '{}'",
                                  node.op == UnaryOperator::kMinus ? '-' : '+',
                                  type_name(operand)));
  }
  const bool negate = node.op == UnaryOperator::kMinus;
  if (operand.is_integral()) {
    return integer_arithmetic(negate ? BinaryOperator::kSubtract : BinaryOperator::kAdd, 0,
                              operand.as_int());
  }
  return negate ? -operand.as_double() : operand.as_double();
}

Value Interpreter::evaluate(const Arithmetic& node, std::uint32_t offset) {
  Value result = evaluate(*node.first);
  for (const auto& [op, expression] : node.rest) {
    const Value right = evaluate(*expression);
    offset_ = offset;
    result = arithmetic(op, result, right, budget_);
  }
  return result;
}

bool Interpreter::compare(ComparisonOperator op, const Value& left, const Value& right) {
  switch (op) {
    case ComparisonOperator::kEqual: return equals(left, right, budget_);
    case ComparisonOperator::kNotEqual: return !equals(left, right, budget_);
    case ComparisonOperator::kLess: return less_than(left, right, budget_, "<");
    case ComparisonOperator::kGreater: return less_than(right, left, budget_, ">");
    case ComparisonOperator::kLessEqual: return less_or_equal(left, right, budget_, "<=");
    case ComparisonOperator::kGreaterEqual: return less_or_equal(right, left, budget_, ">=");
    case ComparisonOperator::kIn: return contains(right, left, budget_);
    case ComparisonOperator::kNotIn: return !contains(right, left, budget_);
  }
  return false;
}

Value Interpreter::evaluate(const Comparison& node, std::uint32_t offset) {
  Value left = evaluate(*node.first);
  for (const auto& [op, expression] : node.rest) {
    Value right = evaluate(*expression);
    offset_ = offset;
    if (!compare(op, left, right)) return false;
    left = std::move(right);
  }
  return true;
}

Value Interpreter::evaluate(const Logical& node, std::uint32_t /*offset*/) {
  Value value;
  for (const ExpressionPtr& operand : node.operands) {
    value = evaluate(*operand);
    if (is_true(value) == node.is_or) break;
  }
  return value;
}

Value Interpreter::evaluate(const Concatenation& node, std::uint32_t offset) {
  std::string text;
  for (const ExpressionPtr& operand : node.operands) {
    const Value value = evaluate(*operand);
    offset_ = offset;
    append_string(text, value, budget_);
    if (text.size() > budget_.limits().string_bytes) budget_.charge_string(text.size());
  }
  return string(std::move(text));
}

Value Interpreter::evaluate(const Conditional& node, std::uint32_t /*offset*/) {
  if (is_true(evaluate(*node.condition))) return evaluate(*node.then);
  if (node.otherwise) return evaluate(*node.otherwise);
  return Value::undefined(
      "the inline if-expression evaluated to false and no else section was defined");
}

}  // namespace llmrun::jinja
