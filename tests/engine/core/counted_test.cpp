#include "engine/core/counted.h"

#include <doctest/doctest.h>

namespace llmrun {

TEST_CASE("counted") {
  CHECK(counted(0, "request") == "0 requests");
  CHECK(counted(1, "request") == "1 request");
  CHECK(counted(2, "prompt token") == "2 prompt tokens");
  CHECK(counted(1, "row is", "rows are") == "1 row is");
  CHECK(counted(0, "row is", "rows are") == "0 rows are");
}

}  // namespace llmrun
