#include <cmath>

#include <fmt/format.h>

#include "engine/chat_template/jinja_builtins.h"
#include "engine/chat_template/jinja_interpreter.h"
#include "engine/chat_template/python_text.h"
#include "engine/core/utf8.h"

namespace llmrun::jinja {
namespace {

// One conversion of a printf-style format: "%(name)-5.2f".
struct Conversion {
  std::string flags;
  std::optional<std::string_view> key;
  std::int64_t width = 0;
  std::optional<std::int64_t> precision;
  char type = 's';
};

// "%d" and the like: what the number prints as, without padding.
std::string convert_number(const Conversion& conversion, const Value& value) {
  if (value.is_undefined()) fail_undefined(value);
  if (!value.is_number()) {
    throw RenderError(
        fmt::format("%{} format: a number is required, not {}", conversion.type, type_name(value)));
  }
  std::string text;
  const auto precision =
      static_cast<int>(std::min<std::int64_t>(conversion.precision.value_or(6), 500));
  const bool is_alternate = conversion.flags.find('#') != std::string::npos;
  switch (conversion.type) {
    case 'f':
    case 'F': text = fmt::format("{:.{}f}", value.as_double(), precision); break;
    case 'e': text = fmt::format("{:.{}e}", value.as_double(), precision); break;
    case 'E': text = fmt::format("{:.{}E}", value.as_double(), precision); break;
    case 'g': text = fmt::format("{:.{}g}", value.as_double(), precision); break;
    case 'G': text = fmt::format("{:.{}G}", value.as_double(), precision); break;
    default: {
      if (!value.is_integral() && conversion.type != 'd' && conversion.type != 'i') {
        throw RenderError(fmt::format("%{} format: an integer is required, not {}", conversion.type,
                                      type_name(value)));
      }
      const double real = value.as_double();
      if (!value.is_integral() && !(std::abs(real) < 0x1p63)) {
        throw RenderError("an integer does not fit 64 bits");
      }
      const std::int64_t number =
          value.is_integral() ? value.as_int() : static_cast<std::int64_t>(real);
      const std::uint64_t magnitude =
          number < 0 ? 0 - static_cast<std::uint64_t>(number) : static_cast<std::uint64_t>(number);
      if (conversion.type == 'x') text = fmt::format("{:x}", magnitude);
      if (conversion.type == 'X') text = fmt::format("{:X}", magnitude);
      if (conversion.type == 'o') text = fmt::format("{:o}", magnitude);
      if (text.empty()) text = std::to_string(magnitude);
      if (conversion.precision && static_cast<std::int64_t>(text.size()) < precision) {
        text.insert(0, static_cast<std::size_t>(precision) - text.size(), '0');
      }
      if (is_alternate && std::string_view("xXo").find(conversion.type) != std::string_view::npos) {
        text.insert(0, fmt::format("0{}", conversion.type));
      }
      if (number < 0) text.insert(text.begin(), '-');
    }
  }
  if (text[0] != '-') {
    if (conversion.flags.find('+') != std::string::npos) {
      text.insert(text.begin(), '+');
    } else if (conversion.flags.find(' ') != std::string::npos) {
      text.insert(text.begin(), ' ');
    }
  }
  return text;
}

class PercentFormatter {
 public:
  PercentFormatter(std::string_view format, const Value& arguments, RenderBudget& budget)
      : format_(format), arguments_(arguments), budget_(budget) {}

  std::string run() {
    while (position_ < format_.size()) {
      const char c = format_[position_++];
      if (c != '%') {
        out_.push_back(c);
      } else if (position_ < format_.size() && format_[position_] == '%') {
        out_.push_back('%');
        ++position_;
      } else {
        append(parse_conversion());
      }
    }
    // A dict or list may hold more than the format takes, as in Python; a tuple or a scalar may
    // not.
    const bool is_mapping = arguments_.is(ValueKind::kDict) || arguments_.is_undefined() ||
                            (arguments_.is(ValueKind::kSequence) && !is_tuple());
    if (!is_mapping && next_ < (is_tuple() ? arguments_.as_sequence().items.size() : 1)) {
      throw RenderError("not all arguments converted during string formatting");
    }
    return std::move(out_);
  }

