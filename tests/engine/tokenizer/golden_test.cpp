// Ids and texts of tiny tokenizers against what Hugging Face made of the same strings
// (scripts/make_tokenizer_goldens.py).

#include <filesystem>
#include <fstream>
#include <string>

#include <doctest/doctest.h>

#include "engine/tokenizer/tokenizer.h"
#include "engine/tokenizer/tokenizer_check.h"

namespace llmrun {
namespace {

const std::filesystem::path kData =
    std::filesystem::path(LLMRUN_SOURCE_DIR) / "tests/data/tokenizer";

void check_folder(const std::string& name) {
  const auto tokenizer = load_tokenizer(kData / name);
  std::ifstream lines(kData / name / "golden.jsonl");
  const TokenizerCheck check = check_tokenizer(*tokenizer, lines, name);
  INFO(check.first_difference);
  CHECK(check.num_lines > 150);
  CHECK(check.num_differences == 0);
}

TEST_CASE("Llama-3's pipeline") {
  check_folder("llama3");
}
TEST_CASE("Qwen2's pipeline") {
  check_folder("qwen2");
}
TEST_CASE("GPT-2's pipeline") {
  check_folder("gpt2");
}
TEST_CASE("DeepSeek's pipeline") {
  check_folder("deepseek");
}
TEST_CASE("DeepSeek-V3's pipeline") {
  check_folder("deepseek_v3");
}
TEST_CASE("OPT's vocab.json and merges.txt") {
  check_folder("opt");
}
TEST_CASE("Gemma's pipeline") {
  check_folder("gemma");
}
TEST_CASE("a unigram model") {
  check_folder("unigram");
}
TEST_CASE("Llama-2's pipeline") {
  check_folder("llama2");
}
TEST_CASE("Mistral's pipeline") {
  check_folder("mistral");
}
TEST_CASE("SentencePiece, legacy") {
  check_folder("sentencepiece_legacy");
}
TEST_CASE("SentencePiece, not legacy") {
  check_folder("sentencepiece");
}

}  // namespace
}  // namespace llmrun
