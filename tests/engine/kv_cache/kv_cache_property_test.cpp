// Random and exhaustive operations on KvCacheManager, compared with a plain model that knows whole
// prefixes instead of hashes. A failure prints its seed; LLMRUN_TEST_SEED=<seed> runs it alone,
// LLMRUN_TEST_EPISODES=<n> runs as many as n.
#include <algorithm>
#include <map>
#include <set>
#include <stdexcept>
#include <utility>
#include <vector>

#include <doctest/doctest.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include "engine/kv_cache/kv_cache_manager.h"
#include "tests/support/random_test.h"

namespace llmrun {
namespace {

using testing::Random;
using testing::require;

using Tokens = std::vector<TokenId>;

// A table and what a sequence knows of it.
struct Holder {
  BlockTable table;
  Tokens tokens;
  std::uint64_t salt = 0;
  std::int64_t num_written = 0;
  bool is_open() const { return !tokens.empty(); }
};

// What the manager should do, said with whole token prefixes, lists and linear searches.
class PlainModel {
 public:
  PlainModel(std::int32_t num_blocks, std::int32_t block_size, bool caches)
      : block_size_(static_cast<std::size_t>(block_size)),
        caches_(caches),
        references_(static_cast<std::size_t>(num_blocks), 0) {
    for (BlockId block = 1; block < num_blocks; ++block) free_.insert(block);
  }

  BlockTable match(const Tokens& tokens, std::uint64_t salt) {
    BlockTable table;
    while (caches_ && (table.size() + 1) * block_size_ < tokens.size()) {
      const auto found = published_.find({salt, prefix(tokens, table.size() + 1)});
      if (found == published_.end()) break;
      table.push_back(found->second);
    }
    for (const BlockId block : table) take(block);
    return table;
  }

  void share(const BlockTable& blocks) {
    for (const BlockId block : blocks) take(block);
  }

  bool can_grow(std::size_t num_new_blocks) const {
    return num_new_blocks <= free_.size() + idle_.size();
  }

  // The manager chose `block` for a table: it must be free, or the least recently used.
  void allocated(BlockId block) {
    if (!free_.empty()) {
      require(free_.erase(block) == 1, "block {} was not free", block);
    } else {
      require(!idle_.empty() && idle_.front() == block, "block {} was not the oldest", block);
      idle_.erase(idle_.begin());
      const auto key = key_of(block);
      for (const auto& [other, _] : published_) {
        const bool extends = other.first == key.first && other.second.size() > key.second.size() &&
                             std::equal(key.second.begin(), key.second.end(), other.second.begin());
        require(!extends, "I13: block {} was evicted before its child", block);
      }
      published_.erase(key);
    }
    references_[static_cast<std::size_t>(block)] = 1;
  }

  void publish(const Holder& holder, std::int64_t from, std::int64_t to) {
    if (!caches_) return;
    for (auto i = static_cast<std::size_t>(from) / block_size_;
         i < static_cast<std::size_t>(to) / block_size_; ++i) {
      if (is_published(holder.table[i])) continue;
      if (i > 0 && !is_published(holder.table[i - 1])) return;
      if (!published_.emplace(std::pair(holder.salt, prefix(holder.tokens, i + 1)), holder.table[i])
               .second) {
        return;
      }
    }
  }

  void release(const BlockTable& table, std::size_t first) {
    for (std::size_t i = table.size(); i-- > first;) {
      const BlockId block = table[i];
      if (--references_[static_cast<std::size_t>(block)] > 0) continue;
      if (is_published(block)) {
        idle_.push_back(block);
      } else {
        free_.insert(block);
      }
    }
  }

  int num_references(BlockId block) const { return references_[static_cast<std::size_t>(block)]; }

  void flush() {
    published_.clear();
    free_.insert(idle_.begin(), idle_.end());
    idle_.clear();
  }

  void check(const KvCacheManager& manager) const {
    const KvCacheStats stats = manager.stats();
    const auto num_used = std::ranges::count_if(references_, [](int n) { return n > 0; });
    require(stats.num_free_blocks == std::ssize(free_) &&
                stats.num_cached_blocks == std::ssize(idle_) && stats.num_used_blocks == num_used,
            "I01: {} free, {} cached, {} used; expected {}, {}, {}", stats.num_free_blocks,
            stats.num_cached_blocks, stats.num_used_blocks, free_.size(), idle_.size(), num_used);
    for (std::size_t block = 1; block < references_.size(); ++block) {
      const auto id = static_cast<BlockId>(block);
      require(manager.is_published(id) == is_published(id), "block {} is wrongly published", id);
    }
  }

 private:
  using Key = std::pair<std::uint64_t, Tokens>;

