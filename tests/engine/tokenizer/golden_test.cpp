// Ids and texts of tiny tokenizers against what Hugging Face made of the same strings.

#include <fstream>

#include <doctest/doctest.h>

#include "engine/tokenizer/tokenizer.h"
#include "engine/tokenizer/tokenizer_check.h"
#include "tests/engine/tokenizer/golden_folders.h"

namespace llmrun {
namespace {

TEST_CASE("every family encodes and decodes as Hugging Face does") {
  for (const auto& folder : testing::golden_folders()) {
    const auto tokenizer = load_tokenizer(folder);
    std::ifstream lines(folder / "golden.jsonl");
    const TokenizerCheck check = check_tokenizer(*tokenizer, lines, folder.filename());
    INFO(check.first_difference);
    CHECK(check.num_lines > 150);
    CHECK(check.num_differences == 0);
  }
}

}  // namespace
}  // namespace llmrun
