#include "engine/kv_cache/block_pool.h"

#include <fmt/format.h>

#include "engine/core/error.h"

namespace llmrun {

BlockPool::BlockPool(std::int32_t num_blocks) {
  LLMRUN_CHECK(num_blocks >= 2);
  blocks_.resize(static_cast<std::size_t>(num_blocks));
  free_.reserve(blocks_.size() - 1);
  for (BlockId block = num_blocks - 1; block > kReservedBlock; --block) free_.push_back(block);
}

BlockPool::Block& BlockPool::at(BlockId block) {
  LLMRUN_CHECK(block > kReservedBlock && block < num_blocks());
  return blocks_[static_cast<std::size_t>(block)];
}

const BlockPool::Block& BlockPool::at(BlockId block) const {
  LLMRUN_CHECK(block > kReservedBlock && block < num_blocks());
  return blocks_[static_cast<std::size_t>(block)];
}

BlockId BlockPool::allocate() {
  LLMRUN_CHECK(!free_.empty());
  const BlockId block = free_.back();
  free_.pop_back();
  at(block).state = State::kUsed;
  at(block).num_references = 1;
  return block;
}

void BlockPool::add_reference(BlockId block) {
  Block& entry = at(block);
  LLMRUN_CHECK(entry.state != State::kFree);
  if (entry.state == State::kIdle) {
    unlink_idle(block);
    entry.state = State::kUsed;
  }
  ++entry.num_references;
}

void BlockPool::drop_reference(BlockId block, bool keep_contents) {
  Block& entry = at(block);
  LLMRUN_CHECK(entry.state == State::kUsed && entry.num_references > 0);
  if (--entry.num_references > 0) return;
  if (keep_contents) {
    entry.state = State::kIdle;
    link_idle(block);
  } else {
    entry.state = State::kFree;
    free_.push_back(block);
  }
}

BlockId BlockPool::least_recently_used() const {
  LLMRUN_CHECK(num_idle_ > 0);
  return blocks_[kReservedBlock].next;
}

void BlockPool::discard(BlockId block) {
  LLMRUN_CHECK(at(block).state == State::kIdle);
  unlink_idle(block);
  at(block).state = State::kFree;
  free_.push_back(block);
}

void BlockPool::link_idle(BlockId block) {
  Block& ring = blocks_[kReservedBlock];
  Block& entry = at(block);
  entry.previous = ring.previous;
  entry.next = kReservedBlock;
  blocks_[static_cast<std::size_t>(ring.previous)].next = block;
  ring.previous = block;
  ++num_idle_;
}

void BlockPool::unlink_idle(BlockId block) {
  const Block& entry = at(block);
  blocks_[static_cast<std::size_t>(entry.previous)].next = entry.next;
  blocks_[static_cast<std::size_t>(entry.next)].previous = entry.previous;
  --num_idle_;
}

std::vector<BlockId> BlockPool::idle_blocks() const {
  std::vector<BlockId> blocks;
  // A damaged ring may never come back to its start, hence the bound.
  for (BlockId block = blocks_[kReservedBlock].next;
       block != kReservedBlock && blocks.size() < blocks_.size(); block = at(block).next) {
    blocks.push_back(block);
  }
  return blocks;
}

std::optional<std::string> BlockPool::check_integrity() const {
  std::int32_t num_by_state[3] = {0, 0, 0};
  for (BlockId block = 1; block < num_blocks(); ++block) {
    const Block& entry = at(block);
    ++num_by_state[static_cast<int>(entry.state)];
    if ((entry.num_references > 0) != (entry.state == State::kUsed) || entry.num_references < 0) {
      return fmt::format("block {} has {} references, which its state contradicts", block,
                         entry.num_references);
    }
  }
  std::vector<bool> seen(blocks_.size(), false);
  for (const BlockId block : free_) {
    if (seen[static_cast<std::size_t>(block)] || at(block).state != State::kFree) {
      return fmt::format("block {} is wrongly, or twice, in the free list", block);
    }
    seen[static_cast<std::size_t>(block)] = true;
  }
  const std::vector<BlockId> idle = idle_blocks();
  for (const BlockId block : idle) {
    if (at(block).state != State::kIdle) {
      return fmt::format("block {} is in the list of idle blocks but not idle", block);
    }
  }
  if (num_free() != num_by_state[static_cast<int>(State::kFree)] ||
      num_idle() != num_by_state[static_cast<int>(State::kIdle)] ||
      static_cast<std::size_t>(num_idle()) != idle.size() ||
      num_used() != num_by_state[static_cast<int>(State::kUsed)]) {
    return fmt::format(
        "{} free + {} idle + {} used blocks do not add up to {} less the reserved one", num_free(),
        num_idle(), num_used(), num_blocks());
  }
  return std::nullopt;
}

}  // namespace llmrun
