#include "tools/input/json_array_reader.h"

#include <string>
#include <vector>

#include <doctest/doctest.h>
#include <fmt/format.h>

#include "tests/tools/input/text_source.h"

namespace llmrun {
namespace {

using Elements = std::vector<std::string>;

Elements read_elements(const std::string& text, std::size_t piece,
                       std::size_t max_element_bytes = 1000) {
  InputBuffer input = make_input(text, piece);
  JsonArrayReader reader(input, max_element_bytes);
  Elements elements;
  while (const auto element = reader.next()) {
    elements.push_back(fmt::format("{}@{}+{} {}{}{}", element->line, element->offset,
                                   element->length, element->text,
                                   element->too_long ? "too long" : "", element->error));
  }
  return elements;
}

TEST_CASE("elements are found without being parsed") {
  for (std::size_t piece = 1; piece < 40; ++piece) {
    CAPTURE(piece);
    CHECK(read_elements("[]", piece).empty());
    CHECK(read_elements(" [ ] \n", piece).empty());
    CHECK(read_elements("\xEF\xBB\xBF[1]", piece) == Elements{"1@4+1 1"});
    CHECK(read_elements("[1, {\"a\": [\"]}\"]},\n\n\"x,\\\"]\" , [[]]]", piece) ==
          Elements{"1@1+1 1", "1@4+13 {\"a\": [\"]}\"]}", "3@20+8 \"x,\\\"]\" ", "3@30+4 [[]]"});
    // What is wrong inside an element is its parser's matter.
    CHECK(read_elements("[{\"a\" 5}, nonsense]", piece) ==
          Elements{"1@1+7 {\"a\" 5}", "1@10+8 nonsense"});
  }
}

TEST_CASE("where the array itself is broken, it ends with the reason") {
  for (std::size_t piece = 1; piece < 20; ++piece) {
    CHECK(read_elements("", piece) == Elements{"1@0+0 expected a JSON array, which begins with ["});
    CHECK(read_elements("{}", piece).size() == 1);
    CHECK(read_elements("[{}", piece) ==
          Elements{"1@1+2 {}", "1@3+0 the file ends inside the array; its end is missing"});
    CHECK(read_elements("[{", piece) == Elements{"1@1+0 the file ends inside this element"});
    CHECK(read_elements("[\"", piece) == Elements{"1@1+0 the file ends inside this element"});
    CHECK(read_elements("[{}{}]", piece) ==
          Elements{"1@1+2 {}", "1@3+0 expected , or ] behind an element"});
    CHECK(read_elements("[{},]", piece) == Elements{"1@1+2 {}", "1@4+0 expected an element"});
    CHECK(read_elements("[{}]\n[", piece) ==
          Elements{"1@1+2 {}", "2@5+0 unexpected text behind the end of the array"});
  }
}

TEST_CASE("large elements are skipped without being kept") {
  for (std::size_t piece = 1; piece < 40; ++piece) {
    CHECK(read_elements("[\"12345\", {\"a\": \"123456\"}, \"1\"]", piece, 7) ==
          Elements{"1@1+7 \"12345\"", "1@10+15 too long", "1@27+3 \"1\""});
  }
}

TEST_CASE("depth costs nothing") {
  const std::string deep(200'000, '[');
  CHECK(read_elements("[" + deep + std::string(200'000, ']') + "]", 1000, 1'000'000).size() == 1);
  CHECK(read_elements("[" + deep, 1000, 1'000'000).size() == 1);
}

}  // namespace
}  // namespace llmrun
