// The tokenizers of tests/data/tokenizer, one a family (scripts/make_tokenizer_goldens.py).
#pragma once

#include <algorithm>
#include <filesystem>
#include <vector>

#include <doctest/doctest.h>

namespace llmrun::testing {

inline const std::filesystem::path kTokenizerData =
    std::filesystem::path(LLMRUN_SOURCE_DIR) / "tests/data/tokenizer";

inline std::vector<std::filesystem::path> golden_folders() {
  std::vector<std::filesystem::path> folders;
  for (const auto& entry : std::filesystem::directory_iterator(kTokenizerData)) {
    if (entry.is_directory()) folders.push_back(entry.path());
  }
  std::sort(folders.begin(), folders.end());
  REQUIRE(folders.size() >= 15);
  return folders;
}

}  // namespace llmrun::testing
