#include "engine/kv_cache/kv_cache_manager.h"

#include <algorithm>
#include <random>
#include <vector>

#include <fmt/format.h>

#include "engine/core/error.h"

namespace llmrun {

namespace {

Hash128 random_key() {
  std::random_device source;
  const auto word = [&] { return std::uint64_t{source()} << 32 | source(); };
  return {word(), word()};
}

}  // namespace

KvCacheManager::KvCacheManager(const Options& options)
    : options_(options), pool_(options.num_blocks) {
  LLMRUN_CHECK(options.block_size >= 1);
  if (options.enable_prefix_caching) {
    cache_.emplace(options.num_blocks, options.block_size,
                   options.hash_key ? *options.hash_key : random_key());
  }
}

std::int64_t KvCacheManager::num_blocks_for(std::int64_t num_tokens) const {
  return (num_tokens + options_.block_size - 1) / options_.block_size;
}

std::int64_t KvCacheManager::num_releasable_blocks(const BlockTable& table) const {
  return std::ranges::count_if(table,
                               [&](BlockId block) { return pool_.num_references(block) == 1; });
}

std::int64_t KvCacheManager::match_prefix(BlockTable& table, std::span<const TokenId> tokens,
                                          std::uint64_t salt) {
  LLMRUN_CHECK(table.empty());
  if (!cache_ || tokens.empty()) return 0;
  const auto block_size = static_cast<std::size_t>(options_.block_size);
  const std::size_t max_blocks = (tokens.size() - 1) / block_size;
  BlockId parent = kReservedBlock;
  while (table.size() < max_blocks) {
    const BlockId block =
        cache_->find(parent, tokens.subspan(table.size() * block_size, block_size), salt);
    if (block == kReservedBlock) break;
    pool_.add_reference(block);
    table.push_back(block);
    parent = block;
  }
  peak_used_blocks_ = std::max(peak_used_blocks_, pool_.num_used());
  return static_cast<std::int64_t>(table.size() * block_size);
}

void KvCacheManager::share(const BlockTable& from, BlockTable& to, std::int64_t num_tokens) {
  LLMRUN_CHECK(to.empty() && num_tokens >= 0 && num_tokens % options_.block_size == 0);
  const auto num_blocks = static_cast<std::size_t>(num_tokens / options_.block_size);
  LLMRUN_CHECK(num_blocks <= from.size());
  to.assign(from.begin(), from.begin() + static_cast<std::ptrdiff_t>(num_blocks));
  for (const BlockId block : to) pool_.add_reference(block);
}

bool KvCacheManager::grow(BlockTable& table, std::int64_t num_tokens) {
  const std::int64_t num_new_blocks =
      num_blocks_for(num_tokens) - static_cast<std::int64_t>(table.size());
  if (num_new_blocks <= 0) return true;
  if (num_new_blocks > num_available_blocks()) return false;
  for (std::int64_t i = 0; i < num_new_blocks; ++i) {
    if (pool_.num_free() == 0) {
      const BlockId victim = pool_.least_recently_used();
      cache_->erase(victim);
      pool_.discard(victim);
      ++num_evicted_blocks_;
    }
    table.push_back(pool_.allocate());
  }
  peak_used_blocks_ = std::max(peak_used_blocks_, pool_.num_used());
  return true;
}

void KvCacheManager::publish(const BlockTable& table, std::span<const TokenId> tokens,
                             std::uint64_t salt, std::int64_t num_published_tokens,
                             std::int64_t num_written_tokens) {
  if (!cache_) return;
  LLMRUN_CHECK(num_written_tokens <= static_cast<std::int64_t>(tokens.size()));
  const auto block_size = static_cast<std::size_t>(options_.block_size);
  const auto end = static_cast<std::size_t>(num_written_tokens) / block_size;
  LLMRUN_CHECK(end <= table.size());
  for (auto i = static_cast<std::size_t>(num_published_tokens) / block_size; i < end; ++i) {
    if (cache_->contains(table[i])) continue;  // published through another table
    const BlockId parent = i == 0 ? kReservedBlock : table[i - 1];
    // Another block with these tokens was published first. What follows it in this table stays
    // private: a parent that this table does not hold could be evicted before its children.
    if (parent != kReservedBlock && !cache_->contains(parent)) return;
    if (!cache_->insert(table[i], parent, tokens.subspan(i * block_size, block_size), salt)) return;
  }
}

void KvCacheManager::release(BlockTable& table) {
  truncate(table, 0);
}

void KvCacheManager::truncate(BlockTable& table, std::int64_t num_tokens) {
  LLMRUN_CHECK(num_tokens >= 0 && num_tokens % options_.block_size == 0);
  // From the end, so that children become idle, and are evicted, before their parents.
  while (static_cast<std::int64_t>(table.size()) > num_tokens / options_.block_size) {
    pool_.drop_reference(table.back(), is_published(table.back()));
    table.pop_back();
  }
}

void KvCacheManager::flush() {
  if (!cache_) return;
  cache_->clear();
  while (pool_.num_idle() > 0) pool_.discard(pool_.least_recently_used());
}

void KvCacheManager::record_prefix_query(std::int64_t num_queried_tokens,
                                         std::int64_t num_hit_tokens) {
  num_queried_tokens_ += num_queried_tokens;
  num_hit_tokens_ += num_hit_tokens;
}

KvCacheStats KvCacheManager::stats() const {
  return {.num_total_blocks = num_usable_blocks(),
          .num_free_blocks = pool_.num_free(),
          .num_cached_blocks = pool_.num_idle(),
          .num_used_blocks = pool_.num_used(),
          .peak_used_blocks = peak_used_blocks_,
          .num_evicted_blocks = num_evicted_blocks_,
          .num_queried_tokens = num_queried_tokens_,
          .num_hit_tokens = num_hit_tokens_};
}

std::vector<BlockId> KvCacheManager::used_blocks() const {
  std::vector<BlockId> blocks;
  for (BlockId block = 1; block < pool_.num_blocks(); ++block) {
    if (pool_.num_references(block) > 0) blocks.push_back(block);
  }
  return blocks;
}

std::optional<std::string> KvCacheManager::check_integrity(
    std::span<const BlockTable* const> tables) const {
  if (auto fault = pool_.check_integrity()) return fault;
  if (auto fault = check_tables(tables)) return fault;
  return check_cache();
}

std::optional<std::string> KvCacheManager::check_tables(
    std::span<const BlockTable* const> tables) const {
  struct Holders {
    std::int32_t count = 0;
    const BlockTable* last = nullptr;
  };
  std::vector<Holders> holders(static_cast<std::size_t>(pool_.num_blocks()));
  for (const BlockTable* table : tables) {
    for (const BlockId block : *table) {
      if (block <= kReservedBlock || block >= pool_.num_blocks()) {
        return fmt::format("a table holds block {}, which no table may hold", block);
      }
      Holders& holder = holders[static_cast<std::size_t>(block)];
      if (holder.last == table) return fmt::format("a table holds block {} twice", block);
      holder.last = table;
      ++holder.count;
    }
  }
  for (BlockId block = 1; block < pool_.num_blocks(); ++block) {
    const std::int32_t num_tables = holders[static_cast<std::size_t>(block)].count;
    if (num_tables != pool_.num_references(block)) {
      return fmt::format("block {} has {} references but is in {} tables", block,
                         pool_.num_references(block), num_tables);
    }
  }
  return std::nullopt;
}

std::optional<std::string> KvCacheManager::check_cache() const {
  std::int32_t num_published = 0;
  std::vector<std::int32_t> idle_rank(static_cast<std::size_t>(pool_.num_blocks()), -1);
  std::int32_t rank = 0;
  for (const BlockId block : pool_.idle_blocks())
    idle_rank[static_cast<std::size_t>(block)] = rank++;
  for (BlockId block = 1; block < pool_.num_blocks(); ++block) {
    if (!is_published(block)) {
      if (pool_.is_idle(block)) return fmt::format("idle block {} is not published", block);
      continue;
    }
    ++num_published;
    if (pool_.is_free(block)) return fmt::format("free block {} is published", block);
    const BlockId parent = cache_->parent(block);
    if (parent == kReservedBlock) continue;
    if (!is_published(parent)) {
      return fmt::format("published block {} has parent {}, which is not", block, parent);
    }
    // Who holds a block holds its parent; so a parent is never idle for longer than its child.
    if (pool_.num_references(parent) < pool_.num_references(block)) {
      return fmt::format("block {} has more references than its parent {}", block, parent);
    }
    if (pool_.is_idle(parent) &&
        idle_rank[static_cast<std::size_t>(parent)] < idle_rank[static_cast<std::size_t>(block)]) {
      return fmt::format("block {} would be evicted before its child {}", parent, block);
    }
  }
  if (cache_ && num_published != cache_->size()) {
    return fmt::format("{} blocks are published but the prefix cache counts {}", num_published,
                       cache_->size());
  }
  return std::nullopt;
}

}  // namespace llmrun
