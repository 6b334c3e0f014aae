// JSON from files and requests that nobody checked: nlohmann/json behind limits.
//
// Text is refused, with its name, line, column and byte offset, when it is not UTF-8, nests deeper
// than the limit, repeats a key (unless allowed) or is not JSON. Values are read by typed getters
// that never wrap, truncate or convert: an integer is an integer token inside its range.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <nlohmann/json.hpp>

#include "engine/core/error.h"

namespace llmrun {

struct JsonLimits {
  std::size_t max_depth = 256;        // nested objects and arrays; 64 for requests
  bool reject_duplicate_keys = true;  // otherwise the last one counts, as in Python
  ErrorKind error_kind = ErrorKind::kModel;
};
inline constexpr JsonLimits kFileJson{};
inline constexpr JsonLimits kRequestJson{
    .max_depth = 64, .reject_duplicate_keys = true, .error_kind = ErrorKind::kInput};

// The one value in `text`. Throws Error(limits.error_kind): "<name>: line L column C ...".
nlohmann::json parse_json(std::string_view text, const std::string& name,
                          const JsonLimits& limits = kFileJson);
// The same, keeping the order of keys. Only for objects with few keys: a look-up is linear.
nlohmann::ordered_json parse_ordered_json(std::string_view text, const std::string& name,
                                          const JsonLimits& limits = kFileJson);

// For text of one request, where an error is a value: nothing on error, and `error` says why,
// without a name.
std::optional<nlohmann::json> try_parse_json(std::string_view text, const JsonLimits& limits,
                                             std::string& error);
std::optional<nlohmann::ordered_json> try_parse_ordered_json(std::string_view text,
                                                             const JsonLimits& limits,
                                                             std::string& error);

// Receives the events of parse_json_events. A handler stops the parse by throwing.
class JsonHandler : public nlohmann::json_sax<nlohmann::json> {
 public:
  bool binary(nlohmann::json::binary_t& /*value*/) override { return false; }  // not in JSON text
  bool parse_error(std::size_t position, const std::string& last_token,
                   const nlohmann::detail::exception& error) final;

  // Where and why the parse stopped; the offset counts bytes.
  std::size_t error_offset() const { return error_offset_; }
  const std::string& error_message() const { return error_message_; }

 private:
  std::size_t error_offset_ = 0;
  std::string error_message_;
};

// Events instead of a tree, for large files. UTF-8, depth and syntax are checked here; duplicate
// keys are the handler's matter.
void parse_json_events(std::string_view text, const std::string& name, const JsonLimits& limits,
                       JsonHandler& handler);

// One line (indent < 0) or indented text. Never throws: bad UTF-8 in strings becomes U+FFFD; NaN
// and infinity, which JSON cannot say, become null.
std::string dump_json(const nlohmann::json& value, int indent = -1);
std::string dump_json(const nlohmann::ordered_json& value, int indent = -1);

// A JSON object and its place ("config.json: rope_scaling"), read key by key. get_* throw when the
// key is absent or null; find_* return nothing then. Both throw Error(kind) that names place, key,
// expected and found when the value has the wrong type or is out of range.
class JsonObject {
 public:
  // `value` must outlive this view. Throws when it is not an object.
  JsonObject(const nlohmann::json& value, std::string place, ErrorKind kind = ErrorKind::kModel);

  const nlohmann::json& json() const { return *value_; }
  const std::string& place() const { return place_; }

  // The value of `key`; nullptr when absent or null.
  const nlohmann::json* find(std::string_view key) const;
  bool has(std::string_view key) const { return find(key) != nullptr; }

  std::int64_t get_int(std::string_view key, std::int64_t min, std::int64_t max) const;
  std::optional<std::int64_t> find_int(std::string_view key, std::int64_t min,
                                       std::int64_t max) const;
  // Finite; integers are accepted.
  double get_float(std::string_view key, double min, double max) const;
  std::optional<double> find_float(std::string_view key, double min, double max) const;
  bool get_bool(std::string_view key) const;
  std::optional<bool> find_bool(std::string_view key) const;
  const std::string& get_string(std::string_view key) const;
  std::optional<std::string> find_string(std::string_view key) const;
  JsonObject get_object(std::string_view key) const;
  std::optional<JsonObject> find_object(std::string_view key) const;
  // An array; nullptr from find_array when absent or null.
  const nlohmann::json& get_array(std::string_view key) const;
  const nlohmann::json* find_array(std::string_view key) const;

  // Throws Error: "<place>: <key>: <what>". For checks that types and ranges do not cover.
  [[noreturn]] void fail(std::string_view key, std::string_view what) const;

 private:
  const nlohmann::json& require(std::string_view key, std::string_view expected) const;
  [[noreturn]] void fail_type(std::string_view key, std::string_view expected,
                              const nlohmann::json& found) const;

  const nlohmann::json* value_;
  std::string place_;
  ErrorKind kind_;
};

// How a value is shown in an error message: its JSON text, cut to 64 bytes.
std::string describe_json(const nlohmann::json& value);

// A name as shown in an error message: as describe_json() shows a string.
std::string quote_json(std::string_view text);

}  // namespace llmrun
