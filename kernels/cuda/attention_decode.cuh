// Decode attention on the tensor cores.
//
// A block has four warps and walks the items of one worker for up to eight query heads of one KV
// head. Tile i of an item (16 positions) belongs to warp i % 4, which copies its own tiles through
// its own ring of shared memory, ahead across the ends of items, so that the main loop has no
// barrier of the block. The keys of a tile are the rows of the product and the query heads its 8
// columns: scores^T = K Q^T, out^T = V^T weights^T. At the end of an item the four online softmaxes
// are merged through shared memory; a token that is split over workers is merged by the last of
// them to arrive, in ascending order of its parts.
#pragma once

#include "kernels/cuda/attention_mma.cuh"
#include "kernels/cuda/attention_score.cuh"

namespace llmrun::kernels {

struct DecodeParams {
  void* out;
  const void* qkv;
  const void* key_cache;
  const void* value_cache;
  const std::int32_t* block_tables;
  const int2* worker_items;  // [num_workers] items behind the first
  const DecodeItem* items;
  float* part_sums;         // [slots, Hq, D] weighted sums of values
  float2* part_softmax;     // [slots, Hq] largest score, sum of weights
  std::uint32_t* arrivals;  // [slots, head groups]; a token uses its first slot's
  int max_num_blocks;
  int block_size;
  int num_query_heads;
  int num_kv_heads;
  int group_size;  // query heads of one KV head
  int head_groups_per_kv_head;
  ScoreRule rule;
};

inline constexpr int kDecodeWarps = 4;
inline constexpr int kDecodeThreads = kDecodeWarps * 32;
inline constexpr int kMergeFloats = 512;     // of a warp's sums, merged at a time
inline constexpr int kTilesPerSegment = 16;  // a warp's tiles whose row groups lie in its lanes

// Blocks of a multiprocessor, and stages of a warp's ring: as many as shared memory has room for.
template <int kD>
inline constexpr int kDecodeBlocks = kD <= 64    ? 3
                                     : kD <= 128 ? 2
                                                 : 1;
template <int kD>
inline constexpr int kDecodeStages = kD == 80    ? 5
                                     : kD == 96  ? 4
                                     : kD == 256 ? 2
                                                 : 3;

template <int kD>
struct DecodeLayout {
  static constexpr int kRowBytes = kD * 2 + 16;  // an odd number of 16 bytes: no bank conflicts
  static constexpr int kTileBytes = kDecodeTile * kRowBytes;
  static constexpr int kStageBytes = 2 * kTileBytes;  // keys, then values
  static constexpr int kRingBytes = kDecodeStages<kD> * kStageBytes;
  static constexpr int kMergeBytes = kDecodeWarps * (kMergeFloats + 4 * kDecodeHeads) * 4;
  static constexpr int kSoftmaxBytes = kDecodeWarps * kDecodeHeads * 8;
  static constexpr int kSharedBytes = kDecodeWarps * kRingBytes + kMergeBytes + kSoftmaxBytes + 16;
};

// The heads of a block.
struct DecodeHeadGroup {
  int index;  // of the head groups
  int kv_head;
  int first_head;
  int num_heads;
};

// The tiles of an item that a warp owns: number `warp`, `warp` + 4, ... from first_tile on.
struct WarpTiles {
  int first_tile;  // the warp's first, in units of kDecodeTile positions of the sequence
  int num_tiles;
};

__device__ __forceinline__ WarpTiles warp_tiles(const DecodeItem& item, const ScoreRule& rule,
                                                int warp) {
  const int begin = max(item.begin, window_begin(rule, item.position) & ~(kDecodeTile - 1));
  const int first = begin / kDecodeTile + warp;
  const int end = (item.end + kDecodeTile - 1) / kDecodeTile;
  return {first, max(0, (end - first + kDecodeWarps - 1) / kDecodeWarps)};
}

__device__ __forceinline__ DecodeItem load_item(const DecodeItem* items, int i) {
  const int4 low = reinterpret_cast<const int4*>(items + i)[0];
  const int4 high = reinterpret_cast<const int4*>(items + i)[1];
  return {low.x, low.y, low.z, low.w, high.x, high.y, high.z, high.w};
}

// Copies a warp's tiles to its ring, in order, one a call. With the ring full, the memory answers
// after several microseconds: block numbers are read an item ahead, items two.
template <typename T, int kD>
class TileCopier {
 public:
  // The items `first` and then [rest.x, rest.y).
  __device__ TileCopier(const DecodeParams& params, int kv_head, const DecodeItem& first, int2 rest,
                        std::uint32_t ring)
      : params_(params), kv_head_(kv_head), to_load_(rest.x), last_(rest.y), ring_(ring) {
    next_.item = first;
    after_next_ = first;
    load_after_next();
    prepare_next();
    advance();
  }

