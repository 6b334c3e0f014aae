#include "engine/chat_template/jinja_sequence_filters.h"

#include <algorithm>
#include <functional>
#include <memory>

#include <fmt/format.h>

#include "engine/chat_template/jinja_interpreter.h"
#include "engine/chat_template/python_text.h"

namespace llmrun::jinja {
namespace {

int nesting_of(const Arguments& arguments) {
  int nesting = 0;
  for (const Value& value : arguments.positional) nesting = std::max(nesting, value.nesting());
  for (const auto& [name, value] : arguments.keyword) nesting = std::max(nesting, value.nesting());
  return nesting;
}

// What a lazy filter does to one item: true to yield `item`, which it may have replaced.
using ItemFunction = std::function<bool(Value& item)>;
// Makes what a lazy filter reads. Called when the first item is asked for: errors show only then.
using SourceFunction = std::function<Value()>;

class LazyIterator : public Iterator {
 public:
  LazyIterator(RenderBudget& budget, int nesting, SourceFunction source, ItemFunction function)
      : Iterator(nesting),
        budget_(budget),
        source_(std::move(source)),
        function_(std::move(function)) {}

  bool next(Value& item) override {
    if (!cursor_) cursor_.emplace(source_(), budget_);
    while (cursor_->next(item)) {
      if (!function_ || function_(item)) return true;
    }
    return false;
  }

