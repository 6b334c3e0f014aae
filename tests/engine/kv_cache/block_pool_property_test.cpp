// Random operations on BlockPool, compared with plain sets. A failure prints its seed;
// LLMRUN_TEST_SEED=<seed> runs it alone. The names I01-I13 are those of the project's list of
// invariants.
#include <algorithm>
#include <deque>
#include <set>
#include <vector>

#include "engine/core/error.h"
#include "engine/kv_cache/block_pool.h"
#include "tests/support/random_test.h"

namespace llmrun {
namespace {

using testing::Random;
using testing::require;

// Who holds a block: a table, or a step in flight, which pins the blocks it uses.
using Holding = std::vector<BlockId>;

// A pool and, in sets and lists, what it should be.
class CheckedPool {
 public:
  explicit CheckedPool(std::int32_t num_blocks) : pool_(num_blocks), tables_(5) {
    for (BlockId block = 1; block < num_blocks; ++block) free_.insert(block);
  }

  void allocate(Random& random) {
    if (free_.empty()) {
      check_refused([&] { pool_.allocate(); }, "a block was found in an empty pool");
      return;
    }
    const BlockId block = pool_.allocate();
    require(num_holders(block) == 0, "I11: block {} was given away while it was held", block);
    require(free_.erase(block) == 1, "I04: block {} was not free", block);
    random.choose(tables_).push_back(block);
  }

  // Another table takes a block that one has, or that nobody has any more.
  void share(Random& random) {
    const BlockId block = random.draw(-1, pool_.num_blocks());
    const bool can_be_shared = is_block(block) && !free_.contains(block);
    if (!can_be_shared) {
      check_refused([&] { pool_.add_reference(block); }, "I03: a free block was shared");
      return;
    }
    pool_.add_reference(block);
    std::erase(idle_, block);
    random.choose(tables_).push_back(block);
  }

  void drop(Random& random) {
    Holding& table = random.choose(tables_);
    if (table.empty()) {
      const BlockId block = random.draw(-1, pool_.num_blocks());
      if (is_block(block) && num_holders(block) > 0) return;
      check_refused([&] { pool_.drop_reference(block, random.chance(50)); },
                    "I03: a block was freed twice");
      return;
    }
    const auto place = table.begin() + random.draw(0, static_cast<int>(table.size()) - 1);
    const BlockId block = *place;
    table.erase(place);
    drop_one(block, random.chance(60));
  }

  // A step uses some of a table's blocks; it may end after the table is gone.
  void begin_step(Random& random) {
    Holding step = random.choose(tables_);
    for (const BlockId block : step) pool_.add_reference(block);
    steps_.push_back(std::move(step));
  }
  void retire_step(Random& random) {
    if (steps_.empty()) return;
    const Holding step = std::move(steps_.front());
    steps_.pop_front();
    for (const BlockId block : step) drop_one(block, random.chance(60));
  }

  void evict(Random& random) {
    if (random.chance(20)) {
      const BlockId block = random.draw(-1, pool_.num_blocks());
      if (std::ranges::find(idle_, block) != idle_.end()) return;
      check_refused([&] { pool_.discard(block); }, "I13: a block that is not idle was evicted");
      return;
    }
    if (idle_.empty()) {
      check_refused([&] { static_cast<void>(pool_.least_recently_used()); },
                    "I13: there is something to evict among blocks that are held");
      return;
    }
    const BlockId block = pool_.least_recently_used();
    require(num_holders(block) == 0, "I13: block {} is to be evicted while it is held", block);
    require(block == idle_.front(), "I13: block {} is not the one that was idle longest", block);
    pool_.discard(block);
    idle_.erase(idle_.begin());
    free_.insert(block);
  }

  void check() const {
    std::int32_t num_used = 0;
    for (BlockId block = 1; block < pool_.num_blocks(); ++block) {
      const auto num_references = num_holders(block);
      num_used += num_references > 0 ? 1 : 0;
      require(pool_.num_references(block) == num_references,
              "I02: block {} has {} references and {} holders", block, pool_.num_references(block),
              num_references);
      require(pool_.is_free(block) == free_.contains(block),
              "I04: block {} is free for one, and not for the other", block);
      require(!pool_.is_free(block) || num_references == 0, "I04: block {} is free and held",
              block);
    }
    require(pool_.num_used() == num_used && pool_.num_free() == std::ssize(free_) &&
                pool_.num_idle() == std::ssize(idle_),
            "I01: {} used, {} idle, {} free; expected {}, {}, {}", pool_.num_used(),
            pool_.num_idle(), pool_.num_free(), num_used, idle_.size(), free_.size());
    require(num_used + pool_.num_idle() + pool_.num_free() + 1 == pool_.num_blocks(),
            "I01: the counts do not add up to all blocks");
    require(pool_.idle_blocks() == idle_, "I13: the idle blocks are not in the order of their age");
    const auto fault = pool_.check_integrity();
    require(!fault, "integrity: {}", fault.value_or(""));
  }

  void release_all() {
    for (const Holding& table : tables_) {
      for (const BlockId block : table) drop_one(block, false);
    }
    for (const Holding& step : steps_) {
      for (const BlockId block : step) drop_one(block, false);
    }
    for (const BlockId block : idle_) pool_.discard(block);
    require(pool_.num_free() == pool_.num_blocks() - 1, "I15: blocks are lost");
  }

 private:
  bool is_block(BlockId block) const {
    return block > kReservedBlock && block < pool_.num_blocks();
  }
  std::int32_t num_holders(BlockId block) const {
    std::ptrdiff_t count = 0;
    for (const Holding& table : tables_) count += std::ranges::count(table, block);
    for (const Holding& step : steps_) count += std::ranges::count(step, block);
    return static_cast<std::int32_t>(count);
  }
  // The block is already out of what held it.
  void drop_one(BlockId block, bool keep_contents) {
    const bool was_last = pool_.num_references(block) == 1;
    pool_.drop_reference(block, keep_contents);
    if (!was_last) return;
    if (keep_contents) {
      idle_.push_back(block);
    } else {
      free_.insert(block);
    }
  }
  // What is refused changes nothing, which the next check() sees.
  template <typename Operation>
  static void check_refused(const Operation& operation, const char* otherwise) {
    try {
      operation();
    } catch (const Error&) {
      return;
    }
    require(false, "{}", otherwise);
  }

  BlockPool pool_;
  std::vector<Holding> tables_;
  std::deque<Holding> steps_;  // the oldest first
  std::set<BlockId> free_;
  std::vector<BlockId> idle_;  // the longest idle first
};

TEST_CASE("I01-I04, I11, I13: a million random operations on a pool agree with plain sets") {
  constexpr int kNumOperations = 200;
  testing::run_episodes(5000, [](std::uint64_t seed) {
    Random random(seed);
    CheckedPool pool(random.draw(2, random.chance(70) ? 8 : 24));
    for (int i = 0; i < kNumOperations; ++i) {
      const int operation = random.draw(1, 100);
      if (operation <= 35) {
        pool.allocate(random);
      } else if (operation <= 50) {
        pool.share(random);
      } else if (operation <= 80) {
        pool.drop(random);
      } else if (operation <= 84) {
        pool.begin_step(random);
      } else if (operation <= 90) {
        pool.retire_step(random);
      } else {
        pool.evict(random);
      }
      pool.check();
    }
    pool.release_all();
  });
}

}  // namespace
}  // namespace llmrun