  // Whether the next tile holds the position of the query itself, which this step has written.
  __device__ __forceinline__ bool is_next_new() const {
    const int end = (current_.tiles.first_tile + tile_ * kDecodeWarps + 1) * kDecodeTile;
    return !is_done_ && end > current_.item.position;
  }

  // Copies the next tile, if there is one, to `stage` and closes a group of copies in any case.
  __device__ __forceinline__ void copy_next(int stage) {
    if (!is_done_) {
      const int in_segment = tile_ % kTilesPerSegment;
      if (in_segment == 0) begin_segment();
      const std::uint32_t low = __shfl_sync(~0U, row_groups_, 2 * in_segment);
      const std::uint32_t high = __shfl_sync(~0U, row_groups_, 2 * in_segment + 1);
      const int position = (current_.tiles.first_tile + tile_ * kDecodeWarps) * kDecodeTile;
      const int num_valid = current_.item.end - position;
      const std::uint32_t target = ring_ + stage * DecodeLayout<kD>::kStageBytes;
      copy_tile(static_cast<const T*>(params_.key_cache), low, high, num_valid, target);
      copy_tile(static_cast<const T*>(params_.value_cache), low, high, num_valid,
                target + DecodeLayout<kD>::kTileBytes);
      if (++tile_ == current_.tiles.num_tiles) advance();
    }
    commit_copies();
  }

 private:
  struct Planned {
    DecodeItem item;
    WarpTiles tiles;
    int block;  // of the lane's positions in a segment
  };

  __device__ __forceinline__ void load_after_next() {
    if (to_load_ < last_) after_next_ = load_item(params_.items, to_load_);
  }
  __device__ __forceinline__ void prepare_next() {
    next_.tiles = warp_tiles(next_.item, params_.rule, threadIdx.x / 32);
    next_.block = load_block(next_, 0);
  }

  // Goes to the next item in which this warp has a tile.
  __device__ __forceinline__ void advance() {
    do {
      is_done_ = to_load_ > last_;
      if (is_done_) return;
      current_ = next_;
      next_.item = after_next_;
      ++to_load_;
      if (to_load_ <= last_) prepare_next();
      load_after_next();
    } while (current_.tiles.num_tiles == 0);
    tile_ = 0;
  }

  // tile_ is the first of a segment, whose block numbers are there; those of the next are asked
  // for.
  __device__ __forceinline__ void begin_segment() {
    row_groups_ = row_group(current_.block, lane_position(current_, tile_), params_.block_size,
                            params_.num_kv_heads, kv_head_);
    if (tile_ + kTilesPerSegment < current_.tiles.num_tiles) {
      current_.block = load_block(current_, tile_ + kTilesPerSegment);
    }
  }

  // The lane's 8 positions of the segment that begins at `tile`: half of one of the warp's tiles.
  static __device__ __forceinline__ int lane_position(const Planned& planned, int tile) {
    const int lane = threadIdx.x % 32;
    const int lane_tile = planned.tiles.first_tile + (tile + lane / 2) * kDecodeWarps;
    return min(lane_tile * kDecodeTile + lane % 2 * 8, (planned.item.end - 1) & ~7);
  }
  __device__ __forceinline__ int load_block(const Planned& planned, int tile) const {
    const std::int64_t row =
        static_cast<std::int64_t>(planned.item.sequence) * params_.max_num_blocks;
    return params_.block_tables[row + lane_position(planned, tile) / params_.block_size];
  }

  // 16 rows: 8 of row group `low`, 8 of `high`. Rows from `num_valid` on become zeros.
  static __device__ __forceinline__ void copy_tile(const T* cache, std::uint32_t low,
                                                   std::uint32_t high, int num_valid,
                                                   std::uint32_t target) {
    constexpr int kVectors = kD / 8;  // of a row
    const int lane = threadIdx.x % 32;
    const T* low_rows = cache + static_cast<std::int64_t>(low) * (8 * kD);
    const T* high_rows = cache + static_cast<std::int64_t>(high) * (8 * kD) - 8 * kD;
#pragma unroll
    for (int i = 0; i < kDecodeTile * kVectors / 32; ++i) {
      const int vector = i * 32 + lane;
      const int row = vector / kVectors;
      bool is_high = row >= 8;
      if (i * 32 + 31 < 8 * kVectors) is_high = false;  // known to the compiler
      if (i * 32 >= 8 * kVectors) is_high = true;
      const T* source = (is_high ? high_rows : low_rows) + vector * 8;
      const std::uint32_t address =
          target + row * DecodeLayout<kD>::kRowBytes + vector % kVectors * 16;
      copy_async(address, source, row < num_valid);
    }
  }

