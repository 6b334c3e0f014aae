#include "engine/tokenizer/tokenizer_config.h"

#include <string>

#include <doctest/doctest.h>

#include "engine/core/error.h"
#include "tests/support/temporary_folder.h"

namespace llmrun {
namespace {

using testing::TemporaryFolder;

TEST_CASE("no files say nothing") {
  const TemporaryFolder folder;
  const TokenizerConfig config = load_tokenizer_config(folder.path());
  CHECK_FALSE(config.bos_token.has_value());
  CHECK_FALSE(config.legacy.has_value());
  CHECK(config.added_tokens.empty());
  CHECK(config.special_tokens().empty());
}

TEST_CASE("the newer layout: everything in tokenizer_config.json") {
  const TemporaryFolder folder;
  folder.write("tokenizer_config.json", R"({
    "tokenizer_class": "LlamaTokenizer", "add_bos_token": true, "add_eos_token": false,
    "legacy": false, "bos_token": "<s>", "unk_token": null,
    "eos_token": {"__type": "AddedToken", "content": "</s>", "rstrip": true, "normalized": true},
    "additional_special_tokens": ["<a>", "<s>"], "model_max_length": 1e30,
    "added_tokens_decoder": {"10": {"content": "<b>", "special": false},
                             "9": {"content": "<a>", "special": true}}})");
  folder.write("special_tokens_map.json", R"({"bos_token": "<other>"})");
  folder.write("added_tokens.json", R"({"<c>": 11})");
  const TokenizerConfig config = load_tokenizer_config(folder.path());
  CHECK(config.tokenizer_class == "LlamaTokenizer");
  CHECK(config.add_bos_token == true);
  CHECK(config.add_eos_token == false);
  CHECK(config.legacy == false);
  REQUIRE(config.bos_token.has_value());
  CHECK(config.bos_token->content == "<s>");  // not that of the map
  REQUIRE(config.eos_token.has_value());
  CHECK(config.eos_token->content == "</s>");
  CHECK(config.eos_token->rstrip);
  CHECK(config.eos_token->normalized);
  CHECK(config.eos_token->special);
  CHECK_FALSE(config.unk_token.has_value());
  REQUIRE(config.added_tokens.size() == 2);  // by id
  CHECK(config.added_tokens[0].first == 9);
  CHECK(config.added_tokens[1].second.content == "<b>");
  CHECK(config.special_tokens().size() == 3);
}

TEST_CASE("the older layout: three files") {
  const TemporaryFolder folder;
  folder.write("tokenizer_config.json", R"({"bos_token": "<s>", "pad_token": "<pad>"})");
  folder.write("special_tokens_map.json",
               R"({"bos_token": {"content": "<bos>", "normalized": true}, "eos_token": "</s>"})");
  folder.write("added_tokens.json", R"({"</s>": 7, "<extra>": 5})");
  const TokenizerConfig config = load_tokenizer_config(folder.path());
  CHECK(config.bos_token->content == "<bos>");
  CHECK(config.eos_token->content == "</s>");
  CHECK(config.pad_token->content == "<pad>");
  REQUIRE(config.added_tokens.size() == 2);
  CHECK(config.added_tokens[0].first == 5);
  CHECK_FALSE(config.added_tokens[0].second.special);
  CHECK(config.added_tokens[0].second.normalized);
  CHECK(config.added_tokens[1].second.special);
}

TEST_CASE("bad values name file and key") {
  const auto refused = [](const std::string& text, const char* message) {
    const TemporaryFolder folder;
    folder.write("tokenizer_config.json", text);
    CHECK_THROWS_WITH_AS(load_tokenizer_config(folder.path()), doctest::Contains(message), Error);
  };
  refused("[]", "tokenizer_config.json: expected an object, found an array");
  refused("{", "tokenizer_config.json: column 2: syntax error");
  refused(R"({"legacy": 1})", "tokenizer_config.json: legacy: expected true or false, found 1");
  refused(R"({"bos_token": 5})", "bos_token: expected an object, found 5");
  refused(R"({"bos_token": {}})", "bos_token: content: missing");
  refused(R"({"additional_special_tokens": [[]]})", "additional_special_tokens");
  refused(R"({"added_tokens_decoder": []})", "added_tokens_decoder: expected an object");
  refused(R"({"added_tokens_decoder": {"x": {"content": "a"}}})", "expected a token id from 0");
  refused(R"({"added_tokens_decoder": {"-1": {"content": "a"}}})", "expected a token id from 0");
  refused(R"({"added_tokens_decoder": {"99999999999": {"content": "a"}}})", "expected a token id");
  refused(R"({"added_tokens_decoder": {"1": {"content": "a", "lstrip": 0}}})", "1: lstrip");
}

}  // namespace
}  // namespace llmrun
