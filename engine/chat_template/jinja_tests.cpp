#include <algorithm>

#include <fmt/format.h>

#include "engine/chat_template/jinja_builtins.h"
#include "engine/chat_template/jinja_interpreter.h"
#include "engine/chat_template/python_text.h"

namespace llmrun::jinja {
namespace {

void expect_no_arguments(const Arguments& arguments) {
  if (!arguments.positional.empty() || !arguments.keyword.empty()) {
    throw RenderError("the test takes no arguments");
  }
}

const Value& only_argument(const Arguments& arguments) {
  if (arguments.positional.size() != 1 || !arguments.keyword.empty()) {
    throw RenderError("the test takes one argument");
  }
  return arguments.positional.front();
}

// A test of the value alone.
template <bool (*Predicate)(const Value&)>
bool simple(Interpreter& /*interpreter*/, const Value& input, const Arguments& arguments) {
  expect_no_arguments(arguments);
  return Predicate(input);
}

bool is_defined(const Value& value) {
  return !value.is_undefined();
}
bool is_undefined(const Value& value) {
  return value.is_undefined();
}
bool is_none(const Value& value) {
  return value.is_none();
}
bool is_boolean(const Value& value) {
  return value.is(ValueKind::kBool);
}
bool is_false(const Value& value) {
  return value.is(ValueKind::kBool) && !value.as_bool();
}
bool is_exactly_true(const Value& value) {
  return value.is(ValueKind::kBool) && value.as_bool();
}
bool is_integer(const Value& value) {
  return value.is(ValueKind::kInt);
}
bool is_float(const Value& value) {
  return value.is(ValueKind::kFloat);
}
bool is_number(const Value& value) {
  return value.is_number();
}
bool is_string(const Value& value) {
  return value.is_string();
}
bool is_mapping(const Value& value) {
  return value.is(ValueKind::kDict);
}
bool is_iterable_value(const Value& value) {
  return is_iterable(value);
}
bool is_escaped(const Value& /*value*/) {
  return false;
}
bool is_callable(const Value& value) {
  // An undefined value has __call__, which fails, so Python takes it for a callable.
  return value.is_undefined() || (value.is(ValueKind::kObject) && value.as_object().is_callable());
}
// Has a length and an operator []; undefined has both.
bool is_sequence(const Value& value) {
  return value.is_undefined() || value.is_string() || value.is(ValueKind::kDict) ||
         (value.is(ValueKind::kSequence) && value.as_sequence().is_indexable());
}

// True if there are cased letters and all of them have that case.
bool has_only_case(std::string_view text, bool upper) {
  bool has_letter = false;
  for (std::size_t offset = 0; offset < text.size();) {
    const char32_t c = decode_code_point(text, offset);
    if (upper ? is_lower_case(c) : is_upper_case(c)) return false;
    has_letter |= upper ? is_upper_case(c) : is_lower_case(c);
  }
  return has_letter;
}

bool is_lower(Interpreter& interpreter, const Value& input, const Arguments& arguments) {
  expect_no_arguments(arguments);
  return has_only_case(to_string(input, interpreter.budget()), false);
}

bool is_upper(Interpreter& interpreter, const Value& input, const Arguments& arguments) {
  expect_no_arguments(arguments);
  return has_only_case(to_string(input, interpreter.budget()), true);
}

bool remainder_is(const Value& input, const Value& divisor, double expected) {
  if (input.is_undefined()) fail_undefined(input);
  if (divisor.is_undefined()) fail_undefined(divisor);
  if (!input.is_number() || !divisor.is_number()) {
    throw RenderError(fmt::format("unsupported operand type(s) for %: '{}' and '{}'",
                                  type_name(input), type_name(divisor)));
  }
  return remainder(input, divisor).as_double() == expected;
}

bool is_odd(Interpreter& /*interpreter*/, const Value& input, const Arguments& arguments) {
  expect_no_arguments(arguments);
  return remainder_is(input, std::int64_t{2}, 1);
}

bool is_even(Interpreter& /*interpreter*/, const Value& input, const Arguments& arguments) {
  expect_no_arguments(arguments);
  return remainder_is(input, std::int64_t{2}, 0);
}

bool is_divisible(Interpreter& /*interpreter*/, const Value& input, const Arguments& arguments) {
  const BoundArguments bound("divisibleby", arguments, {"num"}, 1);
  return remainder_is(input, *bound[0], 0);
}

bool is_same_as(Interpreter& /*interpreter*/, const Value& input, const Arguments& arguments) {
  const BoundArguments bound("sameas", arguments, {"other"}, 1);
  return input.is_same_object(*bound[0]);
}

bool is_in(Interpreter& interpreter, const Value& input, const Arguments& arguments) {
  const BoundArguments bound("in", arguments, {"seq"}, 1);
  return contains(*bound[0], input, interpreter.budget());
}

bool is_filter(Interpreter& interpreter, const Value& input, const Arguments& arguments) {
  expect_no_arguments(arguments);
  return find_filter(to_string(input, interpreter.budget())) != nullptr;
}

bool is_test(Interpreter& interpreter, const Value& input, const Arguments& arguments) {
  expect_no_arguments(arguments);
  return find_test(to_string(input, interpreter.budget())) != nullptr;
}

bool is_equal(Interpreter& interpreter, const Value& input, const Arguments& arguments) {
  return equals(input, only_argument(arguments), interpreter.budget());
}

bool is_not_equal(Interpreter& interpreter, const Value& input, const Arguments& arguments) {
  return !equals(input, only_argument(arguments), interpreter.budget());
}

bool is_less(Interpreter& interpreter, const Value& input, const Arguments& arguments) {
  return less_than(input, only_argument(arguments), interpreter.budget(), "<");
}

bool is_greater(Interpreter& interpreter, const Value& input, const Arguments& arguments) {
  return less_than(only_argument(arguments), input, interpreter.budget(), ">");
}

bool is_less_or_equal(Interpreter& interpreter, const Value& input, const Arguments& arguments) {
  return less_or_equal(input, only_argument(arguments), interpreter.budget(), "<=");
}

bool is_greater_or_equal(Interpreter& interpreter, const Value& input, const Arguments& arguments) {
  return less_or_equal(only_argument(arguments), input, interpreter.budget(), ">=");
}

constexpr std::pair<std::string_view, TestFunction> kTests[] = {
    {"!=", is_not_equal},
    {"<", is_less},
    {"<=", is_less_or_equal},
    {"==", is_equal},
    {">", is_greater},
    {">=", is_greater_or_equal},
    {"boolean", simple<is_boolean>},
    {"callable", simple<is_callable>},
    {"defined", simple<is_defined>},
    {"divisibleby", is_divisible},
    {"eq", is_equal},
    {"equalto", is_equal},
    {"escaped", simple<is_escaped>},
    {"even", is_even},
    {"false", simple<is_false>},
    {"filter", is_filter},
    {"float", simple<is_float>},
    {"ge", is_greater_or_equal},
    {"greaterthan", is_greater},
    {"gt", is_greater},
    {"in", is_in},
    {"integer", simple<is_integer>},
    {"iterable", simple<is_iterable_value>},
    {"le", is_less_or_equal},
    {"lessthan", is_less},
    {"lower", is_lower},
    {"lt", is_less},
    {"mapping", simple<is_mapping>},
    {"ne", is_not_equal},
    {"none", simple<is_none>},
    {"number", simple<is_number>},
    {"odd", is_odd},
    {"sameas", is_same_as},
    {"sequence", simple<is_sequence>},
    {"string", simple<is_string>},
    {"test", is_test},
    {"true", simple<is_exactly_true>},
    {"undefined", simple<is_undefined>},
    {"upper", is_upper},
};

}  // namespace

TestFunction find_test(std::string_view name) {
  const auto* found = std::find_if(std::begin(kTests), std::end(kTests),
                                   [&](const auto& entry) { return entry.first == name; });
  return found == std::end(kTests) ? nullptr : found->second;
}

}  // namespace llmrun::jinja
