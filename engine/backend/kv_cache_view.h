// The memory of the KV cache as operations see it. Which block belongs to whom is KvCacheManager's
// business.
#pragma once

#include <cstdint>
#include <vector>

#include "engine/core/tensor.h"

namespace llmrun {

struct KvCacheShape {
  std::int32_t num_layers = 0;
  std::int32_t num_blocks = 0;  // the reserved block included
  std::int32_t block_size = 0;  // tokens per block
  std::int32_t num_kv_heads = 0;
  std::int32_t head_dim = 0;
  DType dtype = DType::kBf16;

  std::int64_t bytes_per_token() const {
    return std::int64_t{2} * num_layers * num_kv_heads * head_dim *
           static_cast<std::int64_t>(dtype_bytes(dtype));
  }
  std::int64_t bytes_per_block() const { return bytes_per_token() * block_size; }
};

// Keys and values of one layer. Token slot = block * block_size + offset lies at [block, head,
// offset, :], so that one head of one block is contiguous.
struct KvCacheView {
  Tensor key;    // [num_blocks, Hkv, block_size, D]
  Tensor value;  // [num_blocks, Hkv, block_size, D]
};

}  // namespace llmrun
