#include "tools/input/row_table.h"

#include <map>

#include "engine/core/random.h"
#include "tests/support/random_test.h"

namespace llmrun {
namespace {

RowKey make_row_key(std::uint64_t number) {
  return {mix64(number), mix64(~number)};
}

TEST_CASE("a table of rows agrees with a map") {
  testing::run_episodes(20, [](std::uint64_t seed) {
    testing::Random random(seed);
    RowTable<std::uint64_t> table;
    std::map<std::uint64_t, std::uint64_t> expected;
    const std::int32_t num_different = random.draw(1, 20'000);
    for (int i = 0; i < 20'000; ++i) {
      const auto number = static_cast<std::uint64_t>(random.draw(1, num_different));
      const RowKey key = make_row_key(number);
      if (random.chance(50)) {
        const auto [value, is_new] = table.insert(key, number * 3);
        testing::require(expected.emplace(number, *value).second == is_new, "insert {}", number);
        *value += 1;
        ++expected.at(number);
      } else {
        const auto found = expected.find(number);
        const std::uint64_t* value = table.find(key);
        testing::require((value != nullptr) == (found != expected.end()), "find {}", number);
        testing::require(value == nullptr || *value == found->second, "value of {}", number);
      }
      if (random.draw(1, 5000) == 1) {
        table.erase_if([](std::uint64_t value) { return value % 2 == 0; });
        std::erase_if(expected, [](const auto& entry) { return entry.second % 2 == 0; });
      }
      testing::require(table.size() == expected.size(), "{} rows, expected {}", table.size(),
                       expected.size());
    }
  });
}

TEST_CASE("keys that share their shard, or their tag, or both halves are 0") {
  RowTable<NoValue> table;
  CHECK(!table.contains({0, 0}));
  for (const RowKey key : {RowKey{0, 0}, RowKey{0, 2}, RowKey{~std::uint64_t{0}, 2},
                           RowKey{1ULL << 63, 0}, RowKey{0, ~std::uint64_t{0}}}) {
    CHECK(table.insert(key).second);
    CHECK(!table.insert(key).second);
    CHECK(table.contains(key));
  }
  CHECK(table.size() == 5);
}

}  // namespace
}  // namespace llmrun
