#include "engine/tokenizer/string_index.h"

#include <string>
#include <vector>

#include <doctest/doctest.h>

namespace llmrun {
namespace {

TEST_CASE("strings are found, others are not") {
  std::vector<std::string> keys = {""};  // the empty string is a key like others
  for (int i = 0; i < 5000; ++i) keys.push_back(std::to_string(i * 7) + std::string(i % 20, 'x'));
  keys.emplace_back("a\0b", 3);
  keys.emplace_back("a\0c", 3);
  StringIndex index(keys.size());
  for (std::size_t i = 0; i < keys.size(); ++i) {
    CHECK(index.find(keys[i]) == StringIndex::kAbsent);
    CHECK(index.insert(keys[i], static_cast<TokenId>(i)));
  }
  for (std::size_t i = 0; i < keys.size(); ++i) {
    CHECK(index.find(std::string(keys[i])) == static_cast<TokenId>(i));
    CHECK_FALSE(index.insert(keys[i], 1));
  }
  CHECK(index.find("a") == StringIndex::kAbsent);
  CHECK(index.find("1") == StringIndex::kAbsent);
  CHECK(StringIndex().find("") == StringIndex::kAbsent);
}

}  // namespace
}  // namespace llmrun
