#include "engine/kv_cache/block_pool.h"

#include <set>
#include <vector>

#include <doctest/doctest.h>

#include "engine/core/error.h"

namespace llmrun {
namespace {

TEST_CASE("a pool hands out every block but the reserved one, each once") {
  BlockPool pool(5);
  std::set<BlockId> blocks;
  while (pool.num_free() > 0) blocks.insert(pool.allocate());
  CHECK(blocks == std::set<BlockId>{1, 2, 3, 4});
  CHECK(pool.num_used() == 4);
  CHECK_THROWS_AS(pool.allocate(), Error);
  CHECK_FALSE(pool.check_integrity());
}

TEST_CASE("a pool of the reserved block alone is refused") {
  CHECK_THROWS_AS(BlockPool(1), Error);
  CHECK_THROWS_AS(BlockPool(0), Error);
  CHECK_THROWS_AS(BlockPool(-3), Error);
  CHECK(BlockPool(2).num_free() == 1);
}

TEST_CASE("the last reference decides what becomes of a block") {
  BlockPool pool(4);
  const BlockId kept = pool.allocate();
  const BlockId lost = pool.allocate();
  pool.add_reference(kept);
  pool.drop_reference(kept, true);
  CHECK(pool.num_references(kept) == 1);
  CHECK_FALSE(pool.is_idle(kept));
  pool.drop_reference(kept, true);
  CHECK(pool.is_idle(kept));
  pool.drop_reference(lost, false);
  CHECK(pool.is_free(lost));
  CHECK(pool.num_used() == 0);
  CHECK(pool.num_idle() == 1);
  CHECK(pool.num_free() == 2);
  CHECK_FALSE(pool.check_integrity());
}

TEST_CASE("idle blocks leave in the order they became idle, wherever they stand") {
  BlockPool pool(8);
  std::vector<BlockId> blocks;
  for (int i = 0; i < 7; ++i) blocks.push_back(pool.allocate());
  for (const BlockId block : blocks) pool.drop_reference(block, true);
  CHECK(pool.idle_blocks() == blocks);
  // First, middle and last are taken up again; two come back, now as the youngest.
  for (const std::size_t i : {0, 3, 6}) pool.add_reference(blocks[i]);
  CHECK(pool.idle_blocks() == std::vector{blocks[1], blocks[2], blocks[4], blocks[5]});
  pool.drop_reference(blocks[3], true);
  pool.drop_reference(blocks[0], true);
  CHECK(pool.idle_blocks() ==
        std::vector{blocks[1], blocks[2], blocks[4], blocks[5], blocks[3], blocks[0]});
  CHECK(pool.least_recently_used() == blocks[1]);
  pool.discard(blocks[1]);
  CHECK(pool.least_recently_used() == blocks[2]);
  CHECK(pool.is_free(blocks[1]));
  CHECK_FALSE(pool.check_integrity());
}

TEST_CASE("I03: references are never dropped twice, nor taken of free blocks") {
  BlockPool pool(4);
  const BlockId block = pool.allocate();
  pool.drop_reference(block, false);
  CHECK_THROWS_AS(pool.drop_reference(block, false), Error);
  CHECK_THROWS_AS(pool.add_reference(block), Error);
  const BlockId idle = pool.allocate();
  pool.drop_reference(idle, true);
  CHECK_THROWS_AS(pool.drop_reference(idle, true), Error);
  CHECK_THROWS_AS(pool.discard(block == idle ? 2 : block), Error);
  CHECK_FALSE(pool.check_integrity());
}

TEST_CASE("the reserved block and unknown blocks are refused everywhere") {
  BlockPool pool(4);
  for (const BlockId block : {kReservedBlock, -1, 4, 1000}) {
    CHECK_THROWS_AS(pool.add_reference(block), Error);
    CHECK_THROWS_AS(pool.drop_reference(block, true), Error);
    CHECK_THROWS_AS(pool.discard(block), Error);
    CHECK_THROWS_AS(static_cast<void>(pool.num_references(block)), Error);
  }
  CHECK_THROWS_AS(static_cast<void>(pool.least_recently_used()), Error);
}

}  // namespace
}  // namespace llmrun