  Tokens prefix(const Tokens& tokens, std::size_t num_blocks) const {
    return {tokens.begin(), tokens.begin() + static_cast<std::ptrdiff_t>(num_blocks * block_size_)};
  }
  Key key_of(BlockId block) const {
    for (const auto& [key, other] : published_) {
      if (other == block) return key;
    }
    throw std::runtime_error("an idle block is not published");
  }
  bool is_published(BlockId block) const {
    return std::ranges::any_of(published_,
                               [&](const auto& entry) { return entry.second == block; });
  }
  void take(BlockId block) {
    if (references_[static_cast<std::size_t>(block)]++ == 0) std::erase(idle_, block);
  }

  std::size_t block_size_;
  bool caches_;
  std::vector<int> references_;
  std::set<BlockId> free_;
  std::vector<BlockId> idle_;  // the oldest first
  std::map<Key, BlockId> published_;
};

// A manager and its model, and the operations on both.
class Pair {
 public:
  Pair(std::int32_t num_blocks, std::int32_t block_size, bool caches, std::size_t num_holders)
      : block_size_(block_size),
        manager_({.num_blocks = num_blocks,
                  .block_size = block_size,
                  .enable_prefix_caching = caches,
                  .hash_key = Hash128{5, 6}}),
        model_(num_blocks, block_size, caches),
        holders_(num_holders) {}

  Holder& holder(std::size_t i) { return holders_[i]; }
  std::int32_t block_size() const { return block_size_; }

  void open(Holder& holder, Tokens tokens, std::uint64_t salt) {
    holder.tokens = std::move(tokens);
    holder.salt = salt;
    holder.num_written = manager_.match_prefix(holder.table, holder.tokens, salt);
    const BlockTable expected = model_.match(holder.tokens, salt);
    require(holder.table == expected, "I08: matched {} blocks, expected {}", holder.table.size(),
            expected.size());
    check();
  }

  void share(const Holder& from, Holder& to) {
    const std::int64_t num_tokens =
        std::min(from.num_written, std::ssize(from.tokens) - 1) / block_size_ * block_size_;
    to = {{}, from.tokens, from.salt, num_tokens};
    manager_.share(from.table, to.table, num_tokens);
    model_.share(to.table);
    check();
  }

  // Computes up to `num_tokens` more tokens. They are published when `publishes`.
  void compute(Holder& holder, std::int64_t num_tokens, bool publishes) {
    const std::int64_t end = std::min(holder.num_written + num_tokens, std::ssize(holder.tokens));
    const std::size_t size_before = holder.table.size();
    const auto size_after = static_cast<std::size_t>(manager_.num_blocks_for(end));
    const std::size_t num_new = std::max(size_after, size_before) - size_before;
    const bool expected = model_.can_grow(num_new);
    const BlockTable before = holder.table;
    require(manager_.grow(holder.table, end) == expected, "grow said the wrong thing");
    if (!expected) {
      require(holder.table == before, "a grow that failed changed the table");
      check();
      return;
    }
    for (std::size_t i = size_before; i < holder.table.size(); ++i) {
      model_.allocated(holder.table[i]);
    }
    require(holder.table.size() == size_before + num_new, "I09: the table has a wrong length");
    const std::int64_t from = holder.num_written;
    for (auto i = static_cast<std::size_t>(from / block_size_); i < holder.table.size(); ++i) {
      require(model_.num_references(holder.table[i]) == 1,
              "I05, I12: block {} is written while it is shared", holder.table[i]);
    }
    holder.num_written = end;
    if (publishes) {
      manager_.publish(holder.table, holder.tokens, holder.salt, from, end);
      model_.publish(holder, from, end);
    }
    check();
  }

  void truncate(Holder& holder, std::int64_t num_tokens) {
    const std::int64_t kept = num_tokens / block_size_ * block_size_;
    const BlockTable before = holder.table;
    manager_.truncate(holder.table, kept);
    model_.release(before, holder.table.size());
    require(std::equal(holder.table.begin(), holder.table.end(), before.begin()),
            "truncate changed what it keeps");
    holder.num_written = std::min(holder.num_written, kept);
    if (kept == 0) holder = {};
    check();
  }

  void flush() {
    manager_.flush();
    model_.flush();
    check();
  }

  void close_all() {
    for (Holder& holder : holders_) truncate(holder, 0);
    const KvCacheStats stats = manager_.stats();
    require(stats.num_used_blocks == 0, "I15: blocks are used when idle");
    flush();
    require(manager_.stats().num_free_blocks == stats.num_total_blocks, "I15: blocks are lost");
  }

 private:
  void check() {
    model_.check(manager_);
    tables_.clear();
    for (const Holder& holder : holders_) tables_.push_back(&holder.table);
    const auto fault = manager_.check_integrity(tables_);
    require(!fault, "integrity: {}", fault.value_or(""));
  }