 private:
  RenderBudget& budget_;
  SourceFunction source_;
  std::optional<Cursor> cursor_;
  ItemFunction function_;
};

Value make_lazy(Interpreter& interpreter, const Value& input, const Arguments& arguments,
                ItemFunction function) {
  interpreter.budget().charge_items(8);
  return std::shared_ptr<Iterator>(std::make_shared<LazyIterator>(
      interpreter.budget(), std::max(input.nesting(), nesting_of(arguments)),
      [input] { return input; }, std::move(function)));
}

// An iterator over the list that `source` makes of `input`; its items may be nested one level
// deeper.
Value make_deferred(Interpreter& interpreter, const Value& input, const Arguments& arguments,
                    SourceFunction source) {
  interpreter.budget().charge_items(8);
  const int nesting = std::max(input.nesting(), nesting_of(arguments));
  return std::shared_ptr<Iterator>(std::make_shared<LazyIterator>(
      interpreter.budget(), Value::nesting_around(nesting), std::move(source), nullptr));
}

// The parts of "a.b.0": names and numbers. An integer is one part; none is no part.
std::vector<Value> attribute_path(const Value& attribute, RenderBudget& budget) {
  if (attribute.is_none()) return {};
  if (!attribute.is_string()) return {attribute};
  std::vector<Value> path;
  for (const std::string_view part : split(attribute.as_string(), ".")) {
    const bool is_index = !part.empty() && std::all_of(part.begin(), part.end(),
                                                       [](char c) { return c >= '0' && c <= '9'; });
    const std::optional<std::int64_t> index = is_index ? parse_int(part, 10) : std::nullopt;
    path.push_back(index ? Value(*index) : Value::string(std::string(part), budget));
  }
  return path;
}

Value follow_path(Interpreter& interpreter, Value item, const std::vector<Value>& path) {
  for (const Value& part : path) item = get_item(interpreter, item, part);
  return item;
}

Value ignore_case(Interpreter& interpreter, const Value& value) {
  return value.is_string() ? interpreter.string(to_lower(value.as_string())) : value;
}

// Sorts items by keys; Python's sort is stable, also when reversed.
std::vector<Value> sort_by_keys(Interpreter& interpreter,
                                std::vector<std::pair<Value, Value>> keyed, bool reverse) {
  RenderBudget& budget = interpreter.budget();
  std::stable_sort(keyed.begin(), keyed.end(), [&](const auto& a, const auto& b) {
    return reverse ? less_than(b.first, a.first, budget) : less_than(a.first, b.first, budget);
  });
  std::vector<Value> items;
  items.reserve(keyed.size());
  for (auto& [key, item] : keyed) items.push_back(std::move(item));
  return items;
}

Value min_or_max(Interpreter& interpreter, const Value& input, const Arguments& arguments,
                 bool is_max) {
  const BoundArguments bound(is_max ? "max" : "min", arguments, {"case_sensitive", "attribute"});
  const bool case_sensitive = bound.boolean(0, false);
  RenderBudget& budget = interpreter.budget();
  const std::vector<Value> path =
      bound[1] == nullptr ? std::vector<Value>() : attribute_path(*bound[1], budget);
  std::optional<std::pair<Value, Value>> best;  // key, item
  Cursor cursor(input, budget);
  for (Value item; cursor.next(item);) {
    Value key = follow_path(interpreter, item, path);
    if (!case_sensitive) key = ignore_case(interpreter, key);
    if (!best || (is_max ? less_than(best->first, key, budget, ">")
                         : less_than(key, best->first, budget, "<"))) {
      best = {key, item};
    }
  }
  return best ? best->second : Value::undefined("No aggregated item, sequence was empty.");
}

// select, reject and their variants for attributes.
Value select_or_reject(Interpreter& interpreter, const Value& input, const Arguments& arguments,
                       bool keeps, bool by_attribute) {
  if (!is_true(input)) return make_lazy(interpreter, Value(), {}, nullptr);
  std::vector<Value> path;
  Arguments rest = arguments;
  const auto take_first = [&rest] {
    Value first = rest.positional.front();
    rest.positional.erase(rest.positional.begin());
    return first;
  };
  if (by_attribute) {
    if (rest.positional.empty()) throw RenderError("missing parameter for attribute name");
    path = attribute_path(take_first(), interpreter.budget());
  }
  TestFunction test = nullptr;
  if (!rest.positional.empty()) {
    const Value name = take_first();
    test = name.is_string() ? find_test(name.as_string()) : nullptr;
    if (test == nullptr) {
      throw RenderError(fmt::format("no test named '{}'", to_string(name, interpreter.budget())));
    }
  }
  return make_lazy(
      interpreter, input, arguments,
      [&interpreter, path = std::move(path), rest = std::move(rest), test, keeps](Value& item) {
        const Value subject = follow_path(interpreter, item, path);
        const bool passes = test != nullptr ? test(interpreter, subject, rest) : is_true(subject);
        return passes == keeps;
      });
}

}  // namespace

Value batch_filter(Interpreter& interpreter, const Value& input, const Arguments& arguments) {
  const BoundArguments bound("batch", arguments, {"linecount", "fill_with"}, 1);
  const std::int64_t size = bound.integer(0, 0);
  if (size <= 0) throw RenderError("batch() expects a positive count");
  const Value fill = bound[1] == nullptr ? Value::none() : *bound[1];
  return make_deferred(interpreter, input, arguments, [&interpreter, input, size, fill] {
    RenderBudget& budget = interpreter.budget();
    std::vector<Value> batches;
    std::vector<Value> batch;
    const auto flush = [&] { batches.push_back(Value::list(std::exchange(batch, {}), budget)); };
    for (const Value& item : to_vector(input, budget)) {
      batch.push_back(item);
      if (static_cast<std::int64_t>(batch.size()) == size) flush();
    }
    if (!batch.empty() && !fill.is_none()) {
      budget.charge_items(static_cast<std::size_t>(size));
      batch.resize(static_cast<std::size_t>(size), fill);
    }
    if (!batch.empty()) flush();
    return Value::list(std::move(batches), budget);
  });
}

Value slice_filter(Interpreter& interpreter, const Value& input, const Arguments& arguments) {
  const BoundArguments bound("slice", arguments, {"slices", "fill_with"}, 1);
  const std::int64_t count = bound.integer(0, 0);
  if (count <= 0) throw RenderError("slice() expects a positive count");
  const Value fill = bound[1] == nullptr ? Value::none() : *bound[1];
  return make_deferred(interpreter, input, arguments, [&interpreter, input, count, fill] {
    RenderBudget& budget = interpreter.budget();
    budget.charge_items(static_cast<std::size_t>(count));
    const std::vector<Value> items = to_vector(input, budget);
    const auto size = static_cast<std::int64_t>(items.size());
    std::vector<Value> slices;
    auto begin = items.begin();
    for (std::int64_t i = 0; i < count; ++i) {
      const bool is_longer = i < size % count;
      const auto end = begin + size / count + (is_longer ? 1 : 0);
      std::vector<Value> part(begin, end);
      begin = end;
      if (!is_longer && !fill.is_none()) part.push_back(fill);
      slices.push_back(Value::list(std::move(part), budget));
    }
    return Value::list(std::move(slices), budget);
  });
}

Value dictsort_filter(Interpreter& interpreter, const Value& input, const Arguments& arguments) {
  const BoundArguments bound("dictsort", arguments, {"case_sensitive", "by", "reverse"});
  const bool case_sensitive = bound.boolean(0, false);
  const std::string_view by = bound.string(1, "key");
  if (by != "key" && by != "value") {
    throw RenderError("dictsort() sorts by either \"key\" or \"value\"");
  }
  if (input.is_undefined()) fail_undefined(input);
  if (!input.is(ValueKind::kDict)) {
    throw RenderError(fmt::format("'{}' object has no attribute 'items'", type_name(input)));
  }
  std::vector<std::pair<Value, Value>> keyed;
  for (const auto& [key, value] : input.as_dict().items) {
    const Value& sort_key = by == "key" ? key : value;
    keyed.emplace_back(case_sensitive ? sort_key : ignore_case(interpreter, sort_key),
                       Value::tuple({key, value}, interpreter.budget()));
  }
  return Value::list(sort_by_keys(interpreter, std::move(keyed), bound.boolean(2, false)),
                     interpreter.budget());
}

Value sort_filter(Interpreter& interpreter, const Value& input, const Arguments& arguments) {
  const BoundArguments bound("sort", arguments, {"reverse", "case_sensitive", "attribute"});
  RenderBudget& budget = interpreter.budget();
  const bool case_sensitive = bound.boolean(1, false);
  std::vector<std::vector<Value>> paths;
  if (bound[2] != nullptr && bound[2]->is_string()) {
    for (const std::string_view part : split(bound[2]->as_string(), ",")) {
      paths.push_back(attribute_path(Value::string(std::string(part), budget), budget));
    }
  } else {
    paths.push_back(bound[2] == nullptr ? std::vector<Value>() : attribute_path(*bound[2], budget));
  }
  std::vector<std::pair<Value, Value>> keyed;
  for (const Value& item : to_vector(input, budget)) {
    std::vector<Value> keys;
    for (const std::vector<Value>& path : paths) {
      const Value key = follow_path(interpreter, item, path);
      keys.push_back(case_sensitive ? key : ignore_case(interpreter, key));
    }
    keyed.emplace_back(Value::list(std::move(keys), budget), item);
  }
  return Value::list(sort_by_keys(interpreter, std::move(keyed), bound.boolean(0, false)), budget);
}

Value first_filter(Interpreter& interpreter, const Value& input, const Arguments& arguments) {
  const BoundArguments bound("first", arguments, {});
  Value item;
  if (Cursor(input, interpreter.budget()).next(item)) return item;
  return Value::undefined("No first item, sequence was empty.");
}

Value last_filter(Interpreter& interpreter, const Value& input, const Arguments& arguments) {
  const BoundArguments bound("last", arguments, {});
  if (input.is(ValueKind::kIterator) || !is_iterable(input)) {
    throw RenderError(fmt::format("'{}' object is not reversible", type_name(input)));
  }
  const std::vector<Value> items = to_vector(input, interpreter.budget());
  return items.empty() ? Value::undefined("No last item, sequence was empty.") : items.back();
}

Value items_filter(Interpreter& interpreter, const Value& input, const Arguments& arguments) {
  const BoundArguments bound("items", arguments, {});
  return make_deferred(interpreter, input, {}, [&interpreter, input] {
    std::vector<Value> items;
    if (input.is(ValueKind::kDict)) {
      for (const auto& [key, value] : input.as_dict().items) {
        items.push_back(Value::tuple({key, value}, interpreter.budget()));
      }
    } else if (!input.is_undefined()) {
      throw RenderError("Can only get item pairs from a mapping.");
    }
    return Value::list(std::move(items), interpreter.budget());
  });
}

Value join(Interpreter& interpreter, std::string_view separator, const Value& items,
           bool strings_only) {
  RenderBudget& budget = interpreter.budget();
  std::string text;
  Cursor cursor(items, budget);
  bool first = true;
  for (Value item; cursor.next(item);) {
    if (!first) text += separator;
    first = false;
    if (strings_only && !item.is_string()) {
      throw RenderError(fmt::format("join() expects strings, found '{}'", type_name(item)));
    }
    append_string(text, item, budget);
    if (text.size() > budget.limits().string_bytes) budget.charge_string(text.size());
  }
  return interpreter.string(std::move(text));
}

Value join_filter(Interpreter& interpreter, const Value& input, const Arguments& arguments) {
  const BoundArguments bound("join", arguments, {"d", "attribute"});
  const std::string separator =
      bound[0] == nullptr ? "" : to_string(*bound[0], interpreter.budget());
  if (bound[1] == nullptr || bound[1]->is_none()) return join(interpreter, separator, input, false);
  const std::vector<Value> path = attribute_path(*bound[1], interpreter.budget());
  return join(interpreter, separator,
              make_lazy(interpreter, input, arguments,
                        [&](Value& item) {
                          item = follow_path(interpreter, item, path);
                          return true;
                        }),
              false);
}

Value list_filter(Interpreter& interpreter, const Value& input, const Arguments& arguments) {
  const BoundArguments bound("list", arguments, {});
  return Value::list(to_vector(input, interpreter.budget()), interpreter.budget());
}

Value map_filter(Interpreter& interpreter, const Value& input, const Arguments& arguments) {
  if (!is_true(input)) return make_lazy(interpreter, Value(), {}, nullptr);
  if (arguments.positional.empty()) {
    const BoundArguments bound("map", arguments, {"attribute", "default"}, 1);
    const Value default_value = bound[1] == nullptr ? Value::none() : *bound[1];
    return make_lazy(interpreter, input, arguments,
                     [&interpreter, path = attribute_path(*bound[0], interpreter.budget()),
                      default_value](Value& item) {
                       for (const Value& part : path) {
                         item = get_item(interpreter, item, part);
                         if (item.is_undefined() && !default_value.is_none()) item = default_value;
                       }
                       return true;
                     });
  }
  const Value& name = arguments.positional.front();
  const FilterFunction filter = name.is_string() ? find_filter(name.as_string()) : nullptr;
  if (filter == nullptr) {
    throw RenderError(fmt::format("no filter named '{}'", to_string(name, interpreter.budget())));
  }
  Arguments rest = arguments;
  rest.positional.erase(rest.positional.begin());
  return make_lazy(interpreter, input, arguments,
                   [&interpreter, filter, rest = std::move(rest)](Value& item) {
                     charge_text(item, interpreter.budget());
                     item = filter(interpreter, item, rest);
                     return true;
                   });
}

Value max_filter(Interpreter& interpreter, const Value& input, const Arguments& arguments) {
  return min_or_max(interpreter, input, arguments, true);
}

Value min_filter(Interpreter& interpreter, const Value& input, const Arguments& arguments) {
  return min_or_max(interpreter, input, arguments, false);
}

Value reject_filter(Interpreter& interpreter, const Value& input, const Arguments& arguments) {
  return select_or_reject(interpreter, input, arguments, false, false);
}

Value rejectattr_filter(Interpreter& interpreter, const Value& input, const Arguments& arguments) {
  return select_or_reject(interpreter, input, arguments, false, true);
}

Value select_filter(Interpreter& interpreter, const Value& input, const Arguments& arguments) {
  return select_or_reject(interpreter, input, arguments, true, false);
}

Value selectattr_filter(Interpreter& interpreter, const Value& input, const Arguments& arguments) {
  return select_or_reject(interpreter, input, arguments, true, true);
}

Value reverse_filter(Interpreter& interpreter, const Value& input, const Arguments& arguments) {
  const BoundArguments bound("reverse", arguments, {});
  RenderBudget& budget = interpreter.budget();
  if (input.is_string()) return interpreter.string(reverse(input.as_string()));
  std::vector<Value> items = to_vector(input, budget);
  std::reverse(items.begin(), items.end());
  Value reversed = Value::list(std::move(items), budget);
  // Python's reversed() is lazy; what it cannot reverse becomes a list.
  if (input.is(ValueKind::kIterator)) return reversed;
  return make_lazy(interpreter, reversed, {}, nullptr);
}

Value sum_filter(Interpreter& interpreter, const Value& input, const Arguments& arguments) {
  const BoundArguments bound("sum", arguments, {"attribute", "start"});
  RenderBudget& budget = interpreter.budget();
  const std::vector<Value> path =
      bound[0] == nullptr ? std::vector<Value>() : attribute_path(*bound[0], budget);
  Value total = bound[1] == nullptr ? Value(std::int64_t{0}) : *bound[1];
  if (total.is_string()) throw RenderError("sum() cannot sum strings");
  Cursor cursor(input, budget);
  for (Value item; cursor.next(item);) {
    total = add(total, follow_path(interpreter, item, path), budget);
  }
  return total;
}

Value unique_filter(Interpreter& interpreter, const Value& input, const Arguments& arguments) {
  const BoundArguments bound("unique", arguments, {"case_sensitive", "attribute"});
  const bool case_sensitive = bound.boolean(0, false);
  const std::vector<Value> path =
      bound[1] == nullptr ? std::vector<Value>() : attribute_path(*bound[1], interpreter.budget());
  // Keys seen so far; the closure is called again and again, so they live beside it.
  const auto seen = std::make_shared<std::vector<Value>>();
  return make_lazy(interpreter, input, arguments,
                   [&interpreter, path, case_sensitive, seen](Value& item) {
                     Value key = follow_path(interpreter, item, path);
                     if (!case_sensitive) key = ignore_case(interpreter, key);
                     check_hashable(key);
                     for (const Value& other : *seen) {
                       if (equals(other, key, interpreter.budget())) return false;
                     }
                     interpreter.budget().charge_items(1);
                     seen->push_back(key);
                     return true;
                   });
}

std::string bounded_replace(std::string_view text, std::string_view from, std::string_view to,
                            std::int64_t max_count, RenderBudget& budget) {
  if (to.size() > from.size()) {
    std::size_t matches = count_occurrences(text, from);
    if (max_count >= 0) matches = std::min(matches, static_cast<std::size_t>(max_count));
    // Both factors are at most string_bytes (16 MiB), so the product fits.
    const std::size_t size = text.size() + matches * (to.size() - from.size());
    if (size > budget.limits().string_bytes) budget.charge_string(size);
  }
  return replace(text, from, to, max_count);
}

}  // namespace llmrun::jinja
