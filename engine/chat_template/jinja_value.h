// Values of the template language, with Python's meaning: what jinja2 sees as None, bool, int,
// float, str, list, tuple, dict and so on. Integers have 64 bits; passing them is an error.
// Strings, lists and dictionaries never change, so copies of a Value share them (shared_ptr: a
// value has no one owner). A container knows how deep it is nested; the depth is limited, so that
// walking or destroying it cannot exhaust the stack.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "engine/chat_template/render_budget.h"

namespace llmrun::jinja {

class Value;
class Object;
class Iterator;
struct Sequence;
struct Dict;

enum class ValueKind {
  kUndefined,  // a name, attribute or item that does not exist; using it is an error
  kNone,
  kBool,
  kInt,
  kFloat,
  kString,
  kSequence,
  kDict,
  kIterator,
  kObject,
};

class Value {
 public:
  Value() = default;                           // undefined
  Value(bool value) : data_(value) {}          // NOLINT(google-explicit-constructor)
  Value(std::int64_t value) : data_(value) {}  // NOLINT(google-explicit-constructor)
  Value(double value) : data_(value) {}        // NOLINT(google-explicit-constructor)
  Value(std::shared_ptr<Iterator> value) : data_(std::move(value)) {}  // NOLINT
  Value(std::shared_ptr<Object> value) : data_(std::move(value)) {}    // NOLINT
  Value(const char*) = delete;                                         // would become a bool
  static Value none();
  // `message` is what using the value reports, e.g. "'name' is undefined".
  static Value undefined(std::string message);

  // These charge the budget. Nesting deeper than kMaxNesting is a RenderError.
  static Value string(std::string text, RenderBudget& budget);
  static Value list(std::vector<Value> items, RenderBudget& budget);
  static Value tuple(std::vector<Value> items, RenderBudget& budget);
  static Value sequence(Sequence sequence, RenderBudget& budget);
  static Value dict(std::vector<std::pair<Value, Value>> items, RenderBudget& budget);
  static constexpr int kMaxNesting = 100;
  // The nesting of what holds values nested that deep; a RenderError past kMaxNesting.
  static int nesting_around(int inner);

  ValueKind kind() const { return static_cast<ValueKind>(data_.index()); }
  bool is(ValueKind kind) const { return this->kind() == kind; }
  bool is_undefined() const { return is(ValueKind::kUndefined); }
  bool is_none() const { return is(ValueKind::kNone); }
  bool is_string() const { return is(ValueKind::kString); }
  bool is_integral() const { return is(ValueKind::kInt) || is(ValueKind::kBool); }  // Python's int
  bool is_number() const { return is_integral() || is(ValueKind::kFloat); }

  // REQUIRES: the kind of the name.
  bool as_bool() const { return std::get<bool>(data_); }
  std::int64_t as_int() const;  // kInt or kBool
  double as_double() const;     // is_number()
  std::string_view as_string() const { return *std::get<StringPtr>(data_); }
  const Sequence& as_sequence() const { return *std::get<SequencePtr>(data_); }
  const Dict& as_dict() const { return *std::get<DictPtr>(data_); }
  Iterator& as_iterator() const { return *std::get<std::shared_ptr<Iterator>>(data_); }
  Object& as_object() const { return *std::get<std::shared_ptr<Object>>(data_); }
  const std::string& undefined_message() const;
  int nesting() const;  // 0 for scalars
  // Python's `is`: the same object; equal scalars of one kind count as the same.
  bool is_same_object(const Value& other) const;

 private:
  using StringPtr = std::shared_ptr<const std::string>;
  using SequencePtr = std::shared_ptr<const Sequence>;
  using DictPtr = std::shared_ptr<const Dict>;
  struct Undefined {
    StringPtr message;
  };
  struct None {};
  // In the order of ValueKind.
  std::variant<Undefined, None, bool, std::int64_t, double, StringPtr, SequencePtr, DictPtr,
               std::shared_ptr<Iterator>, std::shared_ptr<Object>>
      data_;
};

// list, tuple, range and the views of a dict differ in how they print and what they may do.
enum class SequenceType { kList, kTuple, kRange, kDictKeys, kDictValues, kDictItems };

struct Sequence {
  SequenceType type = SequenceType::kList;
  std::vector<Value> items;
  int nesting = 1;

  bool is_indexable() const { return type <= SequenceType::kRange; }
};

// In the order of insertion. Keys are None, booleans, numbers and strings.
struct Dict {
  std::vector<std::pair<Value, Value>> items;
  int nesting = 1;

  // The value of a key, or null. 1, 1.0 and true are one key, as in Python.
  const Value* find(std::string_view key) const;
  const Value* find(const Value& key) const;
  // Adds an item; a key that is there keeps its place and takes the new value.
  void set(const Value& key, Value value);
};

// Arguments of a call in the template.
struct Arguments {
  std::vector<Value> positional;
  std::vector<std::pair<std::string, Value>> keyword;
};

class Interpreter;

// Namespaces, macros, methods, functions and the loop variable.
class Object {
 public:
  virtual ~Object() = default;
  virtual std::string_view type_name() const = 0;
  virtual void append_repr(std::string& out, RenderBudget& budget) = 0;
  // Nothing if there is none of that name.
  virtual std::optional<Value> attribute(std::string_view name, Interpreter& interpreter);
  virtual bool is_callable() const { return false; }
  virtual int nesting() const { return 0; }
  virtual Value call(Interpreter& interpreter, const Arguments& arguments);
};

// A lazy sequence that is consumed by reading it: Python's generator.
class Iterator {
 public:
  explicit Iterator(int nesting);
  virtual ~Iterator() = default;
  // Puts the next item into `item`; false at the end.
  virtual bool next(Value& item) = 0;
  int nesting() const { return nesting_; }

 private:
  int nesting_;
};

// Reads any iterable once, front to back: sequences, the keys of a dict, the characters of a
// string, iterators, undefined (empty). Other values are a RenderError at construction.
class Cursor {
 public:
  Cursor(Value iterable, RenderBudget& budget);
  bool next(Value& item);

 private:
  Value iterable_;
  std::size_t position_ = 0;  // item, or byte of a string
  RenderBudget* budget_;
};

// Python's name of the type, for messages: "str", "NoneType", "list", ...
std::string_view type_name(const Value& value);
bool is_true(const Value& value);
bool is_iterable(const Value& value);
// Charges the budget for reading a string once; other values cost nothing.
void charge_text(const Value& value, RenderBudget& budget);
// str(value) and repr(value), appended.
void append_string(std::string& out, const Value& value, RenderBudget& budget);
void append_repr(std::string& out, const Value& value, RenderBudget& budget);
std::string to_string(const Value& value, RenderBudget& budget);

// a == b; never an error.
bool equals(const Value& a, const Value& b, RenderBudget& budget);
// a < b for numbers, strings, lists and tuples; others are a RenderError that names
// `operator_name`.
bool less_than(const Value& a, const Value& b, RenderBudget& budget,
               std::string_view operator_name = "<");
// a <= b, on the same terms.
bool less_or_equal(const Value& a, const Value& b, RenderBudget& budget,
                   std::string_view operator_name);
// Throws RenderError for what Python cannot look up in a dict: lists and dicts.
void check_hashable(const Value& value);
// item in container.
bool contains(const Value& container, const Value& item, RenderBudget& budget);
// len(value).
std::int64_t length(const Value& value);
// list(value).
std::vector<Value> to_vector(const Value& value, RenderBudget& budget);

// Throws what an operation on an undefined value reports.
[[noreturn]] void fail_undefined(const Value& value);

}  // namespace llmrun::jinja