  const DecodeParams& params_;
  const int kv_head_;
  int to_load_;  // the item behind next_
  const int last_;
  const std::uint32_t ring_;
  Planned current_{};
  Planned next_{};
  DecodeItem after_next_;
  int tile_ = 0;                  // of the warp's tiles of current_
  std::uint32_t row_groups_ = 0;  // of the lane's positions in the segment that tile_ is in
  bool is_done_ = false;
};

// A warp's online softmax of one item, for 8 heads. A lane holds two heads, 2 * (lane % 4) and the
// one after it; of the sums it holds rows lane / 4 and lane / 4 + 8 of each 16 columns of D.
template <int kD>
struct DecodeState {
  float largest[2] = {-INFINITY, -INFINITY};
  float total[2] = {0, 0};  // of the lane's positions only
  float sums[kD / 16][4] = {};
};

// The query of 8 heads in the layout of a product's second operand.
template <int kD>
struct QueryFragment {
  std::uint32_t words[kD / 16][2];
};

template <typename T, int kD>
__device__ __forceinline__ void load_query(QueryFragment<kD>& query, const DecodeParams& params,
                                           int token, const DecodeHeadGroup& heads) {
  const int lane = threadIdx.x % 32;
  const int head = lane / 4;
  const std::int64_t row_size =
      static_cast<std::int64_t>(params.num_query_heads + 2 * params.num_kv_heads) * kD;
  const T* row = static_cast<const T*>(params.qkv) + token * row_size +
                 static_cast<std::int64_t>(heads.first_head + head) * kD + lane % 4 * 2;
#pragma unroll
  for (int k = 0; k < kD / 16; ++k) {
    const auto* words = reinterpret_cast<const std::uint32_t*>(row + k * 16);
    query.words[k][0] = head < heads.num_heads ? words[0] : 0;
    query.words[k][1] = head < heads.num_heads ? words[4] : 0;
  }
}

template <typename T, int kD>
__device__ __forceinline__ void score_tile(float (&scores)[4], const QueryFragment<kD>& query,
                                           std::uint32_t keys) {
  const int lane = threadIdx.x % 32;
  const std::uint32_t address = keys + lane % 16 * DecodeLayout<kD>::kRowBytes + lane / 16 * 16;
  float odd[4] = {};
#pragma unroll
  for (int k = 0; k < kD / 16; ++k) {
    const uint4 a = load_matrices(address + k * 32);
    multiply_add_16x8<T>(k % 2 == 0 ? scores : odd, a, query.words[k][0], query.words[k][1]);
  }
#pragma unroll
  for (int i = 0; i < 4; ++i) scores[i] += odd[i];
}

// Scores to weights; the state's maximum, total and sums follow.
template <int kD>
__device__ __forceinline__ void update_softmax(DecodeState<kD>& state, float (&scores)[4]) {
  float rescale[2];
  bool is_changed = false;
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    float largest = fmaxf(scores[i], scores[i + 2]);
#pragma unroll
    for (int offset = 4; offset < 32; offset *= 2) {
      largest = fmaxf(largest, __shfl_xor_sync(~0U, largest, offset));
    }
    largest = fmaxf(largest, state.largest[i]);
    is_changed |= largest != state.largest[i];
    const float shift = largest == -INFINITY ? 0.0F : largest;
    rescale[i] = exp2_fast(state.largest[i] - shift);
    state.largest[i] = largest;
    scores[i] = exp2_fast(scores[i] - shift);
    scores[i + 2] = exp2_fast(scores[i + 2] - shift);
    state.total[i] = state.total[i] * rescale[i] + (scores[i] + scores[i + 2]);
  }
  if (!__any_sync(~0U, is_changed)) return;
#pragma unroll
  for (auto& sums : state.sums) {
#pragma unroll
    for (int i = 0; i < 4; ++i) sums[i] *= rescale[i % 2];
  }
}

// One tile at `position`; `keys` and behind them the values lie in shared memory.
template <typename T, int kD>
__device__ __forceinline__ void attend_tile(DecodeState<kD>& state, const QueryFragment<kD>& query,
                                            const ScoreRule& rule, const float (&slopes)[2],
                                            const DecodeItem& item, int position,
                                            std::uint32_t keys) {
  const int lane = threadIdx.x % 32;
  float scores[4] = {};
  score_tile<T, kD>(scores, query, keys);
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const int key = position + lane / 4 + i / 2 * 8;
    const int distance = key - item.position;
    scores[i] = score_of(rule, scores[i], slopes[i % 2], distance);
    if (key >= item.end || !is_seen(rule, distance)) scores[i] = -INFINITY;
  }
  update_softmax(state, scores);
  const std::uint32_t b0 = transpose_matrix(pack<T>(scores[0], scores[1]));
  const std::uint32_t b1 = transpose_matrix(pack<T>(scores[2], scores[3]));
  const std::uint32_t address = keys + DecodeLayout<kD>::kTileBytes +
                                (lane % 8 + lane / 16 * 8) * DecodeLayout<kD>::kRowBytes +
                                lane / 8 % 2 * 16;
#pragma unroll
  for (int d = 0; d < kD / 16; ++d) {
    multiply_add_16x8<T>(state.sums[d], load_matrices_transposed(address + d * 32), b0, b1);
  }
}

}  // namespace llmrun::kernels
