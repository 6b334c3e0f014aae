#include "tools/input/line_reader.h"

#include <string>
#include <vector>

#include <doctest/doctest.h>
#include <fmt/format.h>

#include "tests/tools/input/text_source.h"

namespace llmrun {
namespace {

std::vector<std::string> read_lines(const std::string& text, std::size_t piece,
                                    std::size_t max_line_bytes = 1000) {
  InputBuffer input = make_input(text, piece);
  LineReader reader(input, max_line_bytes);
  std::vector<std::string> lines;
  while (const auto line = reader.next()) {
    lines.push_back(fmt::format("{} @{}+{} {}{}{}", line->number, line->offset, line->size,
                                line->text, line->too_long ? " too long" : "",
                                line->ended ? "" : " cut"));
  }
  return lines;
}

using Lines = std::vector<std::string>;

TEST_CASE("lines end in LF or CRLF, and the last one in nothing") {
  for (std::size_t piece = 1; piece < 20; ++piece) {
    CAPTURE(piece);
    CHECK(read_lines("", piece).empty());
    CHECK(read_lines("a", piece) == Lines{"1 @0+1 a cut"});
    CHECK(read_lines("a\n", piece) == Lines{"1 @0+2 a"});
    CHECK(read_lines("a\r\n\r\nb\rc\n\n", piece) ==
          Lines{"1 @0+3 a", "2 @3+2 ", "3 @5+4 b\rc", "4 @9+1 "});
    CHECK(read_lines("\xEF\xBB\xBF"
                     "a\nb",
                     piece) == Lines{"1 @3+2 a", "2 @5+1 b cut"});
    CHECK(read_lines("\xEF\xBB\xBF", piece).empty());
    CHECK(read_lines("\xEF\xBB", piece) == Lines{"1 @0+2 \xEF\xBB cut"});
  }
}

TEST_CASE("long lines are skipped without being kept") {
  for (std::size_t piece = 1; piece < 40; ++piece) {
    CAPTURE(piece);
    CHECK(read_lines("12345\n123456\n12345\r\n123456\r\n1\n", piece, 5) ==
          Lines{"1 @0+6 12345", "2 @6+7  too long", "3 @13+7 12345", "4 @20+8  too long",
                "5 @28+2 1"});
    CHECK(read_lines(std::string(500, 'x') + "\ny", piece, 5) ==
          Lines{"1 @0+501  too long", "2 @501+1 y cut"});
    CHECK(read_lines(std::string(500, 'x'), piece, 5) == Lines{"1 @0+500  too long cut"});
  }
}

}  // namespace
}  // namespace llmrun
