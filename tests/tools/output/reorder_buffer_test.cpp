#include "tools/output/reorder_buffer.h"

#include <algorithm>
#include <numeric>
#include <random>

#include <doctest/doctest.h>

#include "engine/core/error.h"

namespace llmrun {
namespace {

TEST_CASE("records come out in the order of their rows, whatever order they come in") {
  std::vector<std::int64_t> order(7);
  std::iota(order.begin(), order.end(), 0);
  do {
    ReorderBuffer buffer(100, 1000);
    std::vector<std::string> out;
    for (const std::int64_t index : order) {
      std::optional<std::string> record;
      if (index != 3) record = std::to_string(index);  // row 3 has none
      for (std::string& ready : buffer.put(index, std::move(record))) out.push_back(ready);
    }
    CHECK(out == std::vector<std::string>{"0", "1", "2", "4", "5", "6"});
    CHECK(buffer.num_waiting() == 0);
    CHECK(buffer.next_index() == 7);
  } while (std::next_permutation(order.begin(), order.end()));
}

TEST_CASE("admission is bounded by rows and bytes, and never refuses the next row") {
  ReorderBuffer buffer(4, 10);
  CHECK(buffer.may_admit(0));
  CHECK(buffer.may_admit(3));
  CHECK(!buffer.may_admit(4));
  CHECK(buffer.put(1, "123456789").empty());
  CHECK(buffer.may_admit(3));
  CHECK(buffer.put(2, "0").empty());
  CHECK(!buffer.may_admit(3));
  CHECK(buffer.may_admit(0));
  CHECK(buffer.put(0, "x") == std::vector<std::string>{"x", "123456789", "0"});
  CHECK(buffer.may_admit(3));
  CHECK(buffer.may_admit(6));
  CHECK(!buffer.may_admit(7));
}

TEST_CASE("a caller that obeys admission always makes progress, within the bounds") {
  std::mt19937 random(1);
  constexpr std::int64_t kNumRows = 5000;
  constexpr std::size_t kMaxBytes = 300;
  ReorderBuffer buffer(16, kMaxBytes);
  std::vector<std::int64_t> running;
  std::int64_t next = 0;
  std::int64_t expected = 0;
  while (expected < kNumRows) {
    while (next < kNumRows && running.size() < 8 && buffer.may_admit(next))
      running.push_back(next++);
    REQUIRE(!running.empty());
    const auto chosen = running.begin() + static_cast<std::ptrdiff_t>(random() % running.size());
    const std::int64_t index = *chosen;
    running.erase(chosen);
    for (const std::string& record : buffer.put(index, std::string(20 + random() % 30, 'x'))) {
      CHECK(!record.empty());
      ++expected;
    }
    CHECK(buffer.num_waiting() <= 16);
  }
  CHECK(buffer.next_index() == kNumRows);
}

TEST_CASE("what still waits can be taken, and a row is handed in once") {
  ReorderBuffer buffer(10, 100);
  CHECK(buffer.put(4, "four").empty());
  CHECK(buffer.put(2, "two").empty());
  CHECK(buffer.put(3, std::nullopt).empty());
  CHECK_THROWS_AS(buffer.put(2, "again"), Error);
  CHECK(buffer.take_all() == std::vector<std::string>{"two", "four"});
  CHECK(buffer.num_waiting() == 0);
  CHECK(buffer.put(0, "a").size() == 1);
  CHECK_THROWS_AS(buffer.put(0, "again"), Error);
}

}  // namespace
}  // namespace llmrun
