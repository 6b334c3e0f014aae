#include "tools/workload/python_random.h"

#include <numeric>
#include <vector>

#include <doctest/doctest.h>

namespace llmrun {
namespace {

std::vector<int> shuffled(std::uint64_t seed, int count) {
  std::vector<int> items(static_cast<std::size_t>(count));
  std::iota(items.begin(), items.end(), 0);
  PythonRandom(seed).shuffle(items);
  return items;
}

}  // namespace

// random.seed(seed); items = list(range(count)); random.shuffle(items)
TEST_CASE("the order is CPython's") {
  CHECK(shuffled(2024, 20) ==
        std::vector<int>{0, 2, 16, 1, 10, 19, 17, 18, 7, 3, 8, 4, 14, 11, 12, 13, 6, 9, 5, 15});
  CHECK(shuffled((std::uint64_t{1} << 40) + 5, 10) ==
        std::vector<int>{1, 2, 3, 6, 7, 0, 5, 4, 9, 8});
  const std::vector<int> many = shuffled(0, 1000);
  CHECK(std::vector<int>(many.begin(), many.begin() + 5) ==
        std::vector<int>{439, 621, 160, 549, 237});
  CHECK(std::vector<int>(many.end() - 5, many.end()) == std::vector<int>{430, 911, 776, 394, 864});
}

}  // namespace llmrun
