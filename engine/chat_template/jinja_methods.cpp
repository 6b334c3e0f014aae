#include <algorithm>
#include <functional>

#include <fmt/format.h>

#include "engine/chat_template/jinja_builtins.h"
#include "engine/chat_template/jinja_interpreter.h"
#include "engine/chat_template/jinja_sequence_filters.h"
#include "engine/chat_template/python_text.h"

namespace llmrun::jinja {
namespace {

// --- Methods of strings
// -----------------------------------------------------------------------------

template <StripSide Side>
Value strip_method(Interpreter& interpreter, const Value& self, const Arguments& arguments) {
  const BoundArguments bound("strip", arguments, {"chars"});
  return interpreter.string(std::string(strip(self.as_string(), Side, bound.optional_string(0))));
}

template <std::string (*Function)(std::string_view)>
Value text_method(Interpreter& interpreter, const Value& self, const Arguments& arguments) {
  const BoundArguments bound("the method", arguments, {});
  return interpreter.string(Function(self.as_string()));
}

void check_part_from_right(std::string_view part) {
  if (part.size() > kMaxPartFromRight) {
    throw RenderError(fmt::format(
        "searching from the right for more than {} bytes is not supported", kMaxPartFromRight));
  }
}

// Collects the parts of a split string as a list.
class PartList {
 public:
  explicit PartList(Interpreter& interpreter) : interpreter_(interpreter) {}

  void operator()(std::string_view part) {
    interpreter_.budget().charge_items(1);
    parts_.push_back(interpreter_.string(std::string(part)));
  }
  Value take(bool from_right) {
    if (from_right) std::reverse(parts_.begin(), parts_.end());
    return Value::list(std::move(parts_), interpreter_.budget());
  }

