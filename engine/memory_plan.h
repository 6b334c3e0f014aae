// MemoryPlan: where the device's memory goes, decided before the KV pool is allocated: weights,
// then activations at the largest batch, then the KV pool from what is left of the engine's share.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

namespace llmrun {

struct MemoryPlanInputs {
  std::size_t total_bytes = 0;      // of the device
  std::size_t free_bytes = 0;       // before anything was loaded
  double memory_utilization = 0.9;  // share of total_bytes the engine may use
  std::size_t weight_bytes = 0;
  std::size_t activation_bytes = 0;         // activations and logits at the largest batch
  std::size_t reserve_bytes = 0;            // left alone inside the share
  std::size_t kv_cache_memory_bytes = 0;    // > 0: the pool's size, instead of what is left
  std::int32_t num_kv_blocks_override = 0;  // > 0: the pool's blocks, the reserved one not counted
  std::int64_t bytes_per_token = 0;         // keys and values, all layers
  std::int32_t block_size = 0;
  std::int32_t max_model_len = 0;
  std::int32_t max_num_seqs = 0;
};

struct MemoryPlan {
  MemoryPlanInputs inputs;
  std::size_t kv_pool_bytes = 0;
  std::int32_t num_blocks = 0;      // the reserved block included
  std::int64_t kv_pool_tokens = 0;  // tokens that fit, the reserved block not counted

  // The plan for people, a line each in MiB and in tokens.
  std::string to_text() const;
};

// The pool is never larger than max_num_seqs sequences of max_model_len need. Throws
// Error(kMemory), with all the numbers and the flags to change, when one sequence of max_model_len
// does not fit.
MemoryPlan plan_memory(const MemoryPlanInputs& inputs);

}  // namespace llmrun
