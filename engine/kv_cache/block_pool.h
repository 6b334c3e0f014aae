// BlockPool: reference counts of the KV cache's blocks. A block is
//   used  one or more tables hold it,
//   idle  nobody holds it, its contents are kept for the prefix cache,
//   free  nobody holds it, its contents mean nothing.
// Block 0 is reserved and is none of them, so num_used + num_idle + num_free = num_blocks - 1.
// Every operation is O(1). What a block contains is PrefixCache's business.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "engine/kv_cache/block_table.h"

namespace llmrun {

class BlockPool {
 public:
  // REQUIRES: num_blocks >= 2, the reserved block included.
  explicit BlockPool(std::int32_t num_blocks);

  // Takes a free block, with one reference. REQUIRES: num_free() > 0.
  BlockId allocate();
  // One more holder of a used block, or the first of an idle one.
  void add_reference(BlockId block);
  // One holder less. The last one leaves the block idle when `keep_contents`, else free.
  void drop_reference(BlockId block, bool keep_contents);

  // The block that has been idle longest. REQUIRES: num_idle() > 0.
  BlockId least_recently_used() const;
  // Turns an idle block into a free one.
  void discard(BlockId block);

  std::int32_t num_blocks() const { return static_cast<std::int32_t>(blocks_.size()); }
  std::int32_t num_free() const { return static_cast<std::int32_t>(free_.size()); }
  std::int32_t num_idle() const { return num_idle_; }
  std::int32_t num_used() const { return num_blocks() - 1 - num_free() - num_idle(); }
  std::int32_t num_references(BlockId block) const { return at(block).num_references; }
  bool is_idle(BlockId block) const { return at(block).state == State::kIdle; }
  bool is_free(BlockId block) const { return at(block).state == State::kFree; }

  // Idle blocks, the longest idle one first. O(blocks), for checks.
  std::vector<BlockId> idle_blocks() const;
  // The first contradiction between counts, states and lists, or nothing. O(blocks).
  std::optional<std::string> check_integrity() const;

 private:
  enum class State : std::uint8_t { kFree, kUsed, kIdle };
  struct Block {
    State state = State::kFree;
    std::int32_t num_references = 0;
    BlockId previous = kReservedBlock;  // neighbours in the list of idle blocks, which is a ring
    BlockId next = kReservedBlock;      // through the reserved block
  };

  // REQUIRES: a block that may be in a table.
  Block& at(BlockId block);
  const Block& at(BlockId block) const;
  void link_idle(BlockId block);
  void unlink_idle(BlockId block);

  std::vector<Block> blocks_;
  std::vector<BlockId> free_;  // the one freed last is taken first
  std::int32_t num_idle_ = 0;
};

}  // namespace llmrun
