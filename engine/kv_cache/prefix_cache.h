// PrefixCache: finds the block that holds given tokens after given tokens. Knows contents, not who
// holds a block.
//
// Published blocks form a forest: a block's parent is the block that holds the tokens before its
// own. A block is found by a keyed 128-bit hash chained over (parent, salt, tokens) and believed
// only when parent, salt and tokens are equal, so by induction a hit is exact whatever the hash
// does. Children leave before their parents.
// Source: RadixAttention, Zheng et al. 2023, https://arxiv.org/abs/2312.07104, with the flat hashed
// blocks of vLLM, vllm/v1/core/kv_cache_utils.py.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "engine/core/token_id.h"
#include "engine/kv_cache/block_table.h"
#include "engine/kv_cache/siphash.h"

namespace llmrun {

// The keyed hash of a block's tokens and of all before them: SipHash-2-4.
Hash128 prefix_hash(Hash128 key, Hash128 parent_hash, std::uint64_t salt,
                    std::span<const TokenId> tokens);

class PrefixCache {
 public:
  using HashFunction = decltype(&prefix_hash);

  // The key must be unpredictable to whoever writes prompts: equal hashes make lookups slow. What
  // the hash cannot do is make them wrong, which tests show with a bad one.
  PrefixCache(std::int32_t num_blocks, std::int32_t block_size, Hash128 key,
              HashFunction hash_function = &prefix_hash);

  // The published block with these `block_size` tokens after `parent`, or kReservedBlock when there
  // is none. A parent of kReservedBlock means that the tokens begin a sequence.
  BlockId find(BlockId parent, std::span<const TokenId> tokens, std::uint64_t salt) const;
  // Publishes a block. Returns false, and does nothing, when an equal block is published already.
  // REQUIRES: !contains(block), and contains(parent) unless it is kReservedBlock.
  bool insert(BlockId block, BlockId parent, std::span<const TokenId> tokens, std::uint64_t salt);
  // Forgets a published block. REQUIRES: contains(block), and no published block has it as parent.
  void erase(BlockId block);
  // Forgets all of them.
  void clear();

  bool contains(BlockId block) const { return entry(block).is_published; }
  BlockId parent(BlockId block) const { return entry(block).parent; }
  std::int32_t size() const { return size_; }

 private:
  struct Entry {
    Hash128 hash;
    std::uint64_t salt = 0;
    BlockId parent = kReservedBlock;
    BlockId next = kReservedBlock;  // in the same bucket
    std::int32_t num_children = 0;
    bool is_published = false;
  };

  const Entry& entry(BlockId block) const { return entries_[static_cast<std::size_t>(block)]; }
  Entry& entry(BlockId block) { return entries_[static_cast<std::size_t>(block)]; }
  std::span<TokenId> tokens_of(BlockId block);
  std::span<const TokenId> tokens_of(BlockId block) const;
  Hash128 hash_of(BlockId parent, std::span<const TokenId> tokens, std::uint64_t salt) const;
  std::size_t bucket_of(Hash128 hash) const { return hash.low & (buckets_.size() - 1); }
  BlockId find(Hash128 hash, BlockId parent, std::span<const TokenId> tokens,
               std::uint64_t salt) const;

  std::int32_t block_size_;
  Hash128 key_;
  HashFunction hash_function_;
  std::int32_t size_ = 0;
  std::vector<Entry> entries_;    // by block
  std::vector<TokenId> tokens_;   // [num_blocks, block_size]
  std::vector<BlockId> buckets_;  // first block of each bucket; a power of two of them
};

}  // namespace llmrun
