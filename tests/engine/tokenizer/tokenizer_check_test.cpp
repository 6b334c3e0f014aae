#include "engine/tokenizer/tokenizer_check.h"

#include <filesystem>
#include <sstream>
#include <string>

#include <doctest/doctest.h>

#include "engine/core/error.h"

namespace llmrun {
namespace {

TokenizerCheck check(const std::string& lines) {
  static const auto tokenizer =
      load_tokenizer(std::filesystem::path(LLMRUN_SOURCE_DIR) / "tests/data/tokenizer/llama3");
  std::istringstream stream(lines);
  return check_tokenizer(*tokenizer, stream, "f.jsonl");
}

TEST_CASE("equal lines, whatever they leave out") {
  const TokenizerCheck result = check(
      "{\"text\":\"\",\"ids\":[]}\n"
      "\n"
      "{\"text\":\"\",\"ids\":[900],\"add_special_tokens\":true,"
      "\"decoded\":\"<|begin_of_text|>\",\"decoded_without_special\":\"\"}\r\n"
      "{\"ids\":[64,65],\"decoded\":\"ab\"}");
  CHECK(result.num_lines == 3);
  CHECK(result.num_differences == 0);
  CHECK(result.first_difference.empty());
}

TEST_CASE("the first of the differences is told") {
  const TokenizerCheck result = check(
      "{\"ids\":[64],\"decoded\":\"a\"}\n"
      "{\"text\":\"!!\",\"ids\":[0,1,2]}\n"
      "{\"ids\":[64],\"decoded\":\"b\"}\n");
  CHECK(result.num_lines == 3);
  CHECK(result.num_differences == 2);
  CHECK(result.first_difference ==
        "f.jsonl:2: text \"!!\": ids differ at index 1: expected 3 ids with [0, 1, 2] there, found "
        "2 with [0, 0]");
  CHECK(check("{\"ids\":[64],\"decoded\":\"b\"}").first_difference ==
        "f.jsonl:1: ids [64]: expected text \"b\", found \"a\"");
  CHECK(check("{\"ids\":[900],\"decoded\":\"<|begin_of_text|>\"}").num_differences == 1);
}

TEST_CASE("lines that are no such objects") {
  for (const char* line :
       {"x", "[]", "{}", "{\"ids\":[-1]}", "{\"ids\":[4294967296]}", "{\"ids\":[\"a\"]}",
        "{\"ids\":[],\"text\":5}", "{\"ids\":[],\"decoded\":[]}"}) {
    INFO(line);
    try {
      check(std::string("{\"ids\":[]}\n") + line);
      FAIL_CHECK("no error");
    } catch (const Error& error) {
      CHECK(error.kind() == ErrorKind::kInput);
      CHECK(std::string(error.what()).starts_with("f.jsonl:2: "));
    }
  }
}

}  // namespace
}  // namespace llmrun
