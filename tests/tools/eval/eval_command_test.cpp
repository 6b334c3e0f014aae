#include "tools/eval/eval_command.h"

#include <doctest/doctest.h>

namespace llmrun {

TEST_CASE("a GPU is warmed up with as many requests as will run at once, a CPU with few") {
  CHECK(num_warm_up_requests("cuda", 500, 256) == 256);
  CHECK(num_warm_up_requests("cuda", 500, 1024) == 500);
  CHECK(num_warm_up_requests("cuda", 8000, 1024) == 1024);
  CHECK(num_warm_up_requests("cpu", 500, 256) == 64);
  CHECK(num_warm_up_requests("cpu", 500, 16) == 16);
  CHECK(num_warm_up_requests("cpu", 3, 64) == 3);
}

}  // namespace llmrun
