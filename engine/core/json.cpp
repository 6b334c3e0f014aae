#include "engine/core/json.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include <fmt/format.h>

#include "engine/core/json_tree_builder.h"
#include "engine/core/utf8.h"

namespace llmrun {
namespace {

// "line 3 column 17", counted from 1, or "column 17" when the text is one line. Columns are bytes.
std::string describe_position(std::string_view text, std::size_t offset) {
  const std::string_view before = text.substr(0, std::min(offset, text.size()));
  const std::size_t line_begin = before.rfind('\n') + 1;  // npos + 1 is 0
  const std::size_t column = before.size() - line_begin + 1;
  if (text.find('\n') >= text.size() - 1) return fmt::format("column {}", column);
  const auto line = std::count(before.begin(), before.end(), '\n') + 1;
  return fmt::format("line {} column {}", line, column);
}

// What the parser itself does not refuse, or refuses too late: bytes that are not UTF-8, NUL (which
// it takes for the end) and deep nesting. Empty when the text has none of it.
std::string find_forbidden(std::string_view text, std::size_t max_depth) {
  if (const std::size_t bad = first_invalid_utf8(text); bad != text.npos) {
    return fmt::format("byte {}: invalid UTF-8 (byte 0x{:02X})", bad,
                       static_cast<std::uint8_t>(text[bad]));
  }
  if (const std::size_t nul = text.find('\0'); nul != text.npos) {
    return fmt::format("byte {}: NUL byte", nul);
  }
  std::size_t depth = 0;
  bool in_string = false;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (in_string) {
      if (c == '\\') ++i;
      if (c == '"') in_string = false;
    } else if (c == '"') {
      in_string = true;
    } else if (c == '[' || c == '{') {
      if (++depth > max_depth) {
        return fmt::format("{}: nested deeper than {} levels", describe_position(text, i),
                           max_depth);
      }
    } else if ((c == ']' || c == '}') && depth > 0) {
      --depth;
    }
  }
  return {};
}

// Why the text is refused; empty on success.
std::string run_parser(std::string_view text, const JsonLimits& limits, JsonHandler& handler) {
  std::string error = find_forbidden(text, limits.max_depth);
  if (!error.empty()) return error;
  if (nlohmann::json::sax_parse(text, &handler)) return {};
  return fmt::format("{}: {}", describe_position(text, handler.error_offset()),
                     handler.error_message());
}

template <typename Json>
std::optional<Json> try_parse(std::string_view text, const JsonLimits& limits, std::string& error) {
  JsonTreeBuilder<Json> builder(limits.reject_duplicate_keys);
  try {
    error = run_parser(text, limits, builder);
  } catch (const DuplicateKeyError& duplicate) {
    error = duplicate.what();
  }
  if (!error.empty()) return std::nullopt;
  return builder.take();
}

template <typename Json>
Json parse(std::string_view text, const std::string& name, const JsonLimits& limits) {
  std::string error;
  std::optional<Json> value = try_parse<Json>(text, limits, error);
  if (!value) throw Error(limits.error_kind, fmt::format("{}: {}", name, error));
  return std::move(*value);
}

template <typename Json>
std::string dump(const Json& value, int indent) {
  return value.dump(indent, ' ', false, Json::error_handler_t::replace);
}

}  // namespace

bool JsonHandler::parse_error(std::size_t position, const std::string& /*last_token*/,
                              const nlohmann::detail::exception& error) {
  error_offset_ = position == 0 ? 0 : position - 1;
  // "[json.exception.parse_error.101] parse error at line 1, column 2: syntax error while ...":
  // only the last part, since nlohmann counts other columns.
  std::string_view message = error.what();
  for (const std::string_view begin : {"syntax error", "number overflow", "attempting to parse"}) {
    if (const std::size_t at = message.find(begin); at != message.npos) {
      message.remove_prefix(at);
      break;
    }
  }
  constexpr std::size_t kMaxLength = 200;  // it quotes the last token, which may be a whole file
  error_message_ = replace_invalid_utf8(message.substr(0, kMaxLength));
  if (message.size() > kMaxLength) error_message_ += "...";
  return false;
}

nlohmann::json parse_json(std::string_view text, const std::string& name,
                          const JsonLimits& limits) {
  return parse<nlohmann::json>(text, name, limits);
}

nlohmann::ordered_json parse_ordered_json(std::string_view text, const std::string& name,
                                          const JsonLimits& limits) {
  return parse<nlohmann::ordered_json>(text, name, limits);
}

std::optional<nlohmann::json> try_parse_json(std::string_view text, const JsonLimits& limits,
                                             std::string& error) {
  return try_parse<nlohmann::json>(text, limits, error);
}

std::optional<nlohmann::ordered_json> try_parse_ordered_json(std::string_view text,
                                                             const JsonLimits& limits,
                                                             std::string& error) {
  return try_parse<nlohmann::ordered_json>(text, limits, error);
}

