#include "engine/core/json.h"

#include <limits>
#include <string>

#include <doctest/doctest.h>
#include <fmt/format.h>

#include "engine/core/utf8.h"

namespace llmrun {
namespace {

std::string error_of(const std::string& text, const JsonLimits& limits = kFileJson) {
  try {
    parse_json(text, "f.json", limits);
  } catch (const Error& error) {
    CHECK(error.kind() == limits.error_kind);
    return error.what();
  }
  return "";
}

bool contains(const std::string& text, const std::string& part) {
  const bool found = text.find(part) != std::string::npos;
  if (!found) MESSAGE("expected '" << part << "' in '" << text << "'");
  return found;
}

TEST_CASE("trees equal what nlohmann builds") {
  for (const std::string text :
       {R"({"a":[1,-2,3.5,true,null,"x"],"b":{"c":{},"d":[]},"e":"\ud83d\ude00\u0000"})", "[]", "7",
        R"("text")", " [ [ ] , { \"k\" : [ 1 ] } ] "}) {
    CHECK(parse_json(text, "f") == nlohmann::json::parse(text));
    CHECK(parse_ordered_json(text, "f") == nlohmann::ordered_json::parse(text));
  }
  CHECK(parse_ordered_json(R"({"z":1,"a":{"y":2,"b":3}})", "f").dump() ==
        R"({"z":1,"a":{"y":2,"b":3}})");
}

TEST_CASE("errors name the file and the place") {
  CHECK(contains(error_of("{\n \"a\": x}"), "f.json: line 2 column 7: syntax error"));
  CHECK(contains(error_of("[1,"), "f.json: column 4: syntax error"));
  // nlohmann/json 3.11.3 has words of its own for it.
  CHECK(contains(error_of(""), "f.json: column 1: "));
  CHECK(!contains(error_of(""), "json.exception"));
  CHECK(contains(error_of("[1] 2"), "f.json: column 5: syntax error"));
  CHECK(contains(error_of("[\"a\xFFz\"]"), "f.json: byte 3: invalid UTF-8 (byte 0xFF)"));
  CHECK(contains(error_of(std::string("[1]\0[2]", 7)), "f.json: byte 3: NUL byte"));
  CHECK(contains(error_of("[1e999]"), "number overflow"));
  CHECK(contains(error_of(R"(["\ud800"])"), "surrogate"));
  CHECK(error_of("[\"" + std::string(1000000, 'x')).size() < 400);
}

TEST_CASE("depth is limited before it can hurt") {
  const auto nested = [](std::size_t depth) {
    return std::string(depth, '[') + std::string(depth, ']');
  };
  CHECK(error_of(nested(256)).empty());
  CHECK(contains(error_of(nested(257)), "column 257: nested deeper than 256 levels"));
  CHECK(contains(error_of(nested(65), kRequestJson), "nested deeper than 64 levels"));
  CHECK(contains(error_of(std::string(1000000, '[')), "nested deeper"));
  CHECK(error_of("[\"" + std::string(1000, '[') + "\\\"[\"]").empty());  // brackets in a string
}

TEST_CASE("duplicate keys are an error, or the last one counts") {
  const std::string text = R"({"a":{"k":1,"j":[2],"k":[3]}})";
  CHECK(contains(error_of(text), "f.json: duplicate key \"k\""));
  const JsonLimits lenient{.reject_duplicate_keys = false};
  CHECK(parse_json(text, "f", lenient).dump() == R"({"a":{"j":[2],"k":[3]}})");
  CHECK(parse_ordered_json(text, "f", lenient).dump() == R"({"a":{"k":[3],"j":[2]}})");
}

TEST_CASE("the error of a request is a value") {
  std::string error;
  CHECK(try_parse_json("{\"a\":1}", kRequestJson, error).has_value());
  CHECK(error.empty());
  CHECK_FALSE(try_parse_json("{\"a\":}", kRequestJson, error).has_value());
  CHECK(contains(error, "column 6: syntax error"));
  CHECK(try_parse_ordered_json("[]", kRequestJson, error).has_value());
  CHECK(error.empty());
}

TEST_CASE("events of a large file") {
  struct Counter final : JsonHandler {
    int values = 0;
    bool null() override { return ++values > 0; }
    bool boolean(bool) override { return ++values > 0; }
    bool number_integer(std::int64_t) override { return ++values > 0; }
    bool number_unsigned(std::uint64_t) override { return ++values > 0; }
    bool number_float(double, const std::string&) override { return ++values > 0; }
    bool string(std::string&) override { return ++values > 0; }
    bool start_object(std::size_t) override { return true; }
    bool key(std::string&) override { return true; }
    bool end_object() override { return true; }
    bool start_array(std::size_t) override { return true; }
    bool end_array() override { return true; }
  };
  Counter counter;
  parse_json_events(R"([1,{"a":"b","c":null},[true,-2,3.5]])", "f", kFileJson, counter);
  CHECK(counter.values == 6);
  CHECK_THROWS_WITH_AS(parse_json_events("[1", "f", kFileJson, counter),
                       doctest::Contains("f: column 3: syntax error"), Error);
}

TEST_CASE("text that is not UTF-8 is written, not thrown") {
  CHECK(dump_json(nlohmann::json{{"text", "a\xF0\x9F"}}) == "{\"text\":\"a\xEF\xBF\xBD\"}");
  CHECK(dump_json(nlohmann::json(std::numeric_limits<double>::quiet_NaN())) == "null");
  CHECK(dump_json(nlohmann::ordered_json{{"b", 1}, {"a", 2}}) == R"({"b":1,"a":2})");
}

TEST_CASE("typed getters never wrap") {
  const nlohmann::json value = parse_json(
      R"({"i":7,"neg":-1,"big":4294967297,"huge":18446744073709551615,"f":1.9,"one":1.0,
          "s":"x","b":true,"n":null,"o":{"k":5},"a":[1]})",
      "c");
  const JsonObject object(value, "c.json", ErrorKind::kInput);
  CHECK(object.get_int("i", 0, 10) == 7);
  CHECK(object.get_int("big", 0, 1LL << 40) == 4294967297);
  CHECK(object.find_int("n", 0, 1) == std::nullopt);
  CHECK(object.find_int("absent", 0, 1) == std::nullopt);
  CHECK(object.get_float("i", 0, 10) == 7.0);
  CHECK(object.get_float("f", 0, 10) == 1.9);
  CHECK(object.get_bool("b"));
  CHECK(object.get_string("s") == "x");
  CHECK(object.get_object("o").get_int("k", 5, 5) == 5);
  CHECK(object.get_array("a").size() == 1);
  CHECK(object.find_array("n") == nullptr);
  CHECK(object.find_object("n") == std::nullopt);
  CHECK_FALSE(object.has("n"));

