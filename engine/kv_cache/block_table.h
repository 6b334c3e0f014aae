// The blocks that hold one sequence's keys and values, in token order.
#pragma once

#include <cstdint>
#include <vector>

namespace llmrun {

using BlockId = std::int32_t;

// Block 0 is never given to a sequence: padding rows of a batch write there.
inline constexpr BlockId kReservedBlock = 0;

// Token i of the sequence lies in blocks[i / block_size] at offset i % block_size. Only
// KvCacheManager changes a table.
using BlockTable = std::vector<BlockId>;

}  // namespace llmrun
