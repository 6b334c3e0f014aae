#include "engine/kv_cache/siphash.h"

#include <cstdint>
#include <vector>

#include <doctest/doctest.h>

namespace llmrun {
namespace {

Hash128 hash_words(Hash128 key, const std::vector<std::uint64_t>& words) {
  SipHash128 hash(key);
  for (const std::uint64_t word : words) hash.add(word);
  return hash.finish();
}

// The key of the reference vectors: bytes 00 01 .. 0f.
constexpr Hash128 kKey = {0x0706050403020100U, 0x0f0e0d0c0b0a0908U};

TEST_CASE("SipHash-2-4-128 equals OpenSSL's and the reference implementation's") {
  CHECK(hash_words(kKey, {}) == Hash128{0xE6A825BA047F81A3U, 0x930255C71472F66DU});
  CHECK(hash_words(kKey, {0x0706050403020100U}) ==
        Hash128{0x61F55862BAA9623BU, 0xB49714F364E2830FU});
  CHECK(hash_words(kKey, {0x0706050403020100U, 0x0f0e0d0c0b0a0908U}) ==
        Hash128{0xBB54B067CAA4E26EU, 0x77052385BF1533FDU});
}

TEST_CASE("every bit of key and message reaches both halves of the hash") {
  const std::vector<std::uint64_t> words = {1, 2, 3};
  const Hash128 base = hash_words(kKey, words);
  for (int bit = 0; bit < 64; ++bit) {
    const std::uint64_t flip = std::uint64_t{1} << bit;
    const Hash128 other_key = hash_words({kKey.low, kKey.high ^ flip}, words);
    CHECK(other_key.low != base.low);
    CHECK(other_key.high != base.high);
    const Hash128 other_word = hash_words(kKey, {1, 2 ^ flip, 3});
    CHECK(other_word.low != base.low);
    CHECK(other_word.high != base.high);
  }
}

}  // namespace
}  // namespace llmrun
