// FakeModel: a model without arithmetic, whose every token depends on every key and value it reads.
//
// The KV slot of token i holds a hash of tokens [0, i]. The next token is a hash of all slots of
// the sequence, read through its block table. So a wrong, stale, overwritten or missing block
// changes the output, and the output can be known beforehand from the tokens alone.
//
// Steps run when they are collected, as late as a device may run them; a token that the host does
// not know when it submits is read from the request slot that sampled it.
#pragma once

#include <cstdint>
#include <deque>
#include <span>
#include <vector>

#include "engine/core/error.h"
#include "engine/core/token_id.h"
#include "engine/kv_cache/block_table.h"

namespace llmrun::testing {

inline std::uint64_t mix(std::uint64_t value) {
  value ^= value >> 30;
  value *= 0xbf58476d1ce4e5b9U;
  value ^= value >> 27;
  value *= 0x94d049bb133111ebU;
  return value ^ value >> 31;
}

class FakeModel {
 public:
  struct Row {
    BlockTable block_table;
    std::int32_t slot = -1;
    std::int64_t first_position = 0;
    std::vector<TokenId> token_ids;  // of this step; kFeedback: the token last sampled for `slot`
    bool samples = false;
  };
  static constexpr TokenId kFeedback = -1;

  FakeModel(std::int32_t num_blocks, std::int32_t block_size, std::int32_t num_slots,
            std::int32_t vocab_size)
      : block_size_(block_size),
        vocab_size_(vocab_size),
        kv_(static_cast<std::size_t>(num_blocks) * static_cast<std::size_t>(block_size)),
        feedback_(static_cast<std::size_t>(num_slots), kFeedback) {}

  // What the model says after `token_ids`, whatever the batch, the blocks and the steps.
  static TokenId next_token(std::span<const TokenId> token_ids, std::int32_t vocab_size) {
    std::uint64_t prefix = 0;
    std::uint64_t sum = 0;
    std::uint64_t position = 0;
    for (const TokenId token : token_ids) {
      prefix = extend(prefix, token);
      sum += mix(prefix + position++);
    }
    return choose(sum, vocab_size);
  }

  // The keys and values in a block, as the steps collected so far left them.
  std::span<std::uint64_t> contents(BlockId block) {
    return std::span(kv_).subspan(static_cast<std::size_t>(block * block_size_),
                                  static_cast<std::size_t>(block_size_));
  }

  void submit(std::vector<Row> rows) { queue_.push_back(std::move(rows)); }

  // Runs the oldest step; one token per row, kFeedback for those that do not sample.
  std::vector<TokenId> collect() {
    LLMRUN_CHECK(!queue_.empty());
    const std::vector<Row> rows = std::move(queue_.front());
    queue_.pop_front();
    // As on a device, all of a step's keys and values are written before any attention reads.
    for (const Row& row : rows) write(row);
    std::vector<TokenId> sampled;
    for (const Row& row : rows) sampled.push_back(row.samples ? attend(row) : kFeedback);
    for (std::size_t i = 0; i < rows.size(); ++i) {
      if (rows[i].samples) feedback_.at(static_cast<std::size_t>(rows[i].slot)) = sampled[i];
    }
    return sampled;
  }

 private:
  static std::uint64_t extend(std::uint64_t prefix, TokenId token) {
    return mix(prefix * 0x9e3779b97f4a7c15U + static_cast<std::uint64_t>(token) + 1);
  }
  static TokenId choose(std::uint64_t sum, std::int32_t vocab_size) {
    return static_cast<TokenId>(mix(sum) % static_cast<std::uint64_t>(vocab_size));
  }

  std::uint64_t& at(const Row& row, std::int64_t position) {
    const BlockId block = row.block_table.at(static_cast<std::size_t>(position / block_size_));
    return kv_.at(static_cast<std::size_t>(block * block_size_ + position % block_size_));
  }

  void write(const Row& row) {
    std::int64_t position = row.first_position;
    for (TokenId token : row.token_ids) {
      if (token == kFeedback) token = feedback_.at(static_cast<std::size_t>(row.slot));
      const std::uint64_t prefix = position == 0 ? 0 : at(row, position - 1);
      at(row, position++) = extend(prefix, token);
    }
  }

  TokenId attend(const Row& row) {
    const auto end = row.first_position + static_cast<std::int64_t>(row.token_ids.size());
    std::uint64_t sum = 0;
    for (std::int64_t position = 0; position < end; ++position) {
      sum += mix(at(row, position) + static_cast<std::uint64_t>(position));
    }
    return choose(sum, vocab_size_);
  }

  std::int64_t block_size_;
  std::int32_t vocab_size_;
  std::vector<std::uint64_t> kv_;  // [num_blocks * block_size]
  std::vector<TokenId> feedback_;  // by request slot
  std::deque<std::vector<Row>> queue_;
};

}  // namespace llmrun::testing
