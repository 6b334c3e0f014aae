#include "engine/chat_template/jinja_builtins.h"

#include <algorithm>
#include <array>
#include <ctime>

#include <fmt/format.h>

#include "engine/chat_template/jinja_interpreter.h"
#include "engine/chat_template/python_text.h"

namespace llmrun::jinja {
namespace {

// A method of a string, list or dict as a value: "{{ message.items }}", "x['get']('a')".
class BoundMethod : public Object {
 public:
  BoundMethod(const Value& self, std::string_view name, MethodFunction function)
      : self_(self),
        nesting_(Value::nesting_around(self.nesting())),
        name_(name),
        function_(function) {}

  std::string_view type_name() const override { return "builtin_function_or_method"; }
  void append_repr(std::string& out, RenderBudget& /*budget*/) override {
    out += fmt::format("<built-in method {} of {} object>", name_, jinja::type_name(self_));
  }
  bool is_callable() const override { return true; }
  int nesting() const override { return nesting_; }
  Value call(Interpreter& interpreter, const Arguments& arguments) override {
    return function_(interpreter, self_, arguments);
  }

 private:
  Value self_;
  int nesting_;
  std::string name_;
  MethodFunction function_;
};

Value missing(const Value& object, std::string_view name) {
  if (object.is_none()) return Value::undefined(fmt::format("'None' has no attribute '{}'", name));
  return Value::undefined(
      fmt::format("'{} object' has no attribute '{}'", type_name(object), name));
}

// An attribute proper, not an item; nullopt if there is none.
std::optional<Value> find_attribute(Interpreter& interpreter, const Value& object,
                                    std::string_view name) {
  if (object.is(ValueKind::kObject)) {
    return object.as_object().attribute(name, interpreter);
  }
  const MethodLookup method = find_method(object, name);
  switch (method.status) {
    case MethodStatus::kFound:
      return Value(
          std::shared_ptr<Object>(std::make_shared<BoundMethod>(object, name, method.function)));
    case MethodStatus::kForbidden:
      return Value::undefined(fmt::format("access to attribute '{}' of '{}' object is unsafe", name,
                                          type_name(object)));
    case MethodStatus::kUnsupported:
      throw RenderError(
          fmt::format("the method '{}' of '{}' is not supported", name, type_name(object)));
    case MethodStatus::kNone: break;
  }
  return std::nullopt;
}

struct SliceBounds {
  std::int64_t start, step, count;
};

std::int64_t slice_part(const Value& part) {
  if (part.is_undefined()) fail_undefined(part);
  if (!part.is_integral()) throw RenderError("slice indices must be integers or None");
  return part.as_int();
}

// Python's slice.indices(length), as a count of items.
SliceBounds slice_bounds(std::int64_t length, const Value* start, const Value* stop,
                         const Value* step) {
  const auto given = [](const Value* part) { return part != nullptr && !part->is_none(); };
  const std::int64_t by = given(step) ? slice_part(*step) : 1;
  if (by == 0) throw RenderError("slice step cannot be zero");
  // Larger steps select the same single item; this keeps the sums below from overflowing.
  const std::int64_t bounded_step = std::clamp(by, -length - 1, length + 1);
  const auto clip = [&](std::int64_t index, std::int64_t low, std::int64_t high) {
    if (index < 0) index = std::max(index, -length - 1) + length;
    return std::clamp(index, low, high);
  };
  SliceBounds bounds{0, bounded_step, 0};
  if (by > 0) {
    bounds.start = given(start) ? clip(slice_part(*start), 0, length) : 0;
    const std::int64_t end = given(stop) ? clip(slice_part(*stop), 0, length) : length;
    if (end > bounds.start) bounds.count = (end - bounds.start - 1) / bounded_step + 1;
  } else {
    bounds.start = given(start) ? clip(slice_part(*start), -1, length - 1) : length - 1;
    const std::int64_t end = given(stop) ? clip(slice_part(*stop), -1, length - 1) : -1;
    if (bounds.start > end) bounds.count = (bounds.start - end - 1) / -bounded_step + 1;
  }
  return bounds;
}

std::string slice_text(std::string_view text, const SliceBounds& bounds) {
  if (bounds.step == 1) {
    const std::size_t begin = byte_offset(text, static_cast<std::size_t>(bounds.start));
    text.remove_prefix(begin);
    return std::string(text.substr(0, byte_offset(text, static_cast<std::size_t>(bounds.count))));
  }
  std::vector<std::size_t> offsets;
  for (std::size_t offset = 0; offset < text.size(); decode_code_point(text, offset)) {
    offsets.push_back(offset);
  }
  offsets.push_back(text.size());
  std::string out;
  for (std::int64_t i = 0; i < bounds.count; ++i) {
    const auto index = static_cast<std::size_t>(bounds.start + i * bounds.step);
    out += text.substr(offsets[index], offsets[index + 1] - offsets[index]);
  }
  return out;
}

Value item_at(Interpreter& interpreter, const Value& object, std::int64_t index) {
  const std::int64_t size = length(object);
  if (object.is_string()) interpreter.budget().charge_steps(size / 256);
  if (index < 0) index += size;
  if (index < 0 || index >= size) {
    return Value::undefined(fmt::format("{} object has no element {}", type_name(object), index));
  }
  if (object.is_string()) {
    const std::string_view text = object.as_string();
    std::size_t end = byte_offset(text, static_cast<std::size_t>(index));
    const std::size_t begin = end;
    decode_code_point(text, end);
    return interpreter.string(std::string(text.substr(begin, end - begin)));
  }
  return object.as_sequence().items[static_cast<std::size_t>(index)];
}

// --- Global functions
// -------------------------------------------------------------------------------

Value raise_exception(Interpreter& interpreter, const Arguments& arguments) {
  const BoundArguments bound("raise_exception", arguments, {"message"}, 1);
  throw RenderError(to_string(*bound[0], interpreter.budget()));
}

// The C library's strftime in local time. Like Python's naive datetime: %z and %Z are empty, %f is
// the microseconds of a time that has none.
Value strftime_now(Interpreter& interpreter, const Arguments& arguments) {
  const BoundArguments bound("strftime_now", arguments, {"format"}, 1);
  std::string format;
  const std::string_view given = bound.string(0, "");
  if (given.size() > 1000) throw RenderError("the format of strftime_now() is too long");
  for (std::size_t i = 0; i < given.size(); ++i) {
    const char next = i + 1 < given.size() ? given[i + 1] : '\0';
    if (given[i] == '%' && (next == 'z' || next == 'Z')) {
      ++i;
    } else if (given[i] == '%' && next == 'f') {
      format += "000000";
      ++i;
    } else {
      format.push_back(given[i]);
      if (given[i] == '%' && next != '\0') format.push_back(given[++i]);
    }
  }
  const std::time_t now = interpreter.now();
  std::tm local{};
  localtime_r(&now, &local);
  std::array<char, 32768> buffer{};
  const std::size_t size = std::strftime(buffer.data(), buffer.size(), format.c_str(), &local);
  return interpreter.string(std::string(buffer.data(), size));
}

Value range(Interpreter& interpreter, const Arguments& arguments) {
  if (!arguments.keyword.empty() || arguments.positional.empty() ||
      arguments.positional.size() > 3) {
    throw RenderError("range() takes one to three positional arguments");
  }
  std::int64_t parts[3] = {0, 0, 1};
  const std::size_t count = arguments.positional.size();
  for (std::size_t i = 0; i < count; ++i) {
    const Value& part = arguments.positional[i];
    if (part.is_undefined()) fail_undefined(part);
    if (!part.is_integral()) {
      throw RenderError(
          fmt::format("'{}' object cannot be interpreted as an integer", type_name(part)));
    }
    parts[count == 1 ? 1 : i] = part.as_int();
  }
  const auto [start, stop, step] = parts;
  if (step == 0) throw RenderError("range() arg 3 must not be zero");
  const bool is_empty = step > 0 ? start >= stop : start <= stop;
  // Unsigned, since the distance of two int64 may not fit one.
  const auto begin = static_cast<std::uint64_t>(start);
  const auto end = static_cast<std::uint64_t>(stop);
  const auto stride = static_cast<std::uint64_t>(step);
  const std::uint64_t size = is_empty   ? 0
                             : step > 0 ? (end - begin - 1) / stride + 1
                                        : (begin - end - 1) / (0 - stride) + 1;
  const auto limit = static_cast<std::uint64_t>(interpreter.budget().limits().range_length);
  if (size > limit) {
    throw RenderError(fmt::format("range() makes {} items, more than {}", size, limit));
  }
  Sequence sequence{.type = SequenceType::kRange, .items = {}};
  for (std::uint64_t i = 0; i < size; ++i) {
    sequence.items.emplace_back(static_cast<std::int64_t>(begin + i * stride));
  }
  return Value::sequence(std::move(sequence), interpreter.budget());
}

// dict(mapping or pairs, **items) as an ordered list of items; also what namespace() takes.
Dict make_dict(Interpreter& interpreter, std::string_view function, const Arguments& arguments) {
  RenderBudget& budget = interpreter.budget();
  if (arguments.positional.size() > 1) {
    throw RenderError(fmt::format("{}() takes at most one positional argument", function));
  }
  Dict dict;
  if (!arguments.positional.empty()) {
    const Value& source = arguments.positional.front();
    if (source.is_undefined()) fail_undefined(source);
    if (source.is(ValueKind::kDict)) {
      dict.items = source.as_dict().items;
    } else {
      Cursor cursor(source, budget);
      for (Value pair; cursor.next(pair);) {
        const std::vector<Value> items = to_vector(pair, budget);
        if (items.size() != 2) {
          throw RenderError(
              fmt::format("{}() expects pairs, found {} values", function, items.size()));
        }
        dict.set(items[0], items[1]);
        budget.charge_steps(static_cast<std::int64_t>(dict.items.size() / 8));
      }
    }
  }
  for (const auto& [name, value] : arguments.keyword) {
    dict.set(Value::string(name, budget), value);
  }
  return dict;
}

Value dict(Interpreter& interpreter, const Arguments& arguments) {
  return Value::dict(make_dict(interpreter, "dict", arguments).items, interpreter.budget());
}

Value make_namespace(Interpreter& interpreter, const Arguments& arguments) {
  const Dict attributes = make_dict(interpreter, "namespace", arguments);
  const std::shared_ptr<Namespace> result = interpreter.make_namespace();
  for (const auto& [name, value] : attributes.items) {
    if (!name.is_string()) throw RenderError("the attributes of a namespace must be strings");
    result->set(name.as_string(), value);
  }
  return std::shared_ptr<Object>(result);
}

}  // namespace

GlobalFunction find_global(std::string_view name) {
  if (name == "raise_exception") return raise_exception;
  if (name == "strftime_now") return strftime_now;
  if (name == "range") return range;
  if (name == "dict") return dict;
  if (name == "namespace") return make_namespace;
  return nullptr;
}

Value get_attribute(Interpreter& interpreter, const Value& object, std::string_view name) {
  if (object.is_undefined()) fail_undefined(object);
  if (const std::optional<Value> value = find_attribute(interpreter, object, name)) return *value;
  if (object.is(ValueKind::kDict)) {
    interpreter.budget().charge_steps(static_cast<std::int64_t>(object.as_dict().items.size() / 8));
    if (const Value* value = object.as_dict().find(name)) return *value;
  }
  return missing(object, name);
}

Value get_item(Interpreter& interpreter, const Value& object, const Value& index) {
  if (object.is_undefined()) fail_undefined(object);
  if (object.is(ValueKind::kDict)) {
    interpreter.budget().charge_steps(static_cast<std::int64_t>(object.as_dict().items.size() / 8));
    if (const Value* value = object.as_dict().find(index)) return *value;
  } else if (index.is_integral() && (object.is_string() || (object.is(ValueKind::kSequence) &&
                                                            object.as_sequence().is_indexable()))) {
    return item_at(interpreter, object, index.as_int());
  }
  if (index.is_string()) {
    const std::optional<Value> value = find_attribute(interpreter, object, index.as_string());
    return value ? *value : missing(object, index.as_string());
  }
  std::string text;
  append_repr(text, index, interpreter.budget());
  return Value::undefined(fmt::format("{} object has no element {}", type_name(object), text));
}

Value get_slice(Interpreter& interpreter, const Value& object, const Value* start,
                const Value* stop, const Value* step) {
  if (object.is_undefined()) fail_undefined(object);
  RenderBudget& budget = interpreter.budget();
  if (object.is_string()) {
    const std::string_view text = object.as_string();
    budget.charge_steps(static_cast<std::int64_t>(text.size() / 64));
    return interpreter.string(slice_text(text, slice_bounds(length(object), start, stop, step)));
  }
  if (!object.is(ValueKind::kSequence) || !object.as_sequence().is_indexable()) {
    throw RenderError(fmt::format("'{}' object cannot be sliced", type_name(object)));
  }
  const Sequence& sequence = object.as_sequence();
  const SliceBounds bounds = slice_bounds(length(object), start, stop, step);
  Sequence result{.type = sequence.type, .items = {}};
  for (std::int64_t i = 0; i < bounds.count; ++i) {
    result.items.push_back(
        sequence.items[static_cast<std::size_t>(bounds.start + i * bounds.step)]);
  }
  return Value::sequence(std::move(result), budget);
}

BoundArguments::BoundArguments(std::string_view function, const Arguments& arguments,
                               std::initializer_list<std::string_view> parameters,
                               std::size_t num_required)
    : function_(function), values_(parameters.size(), nullptr) {
  if (arguments.positional.size() > parameters.size()) {
    throw RenderError(fmt::format("{}() takes at most {} arguments, found {}", function,
                                  parameters.size(), arguments.positional.size()));
  }
  for (std::size_t i = 0; i < arguments.positional.size(); ++i) {
    values_[i] = &arguments.positional[i];
  }
  for (const auto& [name, value] : arguments.keyword) {
    const auto* found = std::find(parameters.begin(), parameters.end(), name);
    const auto index = static_cast<std::size_t>(found - parameters.begin());
    if (found == parameters.end()) {
      throw RenderError(
          fmt::format("{}() got an unexpected keyword argument '{}'", function, name));
    }
    if (values_[index] != nullptr) {
      throw RenderError(fmt::format("{}() got several values for argument '{}'", function, name));
    }
    values_[index] = &value;
  }
  for (std::size_t i = 0; i < num_required; ++i) {
    if (values_[i] == nullptr) {
      throw RenderError(
          fmt::format("{}() misses its argument '{}'", function, *(parameters.begin() + i)));
    }
  }
}

std::int64_t BoundArguments::integer(std::size_t index, std::int64_t fallback) const {
  const Value* value = values_[index];
  if (value == nullptr) return fallback;
  if (value->is_undefined()) fail_undefined(*value);
  if (value->is_integral()) return value->as_int();
  throw RenderError(
      fmt::format("{}() expects an integer, found '{}'", function_, type_name(*value)));
}

bool BoundArguments::boolean(std::size_t index, bool fallback) const {
  return values_[index] == nullptr ? fallback : is_true(*values_[index]);
}

std::optional<std::int64_t> BoundArguments::optional_integer(std::size_t index) const {
  if (values_[index] == nullptr || values_[index]->is_none()) return std::nullopt;
  return integer(index, 0);
}

std::optional<std::string_view> BoundArguments::optional_string(std::size_t index) const {
  const Value* value = values_[index];
  if (value == nullptr || value->is_none()) return std::nullopt;
  if (value->is_string()) return value->as_string();
  throw RenderError(fmt::format("{}() expects a string, found '{}'", function_, type_name(*value)));
}

std::string_view BoundArguments::string(std::size_t index, std::string_view fallback) const {
  const Value* value = values_[index];
  if (value == nullptr) return fallback;
  if (value->is_string()) return value->as_string();
  throw RenderError(fmt::format("{}() expects a string, found '{}'", function_, type_name(*value)));
}

}  // namespace llmrun::jinja
