#include <algorithm>
#include <cmath>

#include <fmt/format.h>

#include "engine/chat_template/jinja_builtins.h"
#include "engine/chat_template/jinja_interpreter.h"
#include "engine/chat_template/jinja_sequence_filters.h"
#include "engine/chat_template/python_text.h"

namespace llmrun::jinja {
namespace {

// Most text filters take any value and work on str(value).
std::string text_of(Interpreter& interpreter, const Value& value) {
  std::string text = to_string(value, interpreter.budget());
  interpreter.budget().charge_string(text.size());
  return text;
}

Value abs_filter(Interpreter& /*interpreter*/, const Value& input, const Arguments& arguments) {
  const BoundArguments bound("abs", arguments, {});
  if (input.is(ValueKind::kFloat)) return std::abs(input.as_double());
  if (input.is_undefined()) fail_undefined(input);
  if (!input.is_integral()) {
    throw RenderError(fmt::format("bad operand type for abs(): '{}'", type_name(input)));
  }
  if (input.as_int() == INT64_MIN) throw RenderError("an integer does not fit 64 bits");
  return std::int64_t{std::abs(input.as_int())};
}

Value attr_filter(Interpreter& interpreter, const Value& input, const Arguments& arguments) {
  const BoundArguments bound("attr", arguments, {"name"}, 1);
  if (input.is_undefined()) fail_undefined(input);
  // Attributes only, never items: a dict shows just its methods.
  if (input.is(ValueKind::kDict) &&
      find_method(input, bound.string(0, "")).status == MethodStatus::kNone) {
    return Value::undefined(
        fmt::format("'dict object' has no attribute '{}'", bound.string(0, "")));
  }
  return get_attribute(interpreter, input, bound.string(0, ""));
}

Value capitalize_filter(Interpreter& interpreter, const Value& input, const Arguments& arguments) {
  const BoundArguments bound("capitalize", arguments, {});
  return interpreter.string(capitalize(text_of(interpreter, input)));
}

Value center_filter(Interpreter& interpreter, const Value& input, const Arguments& arguments) {
  const BoundArguments bound("center", arguments, {"width"});
  Arguments width;
  width.positional.emplace_back(bound.integer(0, 80));
  const Value text = interpreter.string(text_of(interpreter, input));
  return find_method(text, "center").function(interpreter, text, width);
}

Value default_filter(Interpreter& interpreter, const Value& input, const Arguments& arguments) {
  const BoundArguments bound("default", arguments, {"default_value", "boolean"});
  if (!input.is_undefined() && !(bound.boolean(1, false) && !is_true(input))) return input;
  return bound[0] != nullptr ? *bound[0] : interpreter.string("");
}

std::optional<double> to_float(const Value& value) {
  if (value.is_number()) return value.as_double();
  if (value.is_string()) return parse_float(value.as_string());
  if (value.is_undefined()) fail_undefined(value);
  return std::nullopt;
}

Value float_filter(Interpreter& /*interpreter*/, const Value& input, const Arguments& arguments) {
  const BoundArguments bound("float", arguments, {"default"});
  if (const std::optional<double> value = to_float(input)) return *value;
  return bound[0] != nullptr ? *bound[0] : Value(0.0);
}

Value format_filter(Interpreter& interpreter, const Value& input, const Arguments& arguments) {
  const Value format = interpreter.string(text_of(interpreter, input));
  RenderBudget& budget = interpreter.budget();
  if (arguments.keyword.empty()) {
    return format_percent(format, Value::tuple(arguments.positional, budget), budget);
  }
  if (!arguments.positional.empty()) {
    throw RenderError("format takes positional or keyword arguments, not both");
  }
  std::vector<std::pair<Value, Value>> items;
  for (const auto& [name, value] : arguments.keyword) {
    items.emplace_back(Value::string(name, budget), value);
  }
  return format_percent(format, Value::dict(std::move(items), budget), budget);
}

Value indent_filter(Interpreter& interpreter, const Value& input, const Arguments& arguments) {
  const BoundArguments bound("indent", arguments, {"width", "first", "blank"});
  if (input.is_undefined()) fail_undefined(input);
  if (!input.is_string()) {
    throw RenderError(fmt::format("indent() expects a string, found '{}'", type_name(input)));
  }
  std::string indention;
  if (bound[0] != nullptr && bound[0]->is_string()) {
    indention = bound[0]->as_string();
  } else {
    const std::int64_t width = std::max<std::int64_t>(bound.integer(0, 4), 0);
    interpreter.budget().charge_string(static_cast<std::size_t>(width));
    indention.assign(static_cast<std::size_t>(width), ' ');
  }
  const bool indents_blank = bound.boolean(2, false);
  // jinja2 appends a newline, so that a newline at the end is not lost by splitting.
  std::string text(input.as_string());
  text.push_back('\n');
  std::string out;
  if (bound.boolean(1, false)) out = indention;
  bool is_first = true;
  const std::size_t limit = interpreter.budget().limits().string_bytes;
  split_lines(text, false, [&](std::string_view line) {
    if (!is_first) {
      out += '\n';
      if (indents_blank || !line.empty()) out += indention;
    }
    is_first = false;
    out += line;
    if (out.size() > limit) interpreter.budget().charge_string(out.size());
  });
  return interpreter.string(std::move(out));
}

std::optional<std::int64_t> truncated(double value) {
  if (!(std::abs(value) < 0x1p63)) return std::nullopt;
  return static_cast<std::int64_t>(value);
}

Value int_filter(Interpreter& /*interpreter*/, const Value& input, const Arguments& arguments) {
  const BoundArguments bound("int", arguments, {"default", "base"});
  if (input.is_integral()) return input.as_int();
  if (input.is_string()) {
    const auto base = static_cast<int>(std::clamp<std::int64_t>(bound.integer(1, 10), -1, 99));
    if (const auto value = parse_int(input.as_string(), base)) return *value;
  }
  // As in jinja2, "42.23" is 42.
  if (const std::optional<double> value = to_float(input)) {
    if (const auto whole = truncated(*value)) return *whole;
    if (std::isfinite(*value)) throw RenderError("an integer does not fit 64 bits");
    if (!input.is_string() && std::isnan(*value))
      return bound[0] ? *bound[0] : Value(std::int64_t{0});
  }
  return bound[0] != nullptr ? *bound[0] : Value(std::int64_t{0});
}

Value length_filter(Interpreter& /*interpreter*/, const Value& input, const Arguments& arguments) {
  const BoundArguments bound("length", arguments, {});
  return length(input);
}

Value lower_filter(Interpreter& interpreter, const Value& input, const Arguments& arguments) {
  const BoundArguments bound("lower", arguments, {});
  return interpreter.string(to_lower(text_of(interpreter, input)));
}

Value upper_filter(Interpreter& interpreter, const Value& input, const Arguments& arguments) {
  const BoundArguments bound("upper", arguments, {});
  return interpreter.string(to_upper(text_of(interpreter, input)));
}

Value title_text(Interpreter& interpreter, const Value& input, const Arguments& arguments) {
  const BoundArguments bound("title", arguments, {});
  return interpreter.string(title_filter(text_of(interpreter, input)));
}

Value string_filter(Interpreter& interpreter, const Value& input, const Arguments& arguments) {
  const BoundArguments bound("string", arguments, {});
  return input.is_string() ? input : interpreter.string(text_of(interpreter, input));
}

Value replace_filter(Interpreter& interpreter, const Value& input, const Arguments& arguments) {
  const BoundArguments bound("replace", arguments, {"old", "new", "count"}, 2);
  const std::string from = text_of(interpreter, *bound[0]);
  const std::string to = text_of(interpreter, *bound[1]);
  const std::string text = text_of(interpreter, input);
  return interpreter.string(bounded_replace(text, from, to, bound.optional_integer(2).value_or(-1),
                                            interpreter.budget()));
}

// Python's round(): to the nearest decimal of the exact binary value, ties to even.
double round_to(double value, int precision) {
  if (!std::isfinite(value) || precision > 300) return value;
  if (precision >= 0) {
    return parse_float(fmt::format("{:.{}f}", value, precision)).value_or(value);
  }
  const double unit = std::pow(10.0, -precision);
  return std::isinf(unit) ? std::copysign(0.0, value) : std::nearbyint(value / unit) * unit;
}

Value round_filter(Interpreter& /*interpreter*/, const Value& input, const Arguments& arguments) {
  const BoundArguments bound("round", arguments, {"precision", "method"});
  const std::string_view method = bound.string(1, "common");
  const auto precision = static_cast<int>(std::clamp<std::int64_t>(bound.integer(0, 0), -400, 400));
  if (method != "common" && method != "ceil" && method != "floor") {
    throw RenderError("the method of round() must be common, ceil or floor");
  }
  if (input.is_undefined()) fail_undefined(input);
  if (!input.is_number()) {
    throw RenderError(fmt::format("type {} cannot be rounded", type_name(input)));
  }
  if (method == "common") {
    if (input.is_integral() && precision >= 0) return input.as_int();
    const double rounded = round_to(input.as_double(), precision);
    if (input.is_integral()) return static_cast<std::int64_t>(rounded);
    return rounded;
  }
  const double unit = std::pow(10.0, precision);
  const double scaled = input.as_double() * unit;
  return (method == "ceil" ? std::ceil(scaled) : std::floor(scaled)) / unit;
}

Value safe_filter(Interpreter& interpreter, const Value& input, const Arguments& arguments) {
  return string_filter(interpreter, input, arguments);
}

Value tojson_filter(Interpreter& interpreter, const Value& input, const Arguments& arguments) {
  const BoundArguments bound("tojson", arguments,
                             {"ensure_ascii", "indent", "separators", "sort_keys"});
  JsonStyle style;
  style.ensure_ascii = bound.boolean(0, false);
  style.sort_keys = bound.boolean(3, false);
  if (bound[1] != nullptr && bound[1]->is_string()) {
    style.indent = std::string(bound[1]->as_string());
  } else if (const auto width = bound.optional_integer(1)) {
    style.indent =
        std::string(static_cast<std::size_t>(std::clamp<std::int64_t>(*width, 0, 1000)), ' ');
  }
  if (style.indent) style.item_separator.assign(1, ',');
  if (bound[2] != nullptr && !bound[2]->is_none()) {
    const std::vector<Value> separators = to_vector(*bound[2], interpreter.budget());
    if (separators.size() != 2 || !separators[0].is_string() || !separators[1].is_string()) {
      throw RenderError("the separators of tojson() must be two strings");
    }
    style.item_separator = separators[0].as_string();
    style.key_separator = separators[1].as_string();
  }
  return interpreter.string(to_json(input, style, interpreter.budget()));
}

Value trim_filter(Interpreter& interpreter, const Value& input, const Arguments& arguments) {
  const BoundArguments bound("trim", arguments, {"chars"});
  return interpreter.string(
      std::string(strip(text_of(interpreter, input), StripSide::kBoth, bound.optional_string(0))));
}

Value truncate_filter(Interpreter& interpreter, const Value& input, const Arguments& arguments) {
  const BoundArguments bound("truncate", arguments, {"length", "killwords", "end", "leeway"});
  const std::int64_t limit = bound.integer(0, 255);
  const std::string_view end = bound.string(2, "...");
  const std::int64_t leeway = bound.optional_integer(3).value_or(5);
  const auto end_length = static_cast<std::int64_t>(count_code_points(end));
  if (limit < end_length || leeway < 0) {
    throw RenderError(fmt::format("truncate() expects a length of at least {}", end_length));
  }
  if (length(input) - leeway <= limit) return input;
  if (!input.is_string()) {
    throw RenderError(fmt::format("truncate() expects a string, found '{}'", type_name(input)));
  }
  std::string_view kept = input.as_string();
  kept = kept.substr(0, byte_offset(kept, static_cast<std::size_t>(limit - end_length)));
  if (!bound.boolean(1, false)) kept = kept.substr(0, kept.rfind(' '));
  return interpreter.string(std::string(kept).append(end));
}

Value wordcount_filter(Interpreter& interpreter, const Value& input, const Arguments& arguments) {
  const BoundArguments bound("wordcount", arguments, {});
  const std::string text = text_of(interpreter, input);
  std::int64_t count = 0;
  bool in_word = false;
  for (std::size_t offset = 0; offset < text.size();) {
    const char32_t c = decode_code_point(text, offset);
    const bool is_word = c == '_' || is_alphabetic(c) || is_decimal_digit(c);
    count += is_word && !in_word ? 1 : 0;
    in_word = is_word;
  }
  return count;
}

constexpr std::pair<std::string_view, FilterFunction> kFilters[] = {
    {"abs", abs_filter},
    {"attr", attr_filter},
    {"batch", batch_filter},
    {"capitalize", capitalize_filter},
    {"center", center_filter},
    {"count", length_filter},
    {"d", default_filter},
    {"default", default_filter},
    {"dictsort", dictsort_filter},
    {"first", first_filter},
    {"float", float_filter},
    {"format", format_filter},
    {"indent", indent_filter},
    {"int", int_filter},
    {"items", items_filter},
    {"join", join_filter},
    {"last", last_filter},
    {"length", length_filter},
    {"list", list_filter},
    {"lower", lower_filter},
    {"map", map_filter},
    {"max", max_filter},
    {"min", min_filter},
    {"reject", reject_filter},
    {"rejectattr", rejectattr_filter},
    {"replace", replace_filter},
    {"reverse", reverse_filter},
    {"round", round_filter},
    {"safe", safe_filter},
    {"select", select_filter},
    {"selectattr", selectattr_filter},
    {"slice", slice_filter},
    {"sort", sort_filter},
    {"string", string_filter},
    {"sum", sum_filter},
    {"title", title_text},
    {"tojson", tojson_filter},
    {"trim", trim_filter},
    {"truncate", truncate_filter},
    {"unique", unique_filter},
    {"upper", upper_filter},
    {"wordcount", wordcount_filter},
};

}  // namespace

FilterFunction find_filter(std::string_view name) {
  const auto* found = std::find_if(std::begin(kFilters), std::end(kFilters),
                                   [&](const auto& entry) { return entry.first == name; });
  return found == std::end(kFilters) ? nullptr : found->second;
}

}  // namespace llmrun::jinja