 private:
  bool is_tuple() const {
    return arguments_.is(ValueKind::kSequence) &&
           arguments_.as_sequence().type == SequenceType::kTuple;
  }

  char peek() const {
    if (position_ >= format_.size()) throw RenderError("incomplete format");
    return format_[position_];
  }

  std::int64_t parse_number() {
    if (peek() == '*') throw RenderError("the width '*' is not supported in a format");
    std::int64_t number = 0;
    while (peek() >= '0' && peek() <= '9') {
      number = std::min<std::int64_t>(number * 10 + (format_[position_++] - '0'), 1 << 30);
    }
    return number;
  }

  Conversion parse_conversion() {
    Conversion conversion;
    if (peek() == '(') {
      const std::size_t end = format_.find(')', position_);
      if (end == std::string_view::npos) throw RenderError("incomplete format key");
      conversion.key = format_.substr(position_ + 1, end - position_ - 1);
      position_ = end + 1;
    }
    while (std::string_view("-+ #0").find(peek()) != std::string_view::npos) {
      conversion.flags.push_back(format_[position_++]);
    }
    conversion.width = parse_number();
    if (peek() == '.') {
      ++position_;
      conversion.precision = parse_number();
    }
    conversion.type = peek();
    ++position_;
    return conversion;
  }

  Value next_argument(const Conversion& conversion) {
    if (conversion.key) {
      if (!arguments_.is(ValueKind::kDict)) throw RenderError("format requires a mapping");
      const Value* value = arguments_.as_dict().find(*conversion.key);
      if (value == nullptr) {
        throw RenderError(fmt::format("the format names '{}', which is missing", *conversion.key));
      }
      return *value;
    }
    const std::size_t index = next_++;
    if (is_tuple() && index < arguments_.as_sequence().items.size()) {
      return arguments_.as_sequence().items[index];
    }
    if (is_tuple() || index > 0) throw RenderError("not enough arguments for format string");
    return arguments_;
  }

  void append(const Conversion& conversion) {
    const Value value = next_argument(conversion);
    std::string text;
    bool is_number = false;
    switch (conversion.type) {
      case 's': append_string(text, value, budget_); break;
      case 'r': append_repr(text, value, budget_); break;
      case 'c':
        if (value.is_integral() && value.as_int() >= 0 && value.as_int() < 0xD800) {
          append_utf8(text, static_cast<char32_t>(value.as_int()));
        } else if (value.is_string() && count_code_points(value.as_string()) == 1) {
          text = value.as_string();
        } else {
          throw RenderError("%c requires an integer or one character");
        }
        break;
      default:
        if (std::string_view("diuxXofFeEgG").find(conversion.type) == std::string_view::npos) {
          throw RenderError(fmt::format("unsupported format character '{}'", conversion.type));
        }
        text = convert_number(conversion, value);
        is_number = true;
    }
    if (!is_number && conversion.precision) {
      text.resize(byte_offset(text, static_cast<std::size_t>(*conversion.precision)));
    }
    const auto length = static_cast<std::int64_t>(count_code_points(text));
    const auto padding =
        static_cast<std::size_t>(std::max<std::int64_t>(conversion.width - length, 0));
    budget_.charge_string(out_.size() + text.size() + padding);
    if (conversion.flags.find('-') != std::string::npos) {
      text.append(padding, ' ');
    } else if (is_number && conversion.flags.find('0') != std::string::npos) {
      const bool has_sign = text[0] == '-' || text[0] == '+' || text[0] == ' ';
      text.insert(has_sign ? 1 : 0, padding, '0');
    } else {
      text.insert(0, padding, ' ');
    }
    out_ += text;
  }

