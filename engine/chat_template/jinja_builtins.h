// Filters, tests, methods and global functions of the template language, by name.
// Source: jinja2 3.1.6 (filters.py, tests.py, sandbox.py), CPython 3.11 for methods, and Hugging
// Face's overrides in transformers/utils/chat_template_utils.py.
#pragma once

#include <initializer_list>
#include <optional>
#include <string_view>
#include <vector>

#include "engine/chat_template/jinja_value.h"

namespace llmrun::jinja {

// All throw RenderError.
using FilterFunction = Value (*)(Interpreter&, const Value& input, const Arguments&);
using TestFunction = bool (*)(Interpreter&, const Value& input, const Arguments&);
using MethodFunction = Value (*)(Interpreter&, const Value& self, const Arguments&);
using GlobalFunction = Value (*)(Interpreter&, const Arguments&);

// Null if there is none of that name.
FilterFunction find_filter(std::string_view name);
TestFunction find_test(std::string_view name);
GlobalFunction find_global(std::string_view name);

// How an attribute of a built-in type is found.
enum class MethodStatus {
  kNone,  // Python has no such attribute either
  kFound,
  kForbidden,    // the sandbox hides it, e.g. list.append
  kUnsupported,  // Python has it, this interpreter does not: an error, never a silent difference
};
struct MethodLookup {
  MethodStatus status = MethodStatus::kNone;
  MethodFunction function = nullptr;
};
MethodLookup find_method(const Value& self, std::string_view name);

// Binds arguments to parameter names as Python does; too many, unknown or doubled ones are an
// error.
class BoundArguments {
 public:
  BoundArguments(std::string_view function, const Arguments& arguments,
                 std::initializer_list<std::string_view> parameters, std::size_t num_required = 0);

  // Null if the argument was not given.
  const Value* operator[](std::size_t index) const { return values_[index]; }
  // The argument, or `fallback` if it was not given; an argument of the wrong type is an error.
  std::int64_t integer(std::size_t index, std::int64_t fallback) const;
  bool boolean(std::size_t index, bool fallback) const;  // any value, by its truth
  // nullopt if not given or None.
  std::optional<std::int64_t> optional_integer(std::size_t index) const;
  std::optional<std::string_view> optional_string(std::size_t index) const;
  std::string_view string(std::size_t index, std::string_view fallback) const;

 private:
  std::string_view function_;
  std::vector<const Value*> values_;
};

// object.name and object[index] of the template language; a missing one is undefined.
Value get_attribute(Interpreter& interpreter, const Value& object, std::string_view name);
Value get_item(Interpreter& interpreter, const Value& object, const Value& index);
// object[start:stop:step]; null means not given.
Value get_slice(Interpreter& interpreter, const Value& object, const Value* start,
                const Value* stop, const Value* step);

// left + right, and left % right of numbers.
Value add(const Value& left, const Value& right, RenderBudget& budget);
Value remainder(const Value& left, const Value& right);

// "%s and %d" % arguments, Python's printf-style formatting. `arguments` is a tuple, a dict or one
// value.
Value format_percent(const Value& format, const Value& arguments, RenderBudget& budget);

// The method str.format, without format specifications.
Value format_braces(Interpreter& interpreter, const Value& self, const Arguments& arguments);

// json.dumps.
struct JsonStyle {
  bool ensure_ascii = false;
  bool sort_keys = false;
  std::optional<std::string> indent;  // one level
  std::string item_separator = ", ";
  std::string key_separator = ": ";
};
std::string to_json(const Value& value, const JsonStyle& style, RenderBudget& budget);

}  // namespace llmrun::jinja