  const auto fails = [&](auto&& read, const char* message) {
    CHECK_THROWS_WITH_AS(read(), message, Error);
  };
  fails([&] { object.get_int("big", 0, 2147483647); },
        "c.json: big: expected an integer from 0 to 2147483647, found 4294967297");
  fails([&] { object.get_int("huge", -1, 5); },
        "c.json: huge: expected an integer from -1 to 5, found 18446744073709551615");
  fails([&] { object.get_int("f", 0, 5); },
        "c.json: f: expected an integer from 0 to 5, found 1.9");
  fails([&] { object.get_int("one", 0, 5); },
        "c.json: one: expected an integer from 0 to 5, found 1.0");
  fails([&] { object.get_int("b", 0, 5); },
        "c.json: b: expected an integer from 0 to 5, found true");
  fails([&] { object.find_int("neg", 0, 5); },
        "c.json: neg: expected an integer from 0 to 5, found -1");
  fails([&] { object.get_int("n", 0, 5); }, "c.json: n: missing; expected an integer from 0 to 5");
  fails([&] { object.get_float("s", 0, 5); },
        "c.json: s: expected a number from 0 to 5, found \"x\"");
  fails([&] { object.get_string("a"); }, "c.json: a: expected a string, found an array");
  fails([&] { object.get_object("o").get_bool("k"); },
        "c.json: o: k: expected true or false, found 5");
  fails([&] { object.get_object("a"); }, "c.json: a: expected an object, found an array");
}

TEST_CASE("long values are cut in messages") {
  const std::string text = describe_json(std::string(5000, 'x'));
  CHECK(text.size() < 80);
  CHECK(is_valid_utf8(describe_json(std::string(31, 'x') + "\xC3\xA9" + std::string(99, 'y'))));
}

TEST_CASE("parsing many keys takes linear time") {
  std::string text = "{";
  for (int i = 0; i < 200000; ++i) text += fmt::format("\"key{}\":{},", i, i);
  text.back() = '}';
  CHECK(parse_ordered_json(text, "f").size() == 200000);
  CHECK(parse_json(text, "f").size() == 200000);
}

}  // namespace
}  // namespace llmrun
