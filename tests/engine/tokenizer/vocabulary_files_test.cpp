#include "engine/tokenizer/vocabulary_files.h"

#include <string>
#include <vector>

#include <doctest/doctest.h>

#include "engine/core/error.h"
#include "engine/tokenizer/tokenizer.h"
#include "tests/support/temporary_folder.h"

namespace llmrun {
namespace {

using testing::TemporaryFolder;
using Ids = std::vector<TokenId>;

constexpr const char* kVocabulary =
    R"({"a": 0, "b": 1, "Ġ": 2, "ab": 3, "Ġab": 4, "<|endoftext|>": 5})";
constexpr const char* kMerges = "#version: 0.2\na b\r\n\nĠ ab\n";

void write(const TemporaryFolder& folder, const char* vocabulary, const char* merges,
           const char* config) {
  folder.write("vocab.json", vocabulary);
  folder.write("merges.txt", merges);
  folder.write("tokenizer_config.json", config);
}

TEST_CASE("GPT-2's class, its defaults") {
  const TemporaryFolder folder;
  write(folder, kVocabulary, kMerges, "{}");
  const auto tokenizer = load_tokenizer(folder.path());
  CHECK(tokenizer->encode("ab ab<|endoftext|>", true) == Ids{3, 4, 5});
  CHECK(tokenizer->special_token_ids().eos == 5);
  CHECK(tokenizer->special_token_ids().bos == 5);
  CHECK_FALSE(tokenizer->adds_bos());
}

TEST_CASE("BOS and a leading space where the configuration wants them") {
  const TemporaryFolder folder;
  write(folder, kVocabulary, kMerges,
        R"({"tokenizer_class": "GPT2TokenizerFast", "add_bos_token": true, "bos_token": "b",
            "add_prefix_space": true})");
  const auto tokenizer = load_tokenizer(folder.path());
  CHECK(tokenizer->encode("a", true) == Ids{1, 2, 0});
  CHECK(tokenizer->adds_bos());
}

TEST_CASE("Qwen2's class") {
  const TemporaryFolder folder;
  write(folder, kVocabulary, kMerges, R"({"tokenizer_class": "Qwen2Tokenizer"})");
  const auto tokenizer = load_tokenizer(folder.path());
  CHECK(tokenizer->encode(" ab", true) == Ids{4});
  CHECK(tokenizer->special_token_ids().eos == 5);
  CHECK_FALSE(tokenizer->special_token_ids().bos.has_value());
}

TEST_CASE("what is malformed is named") {
  const auto refused = [](const char* vocabulary, const char* merges, const char* config,
                          const char* message) {
    const TemporaryFolder folder;
    write(folder, vocabulary, merges, config);
    CHECK_THROWS_WITH_AS(load_tokenizer(folder.path()), doctest::Contains(message), Error);
  };
  refused(kVocabulary, "a b\na b c\n", "{}", "merges.txt:2: expected \"left right\"");
  refused(kVocabulary, "a z\n", "{}", "\"z\" is not in the vocabulary");
  refused(R"({"a": -1})", kMerges, "{}", "vocab.json: a:");
  refused(R"({"a": 1, "b": 1})", kMerges, "{}", "belongs to another token");
  refused("[]", kMerges, "{}", "vocab.json: expected an object");
  refused(kVocabulary, kMerges, R"({"tokenizer_class": "RobertaTokenizer"})",
          "tokenizer_class \"RobertaTokenizer\" with vocab.json and merges.txt is not supported");
}

TEST_CASE("one file alone is no tokenizer") {
  const TemporaryFolder folder;
  folder.write("vocab.json", kVocabulary);
  CHECK_THROWS_WITH_AS(load_tokenizer(folder.path()),
                       doctest::Contains("no tokenizer: expected tokenizer.json, tokenizer.model"),
                       Error);
}

}  // namespace
}  // namespace llmrun
