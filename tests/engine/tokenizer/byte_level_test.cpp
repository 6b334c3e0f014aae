#include "engine/tokenizer/byte_level.h"

#include <set>
#include <string>

#include <doctest/doctest.h>

namespace llmrun {
namespace {

TEST_CASE("known spellings") {
  CHECK(bytes_to_byte_level(" the\n") == "Ġthe\xC4\x8A");
  CHECK(bytes_to_byte_level(std::string("\0\x7F\xA0\xAD\xFF", 5)) == "ĀġłŃÿ");
  CHECK(byte_level_to_bytes("ĠÃ©") == " \xC3\xA9");
}

TEST_CASE("every byte has its own character and comes back") {
  std::set<std::string> spellings;
  for (int byte = 0; byte < 256; ++byte) {
    const std::string bytes(1, static_cast<char>(byte));
    spellings.insert(bytes_to_byte_level(bytes));
    CHECK(byte_level_to_bytes(bytes_to_byte_level(bytes)) == bytes);
  }
  CHECK(spellings.size() == 256);
}

TEST_CASE("text outside the alphabet is no spelling") {
  for (const char* text : {" ", "a b", "\n", "\xC2\xA0", "\xC2\xAD", "\xC5\x84", "的", "😀"}) {
    CHECK_FALSE(byte_level_to_bytes(text).has_value());
  }
  CHECK(byte_level_to_bytes("") == "");
}

}  // namespace
}  // namespace llmrun
