#include "engine/tokenizer/tokenizer_json.h"

#include <string>

#include <doctest/doctest.h>
#include <fmt/format.h>

#include "engine/core/error.h"

namespace llmrun {
namespace {

TokenizerJson parse_model(const std::string& members) {
  return parse_tokenizer_json(fmt::format("{{\"model\": {{{}}}}}", members), "t.json");
}

void refused(const std::string& members, const char* message) {
  CHECK_THROWS_WITH_AS(parse_model(members), message, Error);
}

TEST_CASE("vocabulary and merges are kept out of the tree") {
  const TokenizerJson json = parse_tokenizer_json(
      R"({"version": "1.0", "other": {"vocab": {"x": 1}, "merges": ["y"]},
          "model": {"type": "BPE", "deep": {"vocab": {"z": 0}}, "vocab": {"b": 1, "a": 0},
                    "merges": ["a b", ["c d", "e"]], "unk_token": null},
          "decoder": [1]})",
      "t.json");
  CHECK(json.root.dump() ==
        R"({"decoder":[1],"model":{"deep":{"vocab":{"z":0}},"merges":null,"type":"BPE",)"
        R"("unk_token":null,"vocab":null},"other":{"merges":["y"],"vocab":{"x":1}},)"
        R"("version":"1.0"})");
  REQUIRE(json.vocabulary.size() == 2);
  CHECK(json.vocabulary[0].token == "b");
  CHECK(json.vocabulary[0].id == 1);
  REQUIRE(json.merges.size() == 2);
  CHECK(json.merges[0] == std::pair<std::string, std::string>("a", "b"));
  CHECK(json.merges[1] == std::pair<std::string, std::string>("c d", "e"));
}

TEST_CASE("a vocabulary that is a list of tokens and scores") {
  const TokenizerJson json = parse_model(R"("vocab": [["a", -1.5], ["b", 0]])");
  CHECK(json.root["model"]["vocab"].is_null());
  REQUIRE(json.vocabulary.size() == 2);
  CHECK(json.vocabulary[1].token == "b");
  CHECK(json.vocabulary[1].id == 1);
  CHECK(json.scores == std::vector<double>{-1.5, 0});
}

TEST_CASE("bad ids") {
  for (const char* id : {"-1", "16777217", "2147483648", "18446744073709551616", "1.5", "null",
                         "\"1\"", "true", "[1]", "{}"}) {
    INFO(id);
    CHECK_THROWS_WITH_AS(
        parse_model(fmt::format("\"vocab\": {{\"a\": {}}}", id)),
        doctest::Contains("t.json: model.vocab: \"a\": expected an id from 0 to 16777216, found"),
        Error);
  }
  refused(R"("vocab": {"a": 0, "b": 0})",
          "t.json: model.vocab: \"b\": id 0 belongs to another token, too");
  refused(R"("vocab": {"a": 0, "a": 1})", "t.json: model.vocab: \"a\": the token is there twice");
  refused(R"("vocab": {"a": 16777216})",
          "t.json: model.vocab: \"a\": id 16777216 is far above the number of tokens, 1");
  CHECK(parse_model(R"("vocab": {"a": 5, "b": 900})").vocabulary.size() == 2);  // gaps
}

TEST_CASE("bad merges") {
  for (const char* merge : {"\"ab\"", "\"a b c\"", "\"\"", "[\"a\"]", "[\"a\",\"b\",\"c\"]", "[]",
                            "1", "null", "{}", "[[\"a\"]]", "[1,2]"}) {
    INFO(merge);
    CHECK_THROWS_WITH_AS(
        parse_model(fmt::format("\"merges\": [\"x y\", {}]", merge)),
        doctest::Contains(
            "t.json: model.merges[1]: expected \"left right\" or [\"left\", \"right\"], found"),
        Error);
  }
}

TEST_CASE("text that is not JSON") {
  CHECK_THROWS_WITH_AS(parse_tokenizer_json("{\"model\": {\"vocab\": {\"a\": 0},\n}", "t.json"),
                       doctest::Contains("t.json: line 2 column 1: syntax error"), Error);
  CHECK_THROWS_WITH_AS(parse_tokenizer_json("", "t.json"), doctest::Contains("t.json: column 1"),
                       Error);
}

TEST_CASE("added tokens") {
  const AddedToken token =
      parse_added_token({{"id", 3}, {"content", "<x>"}, {"lstrip", true}, {"special", true}}, "p");
  CHECK(token.content == "<x>");
  CHECK(token.lstrip);
  CHECK_FALSE(token.rstrip);
  CHECK_FALSE(token.normalized);  // special tokens are not, unless they say so
  CHECK(parse_added_token({{"content", "x"}}, "p").normalized);
  CHECK_THROWS_WITH_AS(parse_added_token({{"content", 5}}, "p"),
                       "p: content: expected a string, found 5", Error);
}

}  // namespace
}  // namespace llmrun
