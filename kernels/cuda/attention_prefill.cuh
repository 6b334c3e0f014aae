// What the prefill kernels share: parameters, which keys a tile sees, where rows lie.
#pragma once

#include "kernels/cuda/attention_mma.cuh"
#include "kernels/cuda/attention_score.cuh"

namespace llmrun::kernels {

struct PrefillParams {
  void* out;
  const void* qkv;
  const void* key_cache;
  const void* value_cache;
  const std::int32_t* block_tables;
  const PrefillTile* tiles;
  int max_num_blocks;
  int block_size;
  int num_query_heads;
  int num_kv_heads;
  int group_size;
  bool is_plain;  // neither softcap nor ALiBi
  ScoreRule rule;
};

__device__ __forceinline__ PrefillTile load_prefill_tile(const PrefillParams& params, int i) {
  const int4 low = reinterpret_cast<const int4*>(params.tiles + i)[0];
  const int4 high = reinterpret_cast<const int4*>(params.tiles + i)[1];
  return {low.x, low.y, low.z, low.w, high.x, {}};
}

// Positions of keys that a tile of rows sees.
struct PrefillSpan {
  int begin;  // rounded down to a tile of keys
  int end;
  int seen_by_all_from;  // keys that no row masks: [from, to)
  int seen_by_all_to;
};

__device__ __forceinline__ PrefillSpan prefill_span(const PrefillParams& params,
                                                    const PrefillTile& tile, int keys_per_tile) {
  const int first = tile.first_position + tile.first_row / params.group_size;
  const int last = tile.first_position + (tile.first_row + tile.num_rows - 1) / params.group_size;
  return {window_begin(params.rule, first) / keys_per_tile * keys_per_tile, last + 1,
          window_begin(params.rule, last), first + 1};
}

// Row `row` of a tile in qkv and in out.
template <typename T>
__device__ __forceinline__ const T* query_row(const PrefillParams& params, const PrefillTile& tile,
                                              int kv_head, int row, int head_dim) {
  const int token = tile.first_token + (tile.first_row + row) / params.group_size;
  const int head = kv_head * params.group_size + (tile.first_row + row) % params.group_size;
  const int heads = params.num_query_heads + 2 * params.num_kv_heads;
  return static_cast<const T*>(params.qkv) +
         (static_cast<std::int64_t>(token) * heads + head) * head_dim;
}
template <typename T>
__device__ __forceinline__ T* out_row(const PrefillParams& params, const PrefillTile& tile,
                                      int kv_head, int row, int head_dim) {
  const int token = tile.first_token + (tile.first_row + row) / params.group_size;
  const int head = kv_head * params.group_size + (tile.first_row + row) % params.group_size;
  return static_cast<T*>(params.out) +
         (static_cast<std::int64_t>(token) * params.num_query_heads + head) * head_dim;
}

// Reads the block table one tile of keys ahead: lane i looks after positions first + 8 i.
class RowGroupReader {
 public:
  __device__ RowGroupReader(const PrefillParams& params, int sequence, int kv_head,
                            const PrefillSpan& span)
      : table_(params.block_tables + static_cast<std::int64_t>(sequence) * params.max_num_blocks),
        block_size_(params.block_size),
        num_kv_heads_(params.num_kv_heads),
        kv_head_(kv_head),
        last_((span.end - 1) & ~7) {}

  __device__ __forceinline__ void prefetch(int first) {
    block_ = table_[lane_position(first) / block_size_];
  }
  // Of the tile that was prefetched last.
  __device__ __forceinline__ std::uint32_t row_groups(int first) const {
    return row_group(block_, lane_position(first), block_size_, num_kv_heads_, kv_head_);
  }

 private:
  __device__ __forceinline__ int lane_position(int first) const {
    return min(first + static_cast<int>(threadIdx.x) % 32 * 8, last_);
  }

  const std::int32_t* table_;
  int block_size_;
  int num_kv_heads_;
  int kv_head_;
  int last_;  // the last multiple of 8 that is seen
  int block_ = 0;
};

// The kernel of attention_prefill.cu.
void prepare_prefill_mma(const AttentionShape& shape);
void launch_prefill_mma(const Launch& options, const AttentionShape& shape,
                        const PrefillParams& params, int num_tiles);

// That of attention_prefill_hopper.cu; whether the current device and the shape suit it.
bool has_prefill_hopper(const AttentionShape& shape);
void prepare_prefill_hopper(const AttentionShape& shape);
void launch_prefill_hopper(const Launch& options, const AttentionShape& shape,
                           const PrefillParams& params, int num_tiles);

}  // namespace llmrun::kernels
