// Causal attention over a paged KV cache, one (sequence, query heads of a KV head, block of query
// tokens) at a time.
//
// The context is walked in tiles of kKvTile positions. kKvTile * kTilesPerSplit positions form a
// split: an online softmax of its own, merged into the result in ascending order. Tiles and splits
// begin at fixed positions of the sequence, and a tile a row cannot see leaves its state untouched
// bit by bit. So a row's result does not depend on the batch, on how the prompt was cut into chunks
// or on how the work was divided. All arithmetic is float32, whatever the cache holds.
// Source: FlashAttention-2 (arXiv 2307.08691), split-KV as in flash-decoding.
#pragma once

#include <cstddef>
#include <cstdint>

namespace llmrun::kernels {

inline constexpr std::int64_t kKvTile = 64;
inline constexpr std::int64_t kTilesPerSplit = 8;
inline constexpr std::int64_t kKvSplit = kKvTile * kTilesPerSplit;  // positions

// One layer's attention; the same for all tasks.
struct AttentionArgs {
  const float* q = nullptr;           // [T, q_stride], the heads of token t at q + t * q_stride
  std::int64_t q_stride = 0;          // elements
  float* out = nullptr;               // [T, out_stride]
  std::uint16_t* out_bf16 = nullptr;  // the result rounded to bf16, instead of `out`
  std::int64_t out_stride = 0;        // elements
  const void* key = nullptr;          // [num_blocks, num_kv_heads, block_size, head_dim]
  const void* value = nullptr;        // the same
  bool is_bf16 = false;               // element type of the cache: bf16, else float32
  std::int64_t block_size = 0;        // tokens
  std::int64_t num_kv_heads = 0;
  std::int64_t group_size = 0;  // query heads of one KV head
  std::int64_t head_dim = 0;    // any
  float scale = 1.0F;
  float logit_softcap = 0.0F;           // > 0: softcap * tanh(score / softcap)
  std::int64_t sliding_window = 0;      // > 0: positions a token sees, itself included
  const float* alibi_slopes = nullptr;  // [Hq] or null: slope * (key position - query position)
};

// Query tokens [first_token, first_token + num_tokens) of the step, all of one sequence, at
// positions first_position and on; query heads [first_head, first_head + num_heads) of the group of
// one KV head. A row is a token's head; the heads of a token follow each other.
struct AttentionTask {
  std::int64_t first_token = 0;
  std::int64_t num_tokens = 0;
  std::int64_t first_position = 0;
  const std::int32_t* block_table = nullptr;  // of the sequence
  std::int64_t kv_head = 0;
  std::int64_t first_head = 0;
  std::int64_t num_heads = 0;
  std::int64_t num_rows() const { return num_tokens * num_heads; }
};

// Floats of one row's unmerged result: maximum, sum, 14 unused, head_dim rounded up to 16 sums.
std::int64_t attention_state_floats(std::int64_t head_dim);

struct AttentionKernel {
  // Bytes of scratch memory, 64-byte aligned, for tasks of at most `max_rows` rows.
  std::size_t (*scratch_bytes)(std::int64_t max_rows, std::int64_t head_dim);
  // The whole task: all splits in order, result to args.out.
  void (*run)(const AttentionArgs& args, const AttentionTask& task, void* scratch);
  // One split of a task (split s: positions [s * kKvSplit, (s + 1) * kKvSplit)). Writes the state
  // of each row to state [num_rows, attention_state_floats(head_dim)].
  void (*run_split)(const AttentionArgs& args, const AttentionTask& task, std::int64_t split,
                    float* state, void* scratch);
  // Merges the states of `num_splits` splits, ascending and one after the other in `states` (each
  // [num_rows, attention_state_floats]), and writes args.out.
  void (*merge_splits)(const AttentionArgs& args, const AttentionTask& task,
                       std::int64_t num_splits, const float* states, void* scratch);
};

// The first position that the earliest row of a task can see, and one past the last.
struct AttentionSpan {
  std::int64_t begin = 0;
  std::int64_t end = 0;
};
AttentionSpan attention_span(const AttentionArgs& args, const AttentionTask& task);

const AttentionKernel& attention_portable();
const AttentionKernel& attention_avx2();
const AttentionKernel& attention_avx512();
// run() over a bf16 cache only; it rounds queries and softmax weights to bf16. The calling thread
// must have the operating system's permission for AMX (request_amx()).
const AttentionKernel& attention_bf16_amx();

}  // namespace llmrun::kernels