  std::string_view format_;
  const Value& arguments_;
  RenderBudget& budget_;
  std::size_t position_ = 0;
  std::size_t next_ = 0;
  std::string out_;
};

// Python counts the fields of str.format itself or takes their numbers, but not both in one format.
struct FieldNumbering {
  bool is_automatic = false;
  bool is_manual = false;
  std::int64_t next = 0;
};

// A field of str.format: a number, a name or nothing, then .attribute or [item] parts.
Value format_field(Interpreter& interpreter, std::string_view field, const Arguments& arguments,
                   FieldNumbering& numbering) {
  const std::size_t name_end = std::min(field.find_first_of(".["), field.size());
  const std::string_view name = field.substr(0, name_end);
  std::optional<std::int64_t> index = parse_int(name, 10);
  if (index || name.empty()) {
    (name.empty() ? numbering.is_automatic : numbering.is_manual) = true;
    if (numbering.is_automatic && numbering.is_manual) {
      throw RenderError("format() cannot mix {} with numbered fields");
    }
  }
  if (name.empty()) index = numbering.next++;
  Value value;
  if (index) {
    if (*index < 0 || static_cast<std::size_t>(*index) >= arguments.positional.size()) {
      throw RenderError(fmt::format("format() has no argument {}", *index));
    }
    value = arguments.positional[static_cast<std::size_t>(*index)];
  } else {
    const auto found = std::find_if(arguments.keyword.begin(), arguments.keyword.end(),
                                    [&](const auto& entry) { return entry.first == name; });
    if (found == arguments.keyword.end()) {
      throw RenderError(fmt::format("format() has no argument '{}'", name));
    }
    value = found->second;
  }
  std::string_view rest = field.substr(name_end);
  while (!rest.empty()) {
    const bool is_item = rest.front() == '[';
    const std::size_t end = is_item ? rest.find(']') : rest.find_first_of(".[", 1);
    if (is_item && end == std::string_view::npos) throw RenderError("expected ']' in a format");
    const std::string_view part = rest.substr(1, std::min(end, rest.size()) - 1);
    const std::optional<std::int64_t> number = is_item ? parse_int(part, 10) : std::nullopt;
    value = !is_item ? get_attribute(interpreter, value, part)
            : number ? get_item(interpreter, value, *number)
                     : get_item(interpreter, value, interpreter.string(std::string(part)));
    rest.remove_prefix(std::min(is_item ? end + 1 : end, rest.size()));
  }
  return value;
}

}  // namespace

Value format_percent(const Value& format, const Value& arguments, RenderBudget& budget) {
  return Value::string(PercentFormatter(format.as_string(), arguments, budget).run(), budget);
}

Value format_braces(Interpreter& interpreter, const Value& self, const Arguments& arguments) {
  const std::string_view format = self.as_string();
  std::string out;
  FieldNumbering numbering;
  for (std::size_t i = 0; i < format.size(); ++i) {
    const char c = format[i];
    if (c != '{' && c != '}') {
      out.push_back(c);
      continue;
    }
    if (i + 1 < format.size() && format[i + 1] == c) {
      out.push_back(c);
      ++i;
      continue;
    }
    const std::size_t end = c == '{' ? format.find('}', i) : std::string_view::npos;
    if (end == std::string_view::npos) throw RenderError("a single brace in a format");
    const std::string_view field = format.substr(i + 1, end - i - 1);
    if (field.find_first_of(":!{") != std::string_view::npos) {
      throw RenderError("format() specifications after ':' or '!' are not supported");
    }
    append_string(out, format_field(interpreter, field, arguments, numbering),
                  interpreter.budget());
    interpreter.budget().charge_string(out.size());
    i = end;
  }
  return interpreter.string(std::move(out));
}

}  // namespace llmrun::jinja