void parse_json_events(std::string_view text, const std::string& name, const JsonLimits& limits,
                       JsonHandler& handler) {
  const std::string error = run_parser(text, limits, handler);
  if (!error.empty()) throw Error(limits.error_kind, fmt::format("{}: {}", name, error));
}

std::string dump_json(const nlohmann::json& value, int indent) {
  return dump(value, indent);
}
std::string dump_json(const nlohmann::ordered_json& value, int indent) {
  return dump(value, indent);
}

std::string describe_json(const nlohmann::json& value) {
  constexpr std::size_t kMaxLength = 64;
  if (value.is_object()) return "an object";
  if (value.is_array()) return "an array";
  std::string text;
  if (value.is_string()) {
    const auto& whole = value.get_ref<const std::string&>();
    text = dump_json(nlohmann::json(whole.substr(0, kMaxLength + 1)));
  } else {
    text = dump_json(value);
  }
  if (text.size() <= kMaxLength) return text;
  text.resize(kMaxLength);
  text.resize(kMaxLength - incomplete_utf8_tail(text));
  return text + "...";
}

std::string quote_json(std::string_view text) {
  return describe_json(nlohmann::json(std::string(text)));
}

JsonObject::JsonObject(const nlohmann::json& value, std::string place, ErrorKind kind)
    : value_(&value), place_(std::move(place)), kind_(kind) {
  if (!value.is_object()) {
    throw Error(kind_,
                fmt::format("{}: expected an object, found {}", place_, describe_json(value)));
  }
}

const nlohmann::json* JsonObject::find(std::string_view key) const {
  const auto it = value_->find(key);
  return it == value_->end() || it->is_null() ? nullptr : &*it;
}

const nlohmann::json& JsonObject::require(std::string_view key, std::string_view expected) const {
  const nlohmann::json* value = find(key);
  if (value == nullptr) fail(key, fmt::format("missing; expected {}", expected));
  return *value;
}

void JsonObject::fail(std::string_view key, std::string_view what) const {
  throw Error(kind_, fmt::format("{}: {}: {}", place_, key, what));
}

void JsonObject::fail_type(std::string_view key, std::string_view expected,
                           const nlohmann::json& found) const {
  fail(key, fmt::format("expected {}, found {}", expected, describe_json(found)));
}

std::optional<std::int64_t> JsonObject::find_int(std::string_view key, std::int64_t min,
                                                 std::int64_t max) const {
  if (!has(key)) return std::nullopt;
  return get_int(key, min, max);
}

std::int64_t JsonObject::get_int(std::string_view key, std::int64_t min, std::int64_t max) const {
  const std::string expected = fmt::format("an integer from {} to {}", min, max);
  const nlohmann::json& value = require(key, expected);
  const bool fits = value.is_number_unsigned()
                        ? std::in_range<std::int64_t>(value.get<std::uint64_t>())
                        : value.is_number_integer();
  if (!fits) fail_type(key, expected, value);
  const auto number = value.get<std::int64_t>();
  if (number < min || number > max) fail_type(key, expected, value);
  return number;
}

std::optional<double> JsonObject::find_float(std::string_view key, double min, double max) const {
  if (!has(key)) return std::nullopt;
  return get_float(key, min, max);
}

double JsonObject::get_float(std::string_view key, double min, double max) const {
  const std::string expected = fmt::format("a number from {} to {}", min, max);
  const nlohmann::json& value = require(key, expected);
  if (!value.is_number()) fail_type(key, expected, value);
  const auto number = value.get<double>();
  if (!std::isfinite(number) || number < min || number > max) fail_type(key, expected, value);
  return number;
}

std::optional<bool> JsonObject::find_bool(std::string_view key) const {
  if (!has(key)) return std::nullopt;
  return get_bool(key);
}

bool JsonObject::get_bool(std::string_view key) const {
  const nlohmann::json& value = require(key, "true or false");
  if (!value.is_boolean()) fail_type(key, "true or false", value);
  return value.get<bool>();
}

std::optional<std::string> JsonObject::find_string(std::string_view key) const {
  if (!has(key)) return std::nullopt;
  return get_string(key);
}

const std::string& JsonObject::get_string(std::string_view key) const {
  const nlohmann::json& value = require(key, "a string");
  if (!value.is_string()) fail_type(key, "a string", value);
  return value.get_ref<const std::string&>();
}

std::optional<JsonObject> JsonObject::find_object(std::string_view key) const {
  if (!has(key)) return std::nullopt;
  return get_object(key);
}

JsonObject JsonObject::get_object(std::string_view key) const {
  return {require(key, "an object"), fmt::format("{}: {}", place_, key), kind_};
}

const nlohmann::json* JsonObject::find_array(std::string_view key) const {
  return has(key) ? &get_array(key) : nullptr;
}

const nlohmann::json& JsonObject::get_array(std::string_view key) const {
  const nlohmann::json& value = require(key, "an array");
  if (!value.is_array()) fail_type(key, "an array", value);
  return value;
}

}  // namespace llmrun
