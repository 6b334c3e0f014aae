#include "tools/number_text.h"

#include <doctest/doctest.h>

namespace llmrun {
namespace {

TEST_CASE("grouped") {
  CHECK(grouped(0) == "0");
  CHECK(grouped(999) == "999");
  CHECK(grouped(1000) == "1,000");
  CHECK(grouped(123456) == "123,456");
  CHECK(grouped(1234567) == "1,234,567");
  CHECK(grouped(-999) == "-999");
  CHECK(grouped(-1234567) == "-1,234,567");
}

TEST_CASE("compact") {
  CHECK(compact(0) == "0");
  CHECK(compact(7) == "7");
  CHECK(compact(0.25) == "0.2");
  CHECK(compact(9.5) == "9.5");
  CHECK(compact(12.34) == "12.3");
  CHECK(compact(123.4) == "123");
  CHECK(compact(999.4) == "999");
  CHECK(compact(999.6) == "1.00k");
  CHECK(compact(1000) == "1.00k");
  CHECK(compact(12345) == "12.3k");
  CHECK(compact(123456) == "123k");
  CHECK(compact(4'560'000) == "4.56M");
  CHECK(compact(1e9) == "1.00G");
  CHECK(compact(5e15) == "5000T");
}

TEST_CASE("duration") {
  CHECK(duration_text(0) == "0:00");
  CHECK(duration_text(7.4) == "0:07");
  CHECK(duration_text(59.6) == "1:00");
  CHECK(duration_text(754) == "12:34");
  CHECK(duration_text(3723) == "1:02:03");
  CHECK(duration_text(2 * 86400 + 3 * 3600 + 245) == "2d 3:04:05");
}

}  // namespace
}  // namespace llmrun
