#include "engine/kv_cache/kv_cache_manager.h"

#include <limits>
#include <numeric>
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include "engine/core/error.h"

namespace llmrun {
namespace {

using Tokens = std::vector<TokenId>;

constexpr std::uint64_t kSalt = 0;

KvCacheManager make_manager(std::int32_t num_blocks, std::int32_t block_size,
                            bool enable_prefix_caching = true) {
  return KvCacheManager({.num_blocks = num_blocks,
                         .block_size = block_size,
                         .enable_prefix_caching = enable_prefix_caching,
                         .hash_key = Hash128{1, 2}});
}

Tokens count_from(TokenId first, std::size_t size) {
  Tokens tokens(size);
  std::iota(tokens.begin(), tokens.end(), first);
  return tokens;
}

// Fills `table` with `tokens` as a sequence that computes them all would.
void compute(KvCacheManager& manager, BlockTable& table, const Tokens& tokens) {
  const auto num_tokens = static_cast<std::int64_t>(tokens.size());
  REQUIRE(manager.grow(table, num_tokens));
  manager.publish(table, tokens, kSalt, 0, num_tokens);
}

std::string fault_of(const KvCacheManager& manager, std::vector<const BlockTable*> tables) {
  return manager.check_integrity(tables).value_or("");
}

TEST_CASE("a table holds exactly the blocks its tokens need") {
  KvCacheManager manager = make_manager(9, 4);
  CHECK(manager.capacity_tokens() == 32);
  BlockTable table;
  for (const std::int64_t num_tokens : {0, 1, 4, 5, 8, 9, 32}) {
    CHECK(manager.grow(table, num_tokens));
    CHECK(std::ssize(table) == (num_tokens + 3) / 4);
    CHECK(fault_of(manager, {&table}) == "");
  }
  CHECK(manager.grow(table, 3));  // never shrinks
  CHECK(table.size() == 8);
  manager.release(table);
  CHECK(table.empty());
  CHECK(manager.stats().num_free_blocks == 8);
  CHECK(manager.stats().peak_used_blocks == 8);
}

TEST_CASE("a grow that fails changes nothing") {
  KvCacheManager manager = make_manager(5, 4);
  BlockTable a;
  BlockTable b;
  REQUIRE(manager.grow(a, 9));
  REQUIRE(manager.grow(b, 4));
  const BlockTable before = b;
  CHECK_FALSE(manager.grow(b, 9));
  CHECK(b == before);
  CHECK(manager.num_available_blocks() == 0);
  CHECK_FALSE(manager.grow(b, std::numeric_limits<std::int64_t>::max() / 2));
  CHECK(b == before);
  CHECK(fault_of(manager, {&a, &b}) == "");
}

TEST_CASE("a prefix is found up to the token before the last") {
  KvCacheManager manager = make_manager(20, 4);
  const Tokens tokens = count_from(100, 12);
  BlockTable writer;
  compute(manager, writer, tokens);
  for (std::size_t size = 1; size <= 12; ++size) {
    BlockTable table;
    const Tokens prompt(tokens.begin(), tokens.begin() + static_cast<std::ptrdiff_t>(size));
    const std::int64_t num_matched = manager.match_prefix(table, prompt, kSalt);
    CHECK(num_matched == static_cast<std::int64_t>((size - 1) / 4 * 4));
    CHECK(num_matched < static_cast<std::int64_t>(size));
    CHECK(BlockTable(writer.begin(), writer.begin() + num_matched / 4) == table);
    CHECK(fault_of(manager, {&writer, &table}) == "");
    manager.release(table);
  }
  Tokens longer = tokens;
  longer.push_back(7);
  BlockTable table;
  CHECK(manager.match_prefix(table, longer, kSalt) == 12);
  manager.release(table);
  longer[5] = 7;
  CHECK(manager.match_prefix(table, longer, kSalt) == 4);
  manager.release(table);
  CHECK(manager.match_prefix(table, longer, kSalt + 1) == 0);
}

TEST_CASE("only written blocks are found, and a partly full one never") {
  KvCacheManager manager = make_manager(20, 4);
  const Tokens tokens = count_from(1, 20);
  BlockTable writer;
  REQUIRE(manager.grow(writer, 20));
  BlockTable table;
  manager.publish(writer, tokens, kSalt, 0, 7);
  CHECK(manager.match_prefix(table, tokens, kSalt) == 4);
  manager.release(table);
  manager.publish(writer, tokens, kSalt, 7, 8);
  CHECK(manager.match_prefix(table, tokens, kSalt) == 8);
  manager.release(table);
  manager.publish(writer, tokens, kSalt, 8, 19);
  CHECK(manager.match_prefix(table, tokens, kSalt) == 16);
  manager.release(table);
  CHECK_THROWS_AS(manager.publish(writer, tokens, kSalt, 19, 21), Error);
}

TEST_CASE("finished work stays until its blocks are needed, the oldest goes first, leaves first") {
  KvCacheManager manager = make_manager(7, 2);
  BlockTable a;
  BlockTable b;
  const Tokens tokens_a = count_from(10, 6);
  const Tokens tokens_b = count_from(50, 4);
  compute(manager, a, tokens_a);
  compute(manager, b, tokens_b);
  manager.release(a);
  manager.release(b);
  CHECK(manager.stats().num_cached_blocks == 5);
  CHECK(manager.stats().num_free_blocks == 1);
  CHECK(manager.num_available_blocks() == 6);
  CHECK(fault_of(manager, {}) == "");

  BlockTable c;
  REQUIRE(manager.grow(c, 4));  // the free block, and the last of a's
  CHECK(manager.stats().num_evicted_blocks == 1);
  BlockTable table;
  Tokens longer = tokens_a;
  longer.push_back(1);
  CHECK(manager.match_prefix(table, longer, kSalt) == 4);
  manager.release(table);
  REQUIRE(manager.grow(c, 8));  // a was used last, so b goes, its second block first
  longer = tokens_b;
  longer.push_back(1);
  CHECK(manager.match_prefix(table, longer, kSalt) == 0);
  longer = tokens_a;
  longer.push_back(1);
  CHECK(manager.match_prefix(table, longer, kSalt) == 4);
  CHECK(fault_of(manager, {&table, &c}) == "");
}

TEST_CASE("what follows a block that another sequence published first stays private") {
  KvCacheManager manager = make_manager(20, 2);
  BlockTable first;
  BlockTable second;
  Tokens tokens = count_from(1, 4);
  compute(manager, first, tokens);
  REQUIRE(manager.grow(second, 4));
  manager.publish(second, tokens, kSalt, 0, 4);
  tokens.push_back(5);
  tokens.push_back(6);
  REQUIRE(manager.grow(second, 6));
  manager.publish(second, tokens, kSalt, 4, 6);
  CHECK_FALSE(manager.is_published(second[0]));
  CHECK_FALSE(manager.is_published(second[2]));
  manager.release(first);
  CHECK(fault_of(manager, {&second}) == "");
  manager.release(second);
  CHECK(manager.stats().num_cached_blocks == 2);
  CHECK(fault_of(manager, {}) == "");
}

TEST_CASE("shared full blocks outlive the table they came from") {
  for (const bool enable_prefix_caching : {true, false}) {
    CAPTURE(enable_prefix_caching);
    KvCacheManager manager = make_manager(12, 4, enable_prefix_caching);
    BlockTable leader;
    compute(manager, leader, count_from(1, 10));
    BlockTable sibling;
    manager.share(leader, sibling, 8);
    CHECK(sibling == BlockTable{leader[0], leader[1]});
    REQUIRE(manager.grow(sibling, 10));
    CHECK(sibling[2] != leader[2]);
    CHECK(manager.num_releasable_blocks(leader) == 1);
    CHECK(fault_of(manager, {&leader, &sibling}) == "");
    manager.release(leader);
    CHECK(manager.num_releasable_blocks(sibling) == 3);
    CHECK(manager.stats().num_used_blocks == 3);
    BlockTable other;
    CHECK_THROWS_AS(manager.share(sibling, other, 9), Error);
    CHECK_THROWS_AS(manager.share(sibling, other, 16), Error);
    CHECK_THROWS_AS(manager.share(sibling, sibling, 4), Error);
    manager.release(sibling);
    CHECK(manager.stats().num_used_blocks == 0);
  }
}

TEST_CASE("without prefix caching nothing is kept") {
  KvCacheManager manager = make_manager(8, 2, false);
  BlockTable table;
  compute(manager, table, count_from(1, 6));
  manager.release(table);
  CHECK(manager.stats().num_free_blocks == 7);
  CHECK(manager.match_prefix(table, count_from(1, 6), kSalt) == 0);
  manager.flush();
  CHECK(fault_of(manager, {}) == "");
}

TEST_CASE("truncate keeps the first blocks") {
  KvCacheManager manager = make_manager(8, 2);
  BlockTable table;
  const Tokens tokens = count_from(1, 7);
  compute(manager, table, tokens);
  const BlockTable before = table;
  manager.truncate(table, 4);
  CHECK(table == BlockTable{before[0], before[1]});
  CHECK(manager.stats().num_cached_blocks == 1);
  CHECK_THROWS_AS(manager.truncate(table, 3), Error);
  CHECK(fault_of(manager, {&table}) == "");
}

TEST_CASE("flush forgets everything, also what tables still hold") {
  KvCacheManager manager = make_manager(12, 2);
  BlockTable held;
  BlockTable gone;
  const Tokens tokens = count_from(1, 6);
  compute(manager, held, tokens);
  compute(manager, gone, count_from(30, 6));
  manager.release(gone);
  manager.flush();
  CHECK(manager.stats().num_cached_blocks == 0);
  CHECK(manager.stats().num_free_blocks == 8);
  BlockTable table;
  CHECK(manager.match_prefix(table, tokens, kSalt) == 0);
  Tokens longer = count_from(1, 8);
  REQUIRE(manager.grow(held, 8));
  manager.publish(held, longer, kSalt, 6, 8);  // its parents are forgotten
  CHECK(manager.match_prefix(table, longer, kSalt) == 0);
  CHECK(fault_of(manager, {&held}) == "");
  manager.release(held);
  CHECK(manager.stats().num_free_blocks == 11);
}

TEST_CASE("a contiguous layout is one block a table") {
  KvCacheManager manager = make_manager(4, 1024);
  BlockTable tables[4];
  for (int i = 0; i < 3; ++i) {
    CHECK(manager.grow(tables[i], 1));
    CHECK(manager.grow(tables[i], 1024));
    CHECK(tables[i].size() == 1);
  }
  CHECK_FALSE(manager.grow(tables[3], 1));
}

// Each check is proven by the fault it is there for, planted from outside.
TEST_CASE("planted faults are found") {
  KvCacheManager manager = make_manager(12, 2);
  BlockTable table;
  const Tokens tokens = count_from(1, 6);
  compute(manager, table, tokens);
  REQUIRE(fault_of(manager, {&table}) == "");

  SUBCASE("I02: a table that nobody counted") {
    const BlockTable copy = table;
    CHECK(fault_of(manager, {&table, &copy}).find("references but is in 2 tables") !=
          std::string::npos);
  }
  SUBCASE("I02, I15: a table that was lost") {
    CHECK(fault_of(manager, {}).find("references but is in 0 tables") != std::string::npos);
  }
  SUBCASE("I03: a double release") {
    BlockTable copy = table;
    manager.release(table);
    CHECK_THROWS_AS(manager.release(copy), Error);
  }
  SUBCASE("I04: a table that holds free blocks") {
    BlockTable other;
    REQUIRE(manager.grow(other, 1));
    const BlockTable copy = other;
    manager.release(other);
    CHECK(fault_of(manager, {&table, &copy}).find("has 0 references but is in 1 tables") !=
          std::string::npos);
  }
  SUBCASE("I09: a block twice in one table") {
    const BlockTable twice = {table[0], table[1], table[2], table[1]};
    CHECK(fault_of(manager, {&twice}).find("twice") != std::string::npos);
  }
  SUBCASE("I10: the reserved block in a table") {
    const BlockTable reserved = {table[0], kReservedBlock, table[2]};
    CHECK(fault_of(manager, {&reserved}).find("which no table may hold") != std::string::npos);
  }
  SUBCASE("I13: a table released in pieces, parents first") {
    BlockTable parent = {table[0]};
    BlockTable children = {table[1], table[2]};
    manager.release(parent);
    CHECK(fault_of(manager, {&children}).find("more references than its parent") !=
          std::string::npos);
    manager.release(children);
    CHECK(fault_of(manager, {}).find("would be evicted before its child") != std::string::npos);
  }
}

TEST_CASE("a random key changes nothing but the hash") {
  KvCacheManager manager(
      {.num_blocks = 20, .block_size = 2, .enable_prefix_caching = true, .hash_key = std::nullopt});
  BlockTable table;
  compute(manager, table, count_from(1, 9));
  BlockTable other;
  CHECK(manager.match_prefix(other, count_from(1, 9), kSalt) == 8);
}

}  // namespace
}  // namespace llmrun
