#include "engine/chat_template/jinja_value.h"

#include <algorithm>
#include <cmath>

#include <fmt/format.h>

#include "engine/chat_template/python_text.h"

namespace llmrun::jinja {
namespace {

bool is_hashable_scalar(const Value& value) {
  return value.is_none() || value.is_number() || value.is_string();
}

bool equal_numbers(const Value& a, const Value& b) {
  if (a.is_integral() && b.is_integral()) return a.as_int() == b.as_int();
  if (a.is(ValueKind::kFloat) && b.is(ValueKind::kFloat)) return a.as_double() == b.as_double();
  const std::int64_t integer = a.is_integral() ? a.as_int() : b.as_int();
  const double real = a.is_integral() ? b.as_double() : a.as_double();
  // Exact: a double outside int64, or with a fraction, equals no integer.
  return real >= -0x1p63 && real < 0x1p63 && real == std::trunc(real) &&
         static_cast<std::int64_t>(real) == integer;
}

bool equal_keys(const Value& a, const Value& b) {
  if (a.is_string() || b.is_string()) {
    return a.is_string() && b.is_string() && a.as_string() == b.as_string();
  }
  if (a.is_none() || b.is_none()) return a.is_none() && b.is_none();
  return equal_numbers(a, b);
}

bool equal_dicts(const Dict& a, const Dict& b, RenderBudget& budget) {
  if (a.items.size() != b.items.size()) return false;
  for (const auto& [key, value] : a.items) {
    budget.charge_steps(static_cast<std::int64_t>(b.items.size() / 8));
    const Value* other = b.find(key);
    if (other == nullptr || !equals(value, *other, budget)) return false;
  }
  return true;
}

bool equal_sequences(const Sequence& a, const Sequence& b, RenderBudget& budget) {
  if (a.type != b.type || a.items.size() != b.items.size()) return false;
  for (std::size_t i = 0; i < a.items.size(); ++i) {
    if (!equals(a.items[i], b.items[i], budget)) return false;
  }
  return true;
}

void append_items(std::string& out, const std::vector<Value>& items, RenderBudget& budget) {
  bool first = true;
  for (const Value& item : items) {
    if (!first) out += ", ";
    first = false;
    append_repr(out, item, budget);
  }
}

void append_sequence(std::string& out, const Sequence& sequence, RenderBudget& budget) {
  const auto enclose = [&](std::string_view before, std::string_view after) {
    out += before;
    append_items(out, sequence.items, budget);
    out += after;
  };
  switch (sequence.type) {
    case SequenceType::kList: return enclose("[", "]");
    case SequenceType::kTuple: return enclose("(", sequence.items.size() == 1 ? ",)" : ")");
    case SequenceType::kDictKeys: return enclose("dict_keys([", "])");
    case SequenceType::kDictValues: return enclose("dict_values([", "])");
    case SequenceType::kDictItems: return enclose("dict_items([", "])");
    case SequenceType::kRange: {
      const std::vector<Value>& items = sequence.items;
      if (items.empty()) {
        out += "range(0, 0)";
        return;
      }
      const std::int64_t step = items.size() > 1 ? items[1].as_int() - items[0].as_int() : 1;
      out += fmt::format("range({}, {}", items.front().as_int(), items.back().as_int() + step);
      out += step == 1 ? std::string(")") : fmt::format(", {})", step);
      return;
    }
  }
}

void append_dict(std::string& out, const Dict& dict, RenderBudget& budget) {
  out += '{';
  bool first = true;
  for (const auto& [key, value] : dict.items) {
    if (!first) out += ", ";
    first = false;
    append_repr(out, key, budget);
    out += ": ";
    append_repr(out, value, budget);
  }
  out += '}';
}

std::string_view sequence_type_name(SequenceType type) {
  switch (type) {
    case SequenceType::kList: return "list";
    case SequenceType::kTuple: return "tuple";
    case SequenceType::kRange: return "range";
    case SequenceType::kDictKeys: return "dict_keys";
    case SequenceType::kDictValues: return "dict_values";
    case SequenceType::kDictItems: return "dict_items";
  }
  return "list";
}

}  // namespace

Value Value::none() {
  Value value;
  value.data_ = None{};
  return value;
}

Value Value::undefined(std::string message) {
  Value value;
  value.data_ = Undefined{std::make_shared<const std::string>(std::move(message))};
  return value;
}

Value Value::string(std::string text, RenderBudget& budget) {
  budget.charge_string(text.size());
  Value value;
  value.data_ = std::make_shared<const std::string>(std::move(text));
  return value;
}

Value Value::list(std::vector<Value> items, RenderBudget& budget) {
  return sequence({.type = SequenceType::kList, .items = std::move(items)}, budget);
}

Value Value::tuple(std::vector<Value> items, RenderBudget& budget) {
  return sequence({.type = SequenceType::kTuple, .items = std::move(items)}, budget);
}

Value Value::sequence(Sequence sequence, RenderBudget& budget) {
  budget.charge_items(sequence.items.size());
  int nesting = 0;
  for (const Value& item : sequence.items) nesting = std::max(nesting, item.nesting());
  sequence.nesting = nesting_around(nesting);
  Value value;
  value.data_ = std::make_shared<const Sequence>(std::move(sequence));
  return value;
}

Value Value::dict(std::vector<std::pair<Value, Value>> items, RenderBudget& budget) {
  budget.charge_items(2 * items.size());
  int nesting = 0;
  for (const auto& [key, item] : items) {
    if (!is_hashable_scalar(key)) {
      throw RenderError(
          fmt::format("a value of type '{}' cannot be a key of a dict", type_name(key)));
    }
    nesting = std::max(nesting, item.nesting());
  }
  Value value;
  value.data_ = std::make_shared<const Dict>(Dict{std::move(items), nesting_around(nesting)});
  return value;
}

int Value::nesting_around(int inner) {
  if (inner >= kMaxNesting) {
    throw RenderError(fmt::format("the template nests values deeper than {} levels", kMaxNesting));
  }
  return inner + 1;
}

std::int64_t Value::as_int() const {
  return is(ValueKind::kBool) ? static_cast<std::int64_t>(as_bool())
                              : std::get<std::int64_t>(data_);
}

double Value::as_double() const {
  return is(ValueKind::kFloat) ? std::get<double>(data_) : static_cast<double>(as_int());
}

const std::string& Value::undefined_message() const {
  static const std::string kDefault = "the value is undefined";
  const StringPtr& message = std::get<Undefined>(data_).message;
  return message ? *message : kDefault;
}

int Value::nesting() const {
  switch (kind()) {
    case ValueKind::kSequence: return as_sequence().nesting;
    case ValueKind::kDict: return as_dict().nesting;
    case ValueKind::kIterator: return as_iterator().nesting();
    case ValueKind::kObject: return as_object().nesting();
    default: return 0;
  }
}

bool Value::is_same_object(const Value& other) const {
  if (kind() != other.kind()) return false;
  switch (kind()) {
    case ValueKind::kUndefined: return false;
    case ValueKind::kNone: return true;
    case ValueKind::kBool: return as_bool() == other.as_bool();
    case ValueKind::kInt: return as_int() == other.as_int();
    case ValueKind::kFloat: return as_double() == other.as_double();
    case ValueKind::kString: return as_string() == other.as_string();
    case ValueKind::kSequence: return &as_sequence() == &other.as_sequence();
    case ValueKind::kDict: return &as_dict() == &other.as_dict();
    case ValueKind::kIterator: return &as_iterator() == &other.as_iterator();
    case ValueKind::kObject: return &as_object() == &other.as_object();
  }
  return false;
}

const Value* Dict::find(std::string_view key) const {
  for (const auto& [item_key, value] : items) {
    if (item_key.is_string() && item_key.as_string() == key) return &value;
  }
  return nullptr;
}

const Value* Dict::find(const Value& key) const {
  if (key.is_string()) return find(key.as_string());
  if (!is_hashable_scalar(key)) return nullptr;
  for (const auto& [item_key, value] : items) {
    if (equal_keys(item_key, key)) return &value;
  }
  return nullptr;
}

void Dict::set(const Value& key, Value value) {
  for (auto& [item_key, item_value] : items) {
    if (is_hashable_scalar(key) && equal_keys(item_key, key)) {
      item_value = std::move(value);
      return;
    }
  }
  items.emplace_back(key, std::move(value));
}

std::optional<Value> Object::attribute(std::string_view /*name*/, Interpreter& /*interpreter*/) {
  return std::nullopt;
}

Value Object::call(Interpreter& /*interpreter*/, const Arguments& /*arguments*/) {
  throw RenderError(fmt::format("'{}' object is not callable", type_name()));
}

Iterator::Iterator(int nesting) : nesting_(Value::nesting_around(nesting)) {}

Cursor::Cursor(Value iterable, RenderBudget& budget)
    : iterable_(std::move(iterable)), budget_(&budget) {
  if (!is_iterable(iterable_)) {
    throw RenderError(fmt::format("'{}' object is not iterable", type_name(iterable_)));
  }
}

bool Cursor::next(Value& item) {
  budget_->charge_steps();
  switch (iterable_.kind()) {
    case ValueKind::kSequence: {
      const std::vector<Value>& items = iterable_.as_sequence().items;
      if (position_ >= items.size()) return false;
      item = items[position_++];
      return true;
    }
    case ValueKind::kDict: {
      const auto& items = iterable_.as_dict().items;
      if (position_ >= items.size()) return false;
      item = items[position_++].first;
      return true;
    }
    case ValueKind::kString: {
      const std::string_view text = iterable_.as_string();
      if (position_ >= text.size()) return false;
      const std::size_t begin = position_;
      decode_code_point(text, position_);
      item = Value::string(std::string(text.substr(begin, position_ - begin)), *budget_);
      return true;
    }
    case ValueKind::kIterator: {
      const RenderBudget::Depth depth(*budget_);
      return iterable_.as_iterator().next(item);
    }
    default: return false;
  }
}

std::string_view type_name(const Value& value) {
  switch (value.kind()) {
    case ValueKind::kUndefined: return "Undefined";
    case ValueKind::kNone: return "NoneType";
    case ValueKind::kBool: return "bool";
    case ValueKind::kInt: return "int";
    case ValueKind::kFloat: return "float";
    case ValueKind::kString: return "str";
    case ValueKind::kSequence: return sequence_type_name(value.as_sequence().type);
    case ValueKind::kDict: return "dict";
    case ValueKind::kIterator: return "generator";
    case ValueKind::kObject: return value.as_object().type_name();
  }
  return "object";
}

void charge_text(const Value& value, RenderBudget& budget) {
  if (value.is_string()) {
    budget.charge_steps(static_cast<std::int64_t>(value.as_string().size() / 256));
  }
}

bool is_true(const Value& value) {
  switch (value.kind()) {
    case ValueKind::kUndefined:
    case ValueKind::kNone: return false;
    case ValueKind::kBool: return value.as_bool();
    case ValueKind::kInt: return value.as_int() != 0;
    case ValueKind::kFloat: return value.as_double() != 0.0;
    case ValueKind::kString: return !value.as_string().empty();
    case ValueKind::kSequence: return !value.as_sequence().items.empty();
    case ValueKind::kDict: return !value.as_dict().items.empty();
    case ValueKind::kIterator:
    case ValueKind::kObject: return true;
  }
  return false;
}

bool is_iterable(const Value& value) {
  switch (value.kind()) {
    case ValueKind::kUndefined:
    case ValueKind::kString:
    case ValueKind::kSequence:
    case ValueKind::kDict:
    case ValueKind::kIterator: return true;
    default: return false;
  }
}

void append_string(std::string& out, const Value& value, RenderBudget& budget) {
  if (value.is_string()) {
    out += value.as_string();
  } else if (!value.is_undefined()) {
    append_repr(out, value, budget);
  }
}

void append_repr(std::string& out, const Value& value, RenderBudget& budget) {
  const RenderBudget::Depth depth(budget);
  budget.charge_steps();
  // Shared values can print far longer than they are stored, so the length is watched on the way.
  if (out.size() > budget.limits().string_bytes) budget.charge_string(out.size());
  switch (value.kind()) {
    case ValueKind::kUndefined: out += "Undefined"; return;
    case ValueKind::kNone: out += "None"; return;
    case ValueKind::kBool: out += value.as_bool() ? "True" : "False"; return;
    case ValueKind::kInt: out += std::to_string(value.as_int()); return;
    case ValueKind::kFloat: out += repr(value.as_double()); return;
    case ValueKind::kString: out += repr(value.as_string()); return;
    case ValueKind::kSequence: append_sequence(out, value.as_sequence(), budget); return;
    case ValueKind::kDict: append_dict(out, value.as_dict(), budget); return;
    case ValueKind::kIterator: out += "<generator object>"; return;
    case ValueKind::kObject: value.as_object().append_repr(out, budget); return;
  }
}

std::string to_string(const Value& value, RenderBudget& budget) {
  std::string text;
  append_string(text, value, budget);
  return text;
}

bool equals(const Value& a, const Value& b, RenderBudget& budget) {
  const RenderBudget::Depth depth(budget);
  budget.charge_steps();
  if (a.is_number() && b.is_number()) return equal_numbers(a, b);
  if (a.kind() != b.kind()) return false;
  switch (a.kind()) {
    case ValueKind::kUndefined:
    case ValueKind::kNone: return true;
    case ValueKind::kString: charge_text(a, budget); return a.as_string() == b.as_string();
    case ValueKind::kSequence: return equal_sequences(a.as_sequence(), b.as_sequence(), budget);
    case ValueKind::kDict: return equal_dicts(a.as_dict(), b.as_dict(), budget);
    default: return a.is_same_object(b);
  }
}

bool less_than(const Value& a, const Value& b, RenderBudget& budget, std::string_view name) {
  const RenderBudget::Depth depth(budget);
  budget.charge_steps();
  if (a.is_undefined()) fail_undefined(a);
  if (b.is_undefined()) fail_undefined(b);
  if (a.is_integral() && b.is_integral()) return a.as_int() < b.as_int();
  if (a.is_number() && b.is_number()) {
    // long double holds every int64 and every double exactly on x86-64 and AArch64.
    const auto exact = [](const Value& value) {
      return value.is_integral() ? static_cast<long double>(value.as_int())
                                 : static_cast<long double>(value.as_double());
    };
    return exact(a) < exact(b);
  }
  // UTF-8 orders as its code points do.
  if (a.is_string() && b.is_string()) {
    charge_text(a, budget);
    return a.as_string() < b.as_string();
  }
  if (a.is(ValueKind::kSequence) && b.is(ValueKind::kSequence)) {
    const Sequence& left = a.as_sequence();
    const Sequence& right = b.as_sequence();
    if (left.type == right.type && left.type <= SequenceType::kTuple) {
      for (std::size_t i = 0; i < left.items.size() && i < right.items.size(); ++i) {
        if (equals(left.items[i], right.items[i], budget)) continue;
        return less_than(left.items[i], right.items[i], budget, name);
      }
      return left.items.size() < right.items.size();
    }
  }
  throw RenderError(fmt::format("'{}' not supported between instances of '{}' and '{}'", name,
                                type_name(a), type_name(b)));
}

void check_hashable(const Value& value) {
  const bool is_list =
      value.is(ValueKind::kSequence) && value.as_sequence().type == SequenceType::kList;
  if (is_list || value.is(ValueKind::kDict)) {
    throw RenderError(fmt::format("unhashable type: '{}'", type_name(value)));
  }
}

bool less_or_equal(const Value& a, const Value& b, RenderBudget& budget, std::string_view name) {
  // less_than() also refuses what has no order. NaN is neither less nor equal.
  return less_than(a, b, budget, name) || equals(a, b, budget);
}

bool contains(const Value& container, const Value& item, RenderBudget& budget) {
  if (container.is_string()) {
    if (!item.is_string()) {
      throw RenderError(
          fmt::format("'in <string>' requires string as left operand, not {}", type_name(item)));
    }
    charge_text(container, budget);
    return find_first(container.as_string(), item.as_string()) != std::string_view::npos;
  }
  if (container.is(ValueKind::kDict)) {
    check_hashable(item);
    budget.charge_steps(static_cast<std::int64_t>(container.as_dict().items.size() / 8));
    return container.as_dict().find(item) != nullptr;
  }
  if (!is_iterable(container)) {
    throw RenderError(fmt::format("argument of type '{}' is not iterable", type_name(container)));
  }
  Cursor cursor(container, budget);
  for (Value element; cursor.next(element);) {
    if (equals(element, item, budget)) return true;
  }
  return false;
}

std::int64_t length(const Value& value) {
  switch (value.kind()) {
    case ValueKind::kUndefined: return 0;
    case ValueKind::kString: return static_cast<std::int64_t>(count_code_points(value.as_string()));
    case ValueKind::kSequence: return static_cast<std::int64_t>(value.as_sequence().items.size());
    case ValueKind::kDict: return static_cast<std::int64_t>(value.as_dict().items.size());
    default: throw RenderError(fmt::format("object of type '{}' has no len()", type_name(value)));
  }
}

std::vector<Value> to_vector(const Value& value, RenderBudget& budget) {
  if (value.is(ValueKind::kSequence)) {
    budget.charge_items(value.as_sequence().items.size());
    return value.as_sequence().items;
  }
  std::vector<Value> items;
  Cursor cursor(value, budget);
  for (Value item; cursor.next(item);) {
    budget.charge_items(1);
    items.push_back(item);
  }
  return items;
}

void fail_undefined(const Value& value) {
  throw RenderError(value.undefined_message());
}

}  // namespace llmrun::jinja