 private:
  Interpreter& interpreter_;
  std::vector<Value> parts_;
};

template <bool FromRight>
Value split_method(Interpreter& interpreter, const Value& self, const Arguments& arguments) {
  const BoundArguments bound("split", arguments, {"sep", "maxsplit"});
  const std::int64_t max_splits = bound.integer(1, -1);
  PartList parts(interpreter);
  if (const std::optional<std::string_view> separator = bound.optional_string(0)) {
    if (separator->empty()) throw RenderError("empty separator");
    if (FromRight) check_part_from_right(*separator);
    split(self.as_string(), *separator, max_splits, FromRight, std::ref(parts));
  } else {
    split_whitespace(self.as_string(), max_splits, FromRight, std::ref(parts));
  }
  return parts.take(FromRight);
}

Value splitlines_method(Interpreter& interpreter, const Value& self, const Arguments& arguments) {
  const BoundArguments bound("splitlines", arguments, {"keepends"});
  PartList parts(interpreter);
  split_lines(self.as_string(), bound.boolean(0, false), std::ref(parts));
  return parts.take(false);
}

template <bool FromRight>
Value partition_method(Interpreter& interpreter, const Value& self, const Arguments& arguments) {
  const BoundArguments bound("partition", arguments, {"sep"}, 1);
  const std::string_view text = self.as_string();
  const std::string_view separator = bound.string(0, "");
  if (separator.empty()) throw RenderError("empty separator");
  if (FromRight) check_part_from_right(separator);
  const std::size_t found = FromRight ? find_last(text, separator) : find_first(text, separator);
  std::string_view parts[3] = {FromRight ? "" : text, "", FromRight ? text : ""};
  if (found != std::string_view::npos) {
    parts[0] = text.substr(0, found);
    parts[1] = separator;
    parts[2] = text.substr(found + separator.size());
  }
  std::vector<Value> items;
  for (const std::string_view part : parts) items.push_back(interpreter.string(std::string(part)));
  return Value::tuple(std::move(items), interpreter.budget());
}

// The part of a string that the optional arguments start and end select, in bytes.
struct TextRange {
  std::string_view text;
  std::size_t begin = 0;  // byte of the whole string
  bool is_valid = true;   // false if start lies beyond the end
};

TextRange text_range(std::string_view text, const BoundArguments& bound) {
  const auto size = static_cast<std::int64_t>(count_code_points(text));
  const auto clip = [&](std::optional<std::int64_t> index, std::int64_t fallback) {
    std::int64_t value = index.value_or(fallback);
    if (value < 0) value = std::max<std::int64_t>(std::max(value, -size) + size, 0);
    return value;
  };
  const std::int64_t start = clip(bound.optional_integer(1), 0);
  const std::int64_t end = std::min(clip(bound.optional_integer(2), size), size);
  if (start > end) return {.text = {}, .begin = 0, .is_valid = false};
  const std::size_t begin = byte_offset(text, static_cast<std::size_t>(start));
  const std::size_t stop = byte_offset(text, static_cast<std::size_t>(end));
  return {.text = text.substr(begin, stop - begin), .begin = begin};
}

template <bool AtEnd>
Value has_affix_method(Interpreter& /*interpreter*/, const Value& self,
                       const Arguments& arguments) {
  const BoundArguments bound(AtEnd ? "endswith" : "startswith", arguments,
                             {"affix", "start", "end"}, 1);
  const TextRange range = text_range(self.as_string(), bound);
  const auto matches = [&range](const Value& affix) {
    if (!affix.is_string()) {
      throw RenderError(
          fmt::format("startswith() and endswith() expect a string, found '{}'", type_name(affix)));
    }
    const std::string_view text = affix.as_string();
    return range.is_valid && (AtEnd ? range.text.ends_with(text) : range.text.starts_with(text));
  };
  if (bound[0]->is(ValueKind::kSequence) && bound[0]->as_sequence().type == SequenceType::kTuple) {
    const std::vector<Value>& affixes = bound[0]->as_sequence().items;
    return std::any_of(affixes.begin(), affixes.end(), matches);
  }
  return matches(*bound[0]);
}

template <bool FromRight, bool MustExist>
Value find_method_of_string(Interpreter& /*interpreter*/, const Value& self,
                            const Arguments& arguments) {
  const BoundArguments bound("find", arguments, {"sub", "start", "end"}, 1);
  const std::string_view text = self.as_string();
  const TextRange range = text_range(text, bound);
  const std::string_view part = bound.string(0, "");
  if (FromRight) check_part_from_right(part);
  const std::size_t found = FromRight ? find_last(range.text, part) : find_first(range.text, part);
  if (!range.is_valid || found == std::string_view::npos) {
    if (MustExist) throw RenderError("substring not found");
    return std::int64_t{-1};
  }
  return static_cast<std::int64_t>(count_code_points(text.substr(0, range.begin + found)));
}

Value count_method_of_string(Interpreter& /*interpreter*/, const Value& self,
                             const Arguments& arguments) {
  const BoundArguments bound("count", arguments, {"sub", "start", "end"}, 1);
  const TextRange range = text_range(self.as_string(), bound);
  const std::string_view part = bound.string(0, "");
  if (!range.is_valid) return std::int64_t{0};
  return static_cast<std::int64_t>(count_occurrences(range.text, part));
}

Value replace_method(Interpreter& interpreter, const Value& self, const Arguments& arguments) {
  const BoundArguments bound("replace", arguments, {"old", "new", "count"}, 2);
  return interpreter.string(bounded_replace(self.as_string(), bound.string(0, ""),
                                            bound.string(1, ""), bound.integer(2, -1),
                                            interpreter.budget()));
}

Value join_method(Interpreter& interpreter, const Value& self, const Arguments& arguments) {
  const BoundArguments bound("join", arguments, {"iterable"}, 1);
  return join(interpreter, self.as_string(), *bound[0], true);
}

template <bool Suffix>
Value remove_affix_method(Interpreter& interpreter, const Value& self, const Arguments& arguments) {
  const BoundArguments bound("removeprefix", arguments, {"affix"}, 1);
  std::string_view text = self.as_string();
  const std::string_view affix = bound.string(0, "");
  if (Suffix ? text.ends_with(affix) : text.starts_with(affix)) {
    text = Suffix ? text.substr(0, text.size() - affix.size()) : text.substr(affix.size());
  }
  return interpreter.string(std::string(text));
}

enum class Alignment { kLeft, kCenter, kRight };

template <Alignment Align>
Value pad_method(Interpreter& interpreter, const Value& self, const Arguments& arguments) {
  const BoundArguments bound("ljust", arguments, {"width", "fillchar"}, 1);
  const std::string_view text = self.as_string();
  const std::string_view fill = bound.string(1, " ");
  if (count_code_points(fill) != 1) {
    throw RenderError("the fill character must be exactly one character long");
  }
  const std::int64_t width = bound.integer(0, 0);
  const std::int64_t padding = width - static_cast<std::int64_t>(count_code_points(text));
  if (padding <= 0) return self;
  interpreter.budget().charge_string(static_cast<std::size_t>(padding));
  // Python puts the odd space of center() left or right depending on the width.
  const std::int64_t left = Align == Alignment::kLeft    ? 0
                            : Align == Alignment::kRight ? padding
                                                         : padding / 2 + (padding & width & 1);
  std::string out;
  for (std::int64_t i = 0; i < left; ++i) out += fill;
  out += text;
  for (std::int64_t i = left; i < padding; ++i) out += fill;
  return interpreter.string(std::move(out));
}

// str.isdigit() and its kin: not empty, and the predicate holds for all.
template <bool (*Predicate)(char32_t)>
Value all_characters(Interpreter& /*interpreter*/, const Value& self, const Arguments& arguments) {
  const BoundArguments bound("the method", arguments, {});
  const std::string_view text = self.as_string();
  for (std::size_t offset = 0; offset < text.size();) {
    if (!Predicate(decode_code_point(text, offset))) return false;
  }
  return !text.empty();
}

bool is_alphanumeric(char32_t c) {
  return is_alphabetic(c) || is_decimal_digit(c);
}
bool is_ascii(char32_t c) {
  return c < 0x80;
}

template <bool Upper>
Value has_case_method(Interpreter& interpreter, const Value& self, const Arguments& arguments) {
  return find_test(Upper ? "upper" : "lower")(interpreter, self, arguments);
}

// --- Methods of dicts and lists
// ---------------------------------------------------------------------

Value get_method(Interpreter& interpreter, const Value& self, const Arguments& arguments) {
  const BoundArguments bound("get", arguments, {"key", "default"}, 1);
  interpreter.budget().charge_steps(static_cast<std::int64_t>(self.as_dict().items.size() / 8));
  check_hashable(*bound[0]);
  if (const Value* value = self.as_dict().find(*bound[0])) return *value;
  return bound[1] != nullptr ? *bound[1] : Value::none();
}

template <SequenceType Type>
Value view_method(Interpreter& interpreter, const Value& self, const Arguments& arguments) {
  const BoundArguments bound("the method", arguments, {});
  RenderBudget& budget = interpreter.budget();
  Sequence view{.type = Type, .items = {}};
  for (const auto& [key, value] : self.as_dict().items) {
    if (Type == SequenceType::kDictItems) {
      view.items.push_back(Value::tuple({key, value}, budget));
    } else {
      view.items.push_back(Type == SequenceType::kDictKeys ? key : value);
    }
  }
  return Value::sequence(std::move(view), budget);
}

Value copy_method(Interpreter& /*interpreter*/, const Value& self, const Arguments& arguments) {
  const BoundArguments bound("copy", arguments, {});
  return self;
}

Value count_method_of_list(Interpreter& interpreter, const Value& self,
                           const Arguments& arguments) {
  const BoundArguments bound("count", arguments, {"value"}, 1);
  std::int64_t count = 0;
  for (const Value& item : self.as_sequence().items) {
    count += equals(item, *bound[0], interpreter.budget()) ? 1 : 0;
  }
  return count;
}

Value index_method_of_list(Interpreter& interpreter, const Value& self,
                           const Arguments& arguments) {
  const BoundArguments bound("index", arguments, {"value"}, 1);
  const std::vector<Value>& items = self.as_sequence().items;
  for (std::size_t i = 0; i < items.size(); ++i) {
    if (equals(items[i], *bound[0], interpreter.budget())) return static_cast<std::int64_t>(i);
  }
  throw RenderError("the value is not in the list");
}

using MethodTable = std::pair<std::string_view, MethodFunction>;

constexpr MethodTable kStringMethods[] = {
    {"capitalize", text_method<capitalize>},
    {"center", pad_method<Alignment::kCenter>},
    {"count", count_method_of_string},
    {"endswith", has_affix_method<true>},
    {"find", find_method_of_string<false, false>},
    {"format", format_braces},
    {"index", find_method_of_string<false, true>},
    {"isalnum", all_characters<is_alphanumeric>},
    {"isalpha", all_characters<is_alphabetic>},
    {"isascii", all_characters<is_ascii>},
    {"isdecimal", all_characters<is_decimal_digit>},
    {"isdigit", all_characters<is_decimal_digit>},
    {"islower", has_case_method<false>},
    {"isnumeric", all_characters<is_decimal_digit>},
    {"isspace", all_characters<is_space>},
    {"isupper", has_case_method<true>},
    {"join", join_method},
    {"ljust", pad_method<Alignment::kLeft>},
    {"lower", text_method<to_lower>},
    {"lstrip", strip_method<StripSide::kLeft>},
    {"partition", partition_method<false>},
    {"removeprefix", remove_affix_method<false>},
    {"removesuffix", remove_affix_method<true>},
    {"replace", replace_method},
    {"rfind", find_method_of_string<true, false>},
    {"rindex", find_method_of_string<true, true>},
    {"rjust", pad_method<Alignment::kRight>},
    {"rpartition", partition_method<true>},
    {"rsplit", split_method<true>},
    {"rstrip", strip_method<StripSide::kRight>},
    {"split", split_method<false>},
    {"splitlines", splitlines_method},
    {"startswith", has_affix_method<false>},
    {"strip", strip_method<StripSide::kBoth>},
    {"title", text_method<title_method>},
    {"upper", text_method<to_upper>},
};
constexpr MethodTable kDictMethods[] = {
    {"copy", copy_method},
    {"get", get_method},
    {"items", view_method<SequenceType::kDictItems>},
    {"keys", view_method<SequenceType::kDictKeys>},
    {"values", view_method<SequenceType::kDictValues>},
};
constexpr MethodTable kListMethods[] = {
    {"copy", copy_method},
    {"count", count_method_of_list},
    {"index", index_method_of_list},
};
// The immutable sandbox hides what would change a list or dict.
constexpr std::string_view kForbiddenOfDict[] = {"clear", "pop", "popitem", "setdefault", "update"};
constexpr std::string_view kForbiddenOfList[] = {"append", "clear",  "extend",  "insert",
                                                 "pop",    "remove", "reverse", "sort"};
constexpr std::string_view kUnsupportedOfString[] = {
    "casefold", "encode",    "expandtabs", "format_map", "isidentifier", "isprintable",
    "istitle",  "maketrans", "swapcase",   "translate",  "zfill"};
constexpr std::string_view kUnsupportedOfNumber[] = {
    "as_integer_ratio", "bit_count", "bit_length", "conjugate", "denominator",
    "from_bytes",       "fromhex",   "hex",        "imag",      "is_integer",
    "numerator",        "real",      "to_bytes"};

template <typename Table>
MethodLookup look_up(const Table& table, std::string_view name) {
  const auto* found = std::find_if(std::begin(table), std::end(table),
                                   [&](const auto& entry) { return entry.first == name; });
  if (found == std::end(table)) return {};
  return {MethodStatus::kFound, found->second};
}

template <typename Names>
bool is_one_of(const Names& names, std::string_view name) {
  return std::find(std::begin(names), std::end(names), name) != std::end(names);
}

}  // namespace

MethodLookup find_method(const Value& self, std::string_view name) {
  if (self.is_undefined() || self.is(ValueKind::kObject)) return {};
  // Python's objects have dozens of such attributes; the sandbox hides them all.
  if (name.size() > 4 && name.starts_with("__") && name.ends_with("__")) {
    return {MethodStatus::kForbidden, nullptr};
  }
  switch (self.kind()) {
    case ValueKind::kString:
      if (is_one_of(kUnsupportedOfString, name)) return {MethodStatus::kUnsupported, nullptr};
      return look_up(kStringMethods, name);
    case ValueKind::kDict:
      if (is_one_of(kForbiddenOfDict, name)) return {MethodStatus::kForbidden, nullptr};
      if (name == "fromkeys") return {MethodStatus::kUnsupported, nullptr};
      return look_up(kDictMethods, name);
    case ValueKind::kSequence: {
      const SequenceType type = self.as_sequence().type;
      if (type == SequenceType::kList && is_one_of(kForbiddenOfList, name)) {
        return {MethodStatus::kForbidden, nullptr};
      }
      if (type > SequenceType::kRange || (type != SequenceType::kList && name == "copy")) return {};
      return look_up(kListMethods, name);
    }
    case ValueKind::kBool:
    case ValueKind::kInt:
    case ValueKind::kFloat:
      if (is_one_of(kUnsupportedOfNumber, name)) return {MethodStatus::kUnsupported, nullptr};
      return {};
    default: return {};
  }
}

}  // namespace llmrun::jinja
