#include "engine/chat_template/python_text.h"

#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>
#include <vector>

#include <doctest/doctest.h>

#include "engine/core/file.h"
#include "engine/core/json.h"

namespace llmrun::jinja {
namespace {

// What CPython made of the same texts and numbers.
nlohmann::ordered_json read_golden() {
  const std::string path =
      std::string(LLMRUN_SOURCE_DIR) + "/tests/data/chat_template/python_text.json";
  return parse_ordered_json(read_file(path, 1 << 20, ErrorKind::kInput), path);
}

using Parts = std::vector<std::string>;

template <typename Split>
Parts collect(const Split& split_text, bool from_right = false) {
  Parts parts;
  split_text([&](std::string_view part) {
    parts.insert(from_right ? parts.begin() : parts.end(), std::string(part));
  });
  return parts;
}

TEST_CASE("floats print as in Python") {
  const nlohmann::ordered_json golden = read_golden();
  REQUIRE(golden["floats"].size() > 200);
  for (const auto& row : golden["floats"]) {
    const double value = std::strtod(row[0].get<std::string>().c_str(), nullptr);
    CHECK(repr(value) == row[1].get<std::string>());
    CHECK(parse_float(row[1].get<std::string>()) == value);
  }
}

TEST_CASE("functions of str do what Python's do") {
  const nlohmann::ordered_json golden = read_golden();
  REQUIRE(golden["texts"].size() > 50);
  for (const auto& row : golden["texts"]) {
    const auto text = row["text"].get<std::string>();
    CAPTURE(text);
    CHECK(repr(text) == row["repr"].get<std::string>());
    CHECK(to_upper(text) == row["upper"].get<std::string>());
    CHECK(to_lower(text) == row["lower"].get<std::string>());
    CHECK(title_method(text) == row["title"].get<std::string>());
    CHECK(capitalize(text) == row["capitalize"].get<std::string>());
    CHECK(strip(text, StripSide::kBoth) == row["strip"].get<std::string>());
    CHECK(strip(text, StripSide::kRight, "ab\n é") == row["rstrip_chars"].get<std::string>());
    CHECK(collect([&](auto add) { split_whitespace(text, -1, false, add); }) ==
          row["split"].get<Parts>());
    CHECK(collect([&](auto add) { split_whitespace(text, 1, true, add); }, true) ==
          row["rsplit_one"].get<Parts>());
    CHECK(collect([&](auto add) { split(text, ",", -1, false, add); }) ==
          row["split_comma"].get<Parts>());
    CHECK(collect([&](auto add) { split(text, ",", 1, true, add); }, true) ==
          row["rsplit_comma"].get<Parts>());
    CHECK(collect([&](auto add) { split_lines(text, false, add); }) == row["lines"].get<Parts>());
    CHECK(collect([&](auto add) { split_lines(text, true, add); }) ==
          row["lines_with_ends"].get<Parts>());
    CHECK(replace(text, "b", "<>") == row["replaced"].get<std::string>());
    CHECK(replace(text, "", "-", 3) == row["spread"].get<std::string>());
    CHECK(reverse(text) == row["reversed"].get<std::string>());
    CHECK(count_code_points(text) == row["length"].get<std::size_t>());
  }
}

TEST_CASE("numbers are read as int() and float() read them") {
  CHECK(parse_int(" +1_000\n", 10) == 1000);
  CHECK(parse_int("-0x1F", 16) == -31);
  CHECK(parse_int("0b101", 0) == 5);
  CHECK(parse_int("-9223372036854775808", 10) == INT64_MIN);
  for (const char* text :
       {"", " ", "1.5", "1__0", "_1", "1_", "--1", "9223372036854775808", "0x"}) {
    CAPTURE(text);
    CHECK_FALSE(parse_int(text, 10));
  }
  CHECK(parse_float(" 1_0.5e-1 ") == 1.05);
  CHECK(parse_float("-inf") == -HUGE_VAL);
  CHECK(parse_float("1e999") == HUGE_VAL);
  for (const char* text : {"", "e5", "1e", "+-1", "0x10", "nan(1)", "1 2"}) {
    CAPTURE(text);
    CHECK_FALSE(parse_float(text));
  }
}

}  // namespace
}  // namespace llmrun::jinja
