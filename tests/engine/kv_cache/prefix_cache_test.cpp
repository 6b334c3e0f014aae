#include "engine/kv_cache/prefix_cache.h"

#include <vector>

#include <doctest/doctest.h>

#include "engine/core/error.h"

namespace llmrun {
namespace {

using Tokens = std::vector<TokenId>;

constexpr Hash128 kKey = {3, 4};
constexpr std::uint64_t kSalt = 0;

// The worst that an attacker who knew the key could do.
Hash128 constant_hash(Hash128, Hash128, std::uint64_t, std::span<const TokenId>) {
  return {};
}

TEST_CASE("a published block is found by parent, tokens and salt, and by nothing less") {
  bool all_collide = false;
  SUBCASE("with the hash") {}
  SUBCASE("S27: when all hashes are equal") {
    all_collide = true;
  }
  PrefixCache cache(8, 3, kKey, all_collide ? &constant_hash : &prefix_hash);
  CHECK(cache.insert(1, kReservedBlock, Tokens{5, 6, 7}, kSalt));
  CHECK(cache.insert(2, 1, Tokens{5, 6, 7}, kSalt));
  CHECK(cache.insert(3, 2, Tokens{8, 9, 10}, kSalt));
  CHECK(cache.insert(4, kReservedBlock, Tokens{5, 6, 7}, 99));
  CHECK(cache.size() == 4);

  CHECK(cache.find(kReservedBlock, Tokens{5, 6, 7}, kSalt) == 1);
  CHECK(cache.find(1, Tokens{5, 6, 7}, kSalt) == 2);
  CHECK(cache.find(2, Tokens{8, 9, 10}, kSalt) == 3);
  CHECK(cache.find(kReservedBlock, Tokens{5, 6, 7}, 99) == 4);

  CHECK(cache.find(kReservedBlock, Tokens{5, 6, 8}, kSalt) == kReservedBlock);
  CHECK(cache.find(kReservedBlock, Tokens{6, 5, 7}, kSalt) == kReservedBlock);
  CHECK(cache.find(1, Tokens{8, 9, 10}, kSalt) == kReservedBlock);
  CHECK(cache.find(4, Tokens{5, 6, 7}, 99) == kReservedBlock);
  CHECK(cache.find(kReservedBlock, Tokens{5, 6, 7}, 98) == kReservedBlock);
}

TEST_CASE("an equal block is published once") {
  PrefixCache cache(8, 1, kKey);
  CHECK(cache.insert(1, kReservedBlock, Tokens{5}, kSalt));
  CHECK_FALSE(cache.insert(2, kReservedBlock, Tokens{5}, kSalt));
  CHECK_FALSE(cache.contains(2));
  CHECK(cache.insert(2, kReservedBlock, Tokens{6}, kSalt));
  CHECK_THROWS_AS(cache.insert(2, 1, Tokens{6}, kSalt), Error);
}

TEST_CASE("children leave before their parents, and need one to come") {
  PrefixCache cache(8, 1, kKey);
  CHECK_THROWS_AS(cache.insert(2, 1, Tokens{6}, kSalt), Error);
  CHECK(cache.insert(1, kReservedBlock, Tokens{5}, kSalt));
  CHECK(cache.insert(2, 1, Tokens{6}, kSalt));
  CHECK_THROWS_AS(cache.erase(1), Error);
  cache.erase(2);
  cache.erase(1);
  CHECK(cache.size() == 0);
  CHECK_THROWS_AS(cache.erase(1), Error);
  CHECK(cache.find(kReservedBlock, Tokens{5}, kSalt) == kReservedBlock);
}

TEST_CASE("a block that holds other tokens now is not found by the old ones") {
  PrefixCache cache(8, 2, kKey);
  CHECK(cache.insert(1, kReservedBlock, Tokens{5, 6}, kSalt));
  cache.erase(1);
  CHECK(cache.insert(1, kReservedBlock, Tokens{7, 8}, kSalt));
  CHECK(cache.find(kReservedBlock, Tokens{5, 6}, kSalt) == kReservedBlock);
  CHECK(cache.find(kReservedBlock, Tokens{7, 8}, kSalt) == 1);
  cache.clear();
  CHECK(cache.size() == 0);
  CHECK(cache.find(kReservedBlock, Tokens{7, 8}, kSalt) == kReservedBlock);
  CHECK(cache.insert(1, kReservedBlock, Tokens{7, 8}, kSalt));
}

TEST_CASE("tokens of any width and an odd block size are told apart") {
  PrefixCache cache(64, 3, kKey);
  BlockId next = 1;
  std::vector<Tokens> all;
  for (const TokenId a : {0, 1, 0x7fffffff}) {
    for (const TokenId b : {0, 1, 0x7fffffff}) {
      for (const TokenId c : {0, 1, 0x7fffffff}) {
        all.push_back({a, b, c});
        CHECK(cache.insert(next++, kReservedBlock, all.back(), kSalt));
      }
    }
  }
  for (std::size_t i = 0; i < all.size(); ++i) {
    CHECK(cache.find(kReservedBlock, all[i], kSalt) == static_cast<BlockId>(i + 1));
  }
}

TEST_CASE("parent, salt and every token reach the hash") {
  const Hash128 base = prefix_hash(kKey, {1, 2}, 3, Tokens{4, 5, 6});
  CHECK(prefix_hash({9, 4}, {1, 2}, 3, Tokens{4, 5, 6}) != base);
  CHECK(prefix_hash(kKey, {9, 2}, 3, Tokens{4, 5, 6}) != base);
  CHECK(prefix_hash(kKey, {1, 9}, 3, Tokens{4, 5, 6}) != base);
  CHECK(prefix_hash(kKey, {1, 2}, 9, Tokens{4, 5, 6}) != base);
  CHECK(prefix_hash(kKey, {1, 2}, 3, Tokens{9, 5, 6}) != base);
  CHECK(prefix_hash(kKey, {1, 2}, 3, Tokens{4, 9, 6}) != base);
  CHECK(prefix_hash(kKey, {1, 2}, 3, Tokens{4, 5, 9}) != base);
  CHECK(prefix_hash(kKey, {1, 2}, 3, Tokens{4, 5, 6}) == base);
}

TEST_CASE("a block of another length is a bug of the caller") {
  PrefixCache cache(8, 3, kKey);
  CHECK_THROWS_AS(static_cast<void>(cache.find(kReservedBlock, Tokens{1, 2}, kSalt)), Error);
  CHECK_THROWS_AS(cache.insert(1, kReservedBlock, Tokens{1, 2, 3, 4}, kSalt), Error);
  CHECK_THROWS_AS(cache.insert(kReservedBlock, kReservedBlock, Tokens{1, 2, 3}, kSalt), Error);
}

}  // namespace
}  // namespace llmrun
