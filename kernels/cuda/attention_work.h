// The work list of the tiled attention kernels: what the host plans for a step and every layer's
// launches read. All words are int32. Plain C++, shared by the planner and the kernels.
//
//   [0, 2 num_workers)         of each decode worker: its items behind the first, [first, last)
//   [decode_items_offset, ..)  DecodeItem; number w is the first of worker w, whose end is 0 when
//                              there is none. Then the others, a worker's one after the other
//   [prefill_offset, ..)       PrefillTile, longest first
#pragma once

#include <cstdint>

namespace llmrun::kernels {

// Part of one query token's context. A decode worker is one block of threads for each group of up
// to kDecodeHeads query heads; all of them walk the same items.
struct alignas(16) DecodeItem {
  std::int32_t token;       // row of qkv and out
  std::int32_t sequence;    // row of block_tables
  std::int32_t begin;       // positions [begin, end); begin % kDecodeTile == 0
  std::int32_t end;         //
  std::int32_t position;    // of the query token
  std::int32_t first_slot;  // of the token's num_splits consecutive slots in the workspace
  std::int32_t split;       // which of them this item fills
  std::int32_t num_splits;  // 1: written to out at once, no slot is used
};

// Rows [first_row, first_row + num_rows) of a sequence's (query token, query head of one KV head)
// pairs: row = token * group_size + head.
struct alignas(16) PrefillTile {
  std::int32_t first_token;     // the sequence's first row of qkv and out
  std::int32_t sequence;        // row of block_tables
  std::int32_t first_position;  // of first_token
  std::int32_t first_row;
  std::int32_t num_rows;  // <= kPrefillRows
  std::int32_t unused[3];
};

inline constexpr std::int32_t kDecodeTile = 16;  // positions
inline constexpr std::int32_t kDecodeHeads = 8;  // query heads of a decode block
inline constexpr std::int32_t kPrefillRows = 128;
inline constexpr std::int32_t kDecodeItemWords = sizeof(DecodeItem) / sizeof(std::int32_t);
inline constexpr std::int32_t kPrefillTileWords = sizeof(PrefillTile) / sizeof(std::int32_t);

constexpr std::int32_t decode_items_offset(std::int32_t num_workers) {
  return (2 * num_workers + kDecodeItemWords - 1) / kDecodeItemWords * kDecodeItemWords;
}

}  // namespace llmrun::kernels
