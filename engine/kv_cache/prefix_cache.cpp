#include "engine/kv_cache/prefix_cache.h"

#include <algorithm>
#include <bit>

#include "engine/core/error.h"

namespace llmrun {

Hash128 prefix_hash(Hash128 key, Hash128 parent_hash, std::uint64_t salt,
                    std::span<const TokenId> tokens) {
  SipHash128 hash(key);
  hash.add(parent_hash.low);
  hash.add(parent_hash.high);
  hash.add(salt);
  for (std::size_t i = 0; i < tokens.size(); i += 2) {
    const std::uint64_t second =
        i + 1 < tokens.size() ? static_cast<std::uint32_t>(tokens[i + 1]) : 0U;
    hash.add(static_cast<std::uint32_t>(tokens[i]) | second << 32);
  }
  return hash.finish();
}

PrefixCache::PrefixCache(std::int32_t num_blocks, std::int32_t block_size, Hash128 key,
                         HashFunction hash_function)
    : block_size_(block_size),
      key_(key),
      hash_function_(hash_function),
      entries_(static_cast<std::size_t>(num_blocks)),
      tokens_(entries_.size() * static_cast<std::size_t>(block_size)),
      buckets_(std::bit_ceil(entries_.size()), kReservedBlock) {}

std::span<TokenId> PrefixCache::tokens_of(BlockId block) {
  const auto block_size = static_cast<std::size_t>(block_size_);
  return std::span(tokens_).subspan(static_cast<std::size_t>(block) * block_size, block_size);
}

std::span<const TokenId> PrefixCache::tokens_of(BlockId block) const {
  const auto block_size = static_cast<std::size_t>(block_size_);
  return std::span(tokens_).subspan(static_cast<std::size_t>(block) * block_size, block_size);
}

Hash128 PrefixCache::hash_of(BlockId parent, std::span<const TokenId> tokens,
                             std::uint64_t salt) const {
  return hash_function_(key_, entry(parent).hash, salt, tokens);
}

BlockId PrefixCache::find(Hash128 hash, BlockId parent, std::span<const TokenId> tokens,
                          std::uint64_t salt) const {
  for (BlockId block = buckets_[bucket_of(hash)]; block != kReservedBlock;
       block = entry(block).next) {
    const Entry& found = entry(block);
    if (found.hash == hash && found.parent == parent && found.salt == salt &&
        std::ranges::equal(tokens_of(block), tokens)) {
      return block;
    }
  }
  return kReservedBlock;
}

BlockId PrefixCache::find(BlockId parent, std::span<const TokenId> tokens,
                          std::uint64_t salt) const {
  LLMRUN_CHECK(tokens.size() == static_cast<std::size_t>(block_size_));
  return find(hash_of(parent, tokens, salt), parent, tokens, salt);
}

bool PrefixCache::insert(BlockId block, BlockId parent, std::span<const TokenId> tokens,
                         std::uint64_t salt) {
  LLMRUN_CHECK(block != kReservedBlock && !contains(block));
  LLMRUN_CHECK(parent == kReservedBlock || contains(parent));
  LLMRUN_CHECK(tokens.size() == static_cast<std::size_t>(block_size_));
  const Hash128 hash = hash_of(parent, tokens, salt);
  if (find(hash, parent, tokens, salt) != kReservedBlock) return false;
  BlockId& bucket = buckets_[bucket_of(hash)];
  entry(block) = {.hash = hash,
                  .salt = salt,
                  .parent = parent,
                  .next = bucket,
                  .num_children = 0,
                  .is_published = true};
  bucket = block;
  if (parent != kReservedBlock) ++entry(parent).num_children;
  std::ranges::copy(tokens, tokens_of(block).begin());
  ++size_;
  return true;
}

void PrefixCache::erase(BlockId block) {
  LLMRUN_CHECK(contains(block) && entry(block).num_children == 0);
  BlockId* link = &buckets_[bucket_of(entry(block).hash)];
  while (*link != block) link = &entry(*link).next;
  *link = entry(block).next;
  if (entry(block).parent != kReservedBlock) --entry(entry(block).parent).num_children;
  entry(block) = Entry();
  --size_;
}

void PrefixCache::clear() {
  std::ranges::fill(entries_, Entry());
  std::ranges::fill(buckets_, kReservedBlock);
  size_ = 0;
}

}  // namespace llmrun