  std::int32_t block_size_;
  KvCacheManager manager_;
  PlainModel model_;
  std::vector<Holder> holders_;
  std::vector<const BlockTable*> tables_;
};

Tokens random_tokens(Random& random, std::int32_t max_size, int num_different) {
  Tokens tokens(static_cast<std::size_t>(random.draw(1, max_size)));
  for (TokenId& token : tokens) token = random.draw(0, num_different - 1);
  return tokens;
}

void run_episode(std::uint64_t seed, int num_operations) {
  Random random(seed);
  const auto draw = [&](int low, int high) { return random.draw(low, high); };
  constexpr int kNumHolders = 6;
  Pair pair(draw(2, 24), draw(1, 5), draw(1, 10) > 1, kNumHolders);
  const int num_different = draw(1, 3);
  for (int i = 0; i < num_operations; ++i) {
    Holder& holder = pair.holder(static_cast<std::size_t>(draw(0, kNumHolders - 1)));
    const int operation = draw(1, 100);
    if (!holder.is_open()) {
      const Holder& other = pair.holder(static_cast<std::size_t>(draw(0, kNumHolders - 1)));
      if (operation < 20 && other.is_open()) {
        pair.share(other, holder);
      } else {
        pair.open(holder, random_tokens(random, 24, num_different),
                  static_cast<std::uint64_t>(operation > 90 ? 1 : 0));
      }
    } else if (operation <= 70) {
      pair.compute(holder, draw(1, 8), operation > 5);
    } else if (operation <= 90) {
      pair.truncate(holder, 0);
    } else if (operation <= 98) {
      pair.truncate(holder, draw(0, static_cast<int>(holder.num_written)));
    } else {
      pair.flush();
    }
  }
  pair.close_all();
}

TEST_CASE("a million random operations agree with a plain model") {
  testing::run_episodes(5000, [](std::uint64_t seed) { run_episode(seed, 200); });
}

// Three tables, three usable blocks: every order of operations to a depth.
enum class Operation { kOpen, kCompute, kShare, kTruncate, kRelease };

// Whether the operation meant something in this state, that is, whether to go on from here.
bool apply(Pair& pair, Operation operation, std::size_t i) {
  // Two holders have the same tokens, the third shares only their first block.
  static const std::vector<Tokens> kTokens = {{1, 1, 2, 2, 3}, {1, 1, 2, 2, 3}, {1, 1, 4, 4, 5}};
  Holder& holder = pair.holder(i);
  switch (operation) {
    case Operation::kOpen:
      if (holder.is_open()) return false;
      pair.open(holder, kTokens[i], 0);
      return true;
    case Operation::kCompute:
      if (!holder.is_open() || holder.num_written == std::ssize(holder.tokens)) return false;
      pair.compute(holder, 2, true);
      return true;
    case Operation::kShare: {
      const Holder& from = pair.holder((i + 1) % 2);
      if (i > 1 || holder.is_open() || from.num_written < 2) return false;
      pair.share(from, holder);
      return true;
    }
    case Operation::kTruncate:
      if (holder.num_written < 4) return false;
      pair.truncate(holder, 2);
      return true;
    case Operation::kRelease:
      if (!holder.is_open()) return false;
      pair.truncate(holder, 0);
      return true;
  }
  return false;
}

constexpr int kNumChoices = 15;  // five operations on three holders

bool apply_choice(Pair& pair, int choice) {
  return apply(pair, static_cast<Operation>(choice / 3), static_cast<std::size_t>(choice % 3));
}

// Depth first over all sequences of meaningful operations; a manager cannot be copied with its
// tables, so each leaf starts again.
std::int64_t explore(std::vector<int>& choices, std::size_t depth) {
  std::int64_t num_paths = 0;
  for (int choice = 0; choice < kNumChoices; ++choice) {
    choices.push_back(choice);
    Pair pair(4, 2, true, 3);
    bool is_meaningful = true;
    for (const int earlier : choices) is_meaningful = apply_choice(pair, earlier);
    if (is_meaningful) {
      ++num_paths;
      if (choices.size() < depth) {
        num_paths += explore(choices, depth);
      } else {
        pair.close_all();
      }
    }
    choices.pop_back();
  }
  return num_paths;
}

TEST_CASE("all orders of operations on three tables and three blocks agree with the model") {
  constexpr std::size_t kDepth = testing::kIsSanitized ? 5 : 8;
  std::vector<int> choices;
  try {
    CHECK(explore(choices, kDepth) > 1000);
  } catch (const std::exception& error) {
    FAIL(fmt::format("operations {}: {}", fmt::join(choices, " "), error.what()));
  }
}

}  // namespace
}  // namespace llmrun
