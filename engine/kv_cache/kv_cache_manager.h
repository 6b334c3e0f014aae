// KvCacheManager: grows, shares and releases the block tables of sequences, and keeps the blocks
// of finished work for those that begin with the same tokens. Knows blocks, not sequences.
//
// A table is written only in blocks that it holds alone: only full blocks are ever shared, and a
// sequence writes only after its last full block. So nothing is ever copied on write.
//
// Paged and contiguous layouts are the same code: a contiguous cache is a paged one whose
// block_size is the longest sequence, so that each table has exactly one block.
// Source: PagedAttention, Kwon et al. 2023, https://arxiv.org/abs/2309.06180, section 4.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>

#include "engine/core/token_id.h"
#include "engine/kv_cache/block_pool.h"
#include "engine/kv_cache/block_table.h"
#include "engine/kv_cache/prefix_cache.h"

namespace llmrun {

struct KvCacheStats {
  std::int32_t num_total_blocks = 0;   // without the reserved block
  std::int32_t num_free_blocks = 0;    // empty
  std::int32_t num_cached_blocks = 0;  // held by nobody, kept for the prefix cache
  std::int32_t num_used_blocks = 0;    // in some table; free + cached + used = total
  std::int32_t peak_used_blocks = 0;
  std::int64_t num_evicted_blocks = 0;
  std::int64_t num_queried_tokens = 0;  // looked up in the prefix cache by admitted sequences
  std::int64_t num_hit_tokens = 0;      // of these, found
};

class KvCacheManager {
 public:
  struct Options {
    std::int32_t num_blocks = 0;  // >= 2, the reserved block included
    std::int32_t block_size = 0;  // tokens per block
    bool enable_prefix_caching = true;
    // Key of the prefix hash; absent: drawn from the system's random source. Decides nothing but
    // the order inside the hash table.
    std::optional<Hash128> hash_key;
  };

  explicit KvCacheManager(const Options& options);

  std::int32_t block_size() const { return options_.block_size; }
  bool enable_prefix_caching() const { return cache_.has_value(); }
  std::int32_t num_usable_blocks() const { return pool_.num_blocks() - 1; }
  // Blocks that grow() can take: free ones and those kept for the prefix cache.
  std::int32_t num_available_blocks() const { return pool_.num_free() + pool_.num_idle(); }
  // Blocks that hold `num_tokens` tokens.
  std::int64_t num_blocks_for(std::int64_t num_tokens) const;
  // Tokens that one sequence could have if it were alone.
  std::int64_t capacity_tokens() const {
    return std::int64_t{num_usable_blocks()} * options_.block_size;
  }
  // Blocks that release(table) would make available now.
  std::int64_t num_releasable_blocks(const BlockTable& table) const;

  // Puts the longest chain of published blocks that `tokens` begin with into the empty `table`, and
  // returns the number of tokens they hold: a multiple of block_size, and less than tokens.size(),
  // since logits come only from a token that is computed. Equal `salt`s share, others never.
  std::int64_t match_prefix(BlockTable& table, std::span<const TokenId> tokens, std::uint64_t salt);
  // Puts the first blocks of `from`, `num_tokens` tokens, into the empty `to`.
  // REQUIRES: num_tokens is a multiple of block_size and their keys and values are written.
  void share(const BlockTable& from, BlockTable& to, std::int64_t num_tokens);
  // Makes room in `table` for `num_tokens` tokens in all. Returns false, and changes nothing, when
  // too few blocks are available.
  [[nodiscard]] bool grow(BlockTable& table, std::int64_t num_tokens);
  // Lets others find the blocks that became full between `num_published_tokens`, the value of the
  // last call, and `num_written_tokens`. `tokens` are the table's, from the first on. O(new
  // blocks). REQUIRES: the step that wrote the last of them is done.
  void publish(const BlockTable& table, std::span<const TokenId> tokens, std::uint64_t salt,
               std::int64_t num_published_tokens, std::int64_t num_written_tokens);
  // Gives up every block of `table`, and empties it.
  void release(BlockTable& table);
  // Gives up the blocks after the first `num_tokens` tokens. REQUIRES: as for share().
  void truncate(BlockTable& table, std::int64_t num_tokens);
  // Forgets all published blocks. Tables keep theirs.
  void flush();

  // Counts a look-up for KvCacheStats. Apart from match_prefix, so that a sequence which is looked
  // up again and again while it waits counts once.
  void record_prefix_query(std::int64_t num_queried_tokens, std::int64_t num_hit_tokens);
  KvCacheStats stats() const;

  // Whether others can find this block through its tokens.
  bool is_published(BlockId block) const { return cache_ && cache_->contains(block); }

  // Blocks that some table holds, in order. O(blocks), for checks.
  std::vector<BlockId> used_blocks() const;
  // The first thing that is wrong, or nothing. `tables` are all tables that hold blocks.
  // O(blocks + tables): when idle, and in tests.
  std::optional<std::string> check_integrity(std::span<const BlockTable* const> tables) const;

 private:
  std::optional<std::string> check_tables(std::span<const BlockTable* const> tables) const;
  std::optional<std::string> check_cache() const;

  Options options_;
  BlockPool pool_;
  std::optional<PrefixCache> cache_;
  std::int32_t peak_used_blocks_ = 0;
  std::int64_t num_evicted_blocks_ = 0;
  std::int64_t num_queried_tokens_ = 0;
  std::int64_t num_hit_tokens_ = 0;
};

}  // namespace llmrun
