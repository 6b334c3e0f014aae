// Attention over a bf16 cache in AMX, for tasks of many rows: a chunk of a prompt.
//
// Queries and softmax weights are rounded to bf16, all sums are float32. Tiles hold 16 rows; a tile
// of sums is finished before the next, which leaves the processor free tiles to load ahead.
#include "kernels/cpu/vec_avx512.h"
//
#include <cstddef>
#include <cstdint>

#include "kernels/cpu/amx_tiles.h"
#include "kernels/cpu/attention.h"
#include "kernels/cpu/attention_impl.h"

namespace llmrun::kernels {
namespace {

constexpr std::int64_t kTileRows = 16;
constexpr std::int64_t kTileDepth = 32;
constexpr std::int64_t kTileElements = kTileRows * kTileDepth;
constexpr std::int64_t kKvDepthTiles = kKvTile / kTileDepth;

// Where the parts of a task's scratch memory lie. R rows padded to 16, P = head_dim padded to 32.
struct AmxScratch {
  std::uint16_t* q;       // tiles [R / 16][P / 32], scaled
  std::uint16_t* key;     // tiles [kKvTile / 16][P / 32] of 16 pairs along head_dim, 16 positions
  std::uint16_t* value;   // tiles [P / 16][kKvTile / 32] of 16 pairs of positions, 16 dimensions
  std::uint16_t* weight;  // tiles [R / 16][kKvTile / 32]
  float* score;           // [R, kKvTile]
  float* state;           // [R, attention_state_floats]
  float* merged;          // [R, attention_state_floats]

  AmxScratch(void* memory, std::int64_t rows, std::int64_t head_dim)
      : q(static_cast<std::uint16_t*>(memory)),
        key(q + rows * round_up(head_dim, kTileDepth)),
        value(key + round_up(head_dim, kTileDepth) * kKvTile),
        weight(value + round_up(head_dim, kTileDepth) * kKvTile),
        score(reinterpret_cast<float*>(weight + rows * kKvTile)),
        state(score + rows * kKvTile),
        merged(state + rows * AttentionScratch::state_floats(head_dim)) {}
};

std::size_t scratch_bytes(std::int64_t max_rows, std::int64_t head_dim) {
  const std::int64_t rows = round_up(max_rows, kTileRows);
  const std::int64_t padded = round_up(head_dim, kTileDepth);
  const std::int64_t halves = rows * padded + 2 * padded * kKvTile + rows * kKvTile;
  const std::int64_t floats = rows * (kKvTile + 2 * AttentionScratch::state_floats(head_dim));
  return static_cast<std::size_t>(halves) * sizeof(std::uint16_t) +
         static_cast<std::size_t>(floats) * sizeof(float);
}

// 32 bf16 elements of a row from `d` on; beyond head_dim 0.
__m512i load_halves(const void* row, std::int64_t d, std::int64_t head_dim) {
  const std::int64_t rest = head_dim - d;
  const auto* from = static_cast<const std::uint16_t*>(row) + d;
  if (rest >= kTileDepth) return _mm512_loadu_si512(from);
  return _mm512_maskz_loadu_epi16((1U << rest) - 1U, from);
}

void load_queries_bf16(const AttentionArgs& args, const AttentionTask& task, std::uint16_t* q) {
  const std::int64_t padded = round_up(args.head_dim, kTileDepth);
  const Vec scale = Vec::broadcast(args.scale);
  for (std::int64_t row = 0; row < round_up(task.num_rows(args), kTileRows); ++row) {
    const std::int64_t token = task.first_token + row / args.group_size;
    const std::int64_t head = task.kv_head * args.group_size + row % args.group_size;
    const float* from = args.q + token * args.q_stride + head * args.head_dim;
    const std::int64_t valid = row < task.num_rows(args) ? args.head_dim : 0;
    std::uint16_t* to = q + row / kTileRows * kTileRows * padded + row % kTileRows * kTileDepth;
    for (std::int64_t d = 0; d < padded; d += Vec::kLanes) {
      (load_up_to(from, d, valid) * scale)
          .store_bf16(to + d / kTileDepth * kTileElements + d % kTileDepth);
    }
  }
}

void load_keys_bf16(const AttentionArgs& args, const void* const* rows, std::int64_t count,
                    std::uint16_t* key) {
  for (std::int64_t t = 0; t < count; t += kTileRows) {
    for (std::int64_t d = 0; d < args.head_dim; d += kTileDepth) {
      Vec block[Vec::kLanes];  // a lane is a pair of elements
#pragma GCC unroll 16
      for (int i = 0; i < Vec::kLanes; ++i) {
        block[i].v = _mm512_castsi512_ps(load_halves(rows[t + i], d, args.head_dim));
      }
      Vec::transpose(block);
#pragma GCC unroll 16
      for (int i = 0; i < Vec::kLanes; ++i) {
        _mm512_storeu_si512(key + i * kTileDepth, _mm512_castps_si512(block[i].v));
      }
      key += kTileElements;
    }
  }
}

// The elements of two rows, alternating.
struct Interleave {
  alignas(64) std::uint16_t low[32];
  alignas(64) std::uint16_t high[32];
  constexpr Interleave() : low(), high() {
    for (int i = 0; i < 32; ++i) {
      low[i] = static_cast<std::uint16_t>(i / 2 + i % 2 * 32);
      high[i] = static_cast<std::uint16_t>(low[i] + 16);
    }
  }
};

void load_values_bf16(const AttentionArgs& args, const void* const* rows, std::uint16_t* value) {
  static constexpr Interleave kInterleave;
  const __m512i low = _mm512_load_si512(kInterleave.low);
  const __m512i high = _mm512_load_si512(kInterleave.high);
  constexpr std::int64_t kColumnElements = kKvDepthTiles * kTileElements;  // 16 dimensions
  for (std::int64_t t = 0; t < kKvTile; t += 2) {
    std::uint16_t* to = value + t / kTileDepth * kTileElements + t % kTileDepth * kTileRows;
    for (std::int64_t d = 0; d < args.head_dim; d += kTileDepth) {
      const __m512i even = load_halves(rows[t], d, args.head_dim);
      const __m512i odd = load_halves(rows[t + 1], d, args.head_dim);
      _mm512_storeu_si512(to, _mm512_permutex2var_epi16(even, low, odd));
      _mm512_storeu_si512(to + kColumnElements, _mm512_permutex2var_epi16(even, high, odd));
      to += 2 * kColumnElements;
    }
  }
}

// c [16, 16] = a b, or += : `num_tiles` neighbouring tiles of a and of b.
template <bool kAccumulate>
void multiply_tiles(const std::uint16_t* a, const std::uint16_t* b, std::int64_t num_tiles,
                    float* c, std::int64_t c_stride) {
  const std::int64_t c_bytes = c_stride * static_cast<std::int64_t>(sizeof(float));
  if constexpr (kAccumulate) {
    _tile_loadd(0, c, c_bytes);
  } else {
    _tile_zero(0);
  }
  for (std::int64_t k = 0; k < num_tiles; ++k) {
    _tile_loadd(1, a + k * kTileElements, 64);
    _tile_loadd(2, b + k * kTileElements, 64);
    _tile_dpbf16ps(0, 1, 2);
  }
  _tile_stored(0, c, c_bytes);
}

// Scores of one row to softmax weights in bf16.
void weigh_row(const AttentionArgs& args, const AttentionTask& task, std::int64_t row,
               std::int64_t begin, const AmxScratch& scratch) {
  const std::int64_t position = task.first_position + row / args.group_size;
  const std::int64_t head = task.kv_head * args.group_size + row % args.group_size;
  const std::int64_t state_stride = AttentionScratch::state_floats(args.head_dim);
  const Visible visible = visible_in_tile(args, position, begin);
  float* score = scratch.score + row * kKvTile;
  if (row >= task.num_rows(args) || visible.first >= visible.last) {
    for (std::int64_t t = 0; t < kKvTile; ++t) score[t] = 0.0F;
  } else {
    adjust_scores(args, score, visible, head, begin - position);
    update_state(score, scratch.state + row * state_stride, state_stride - 16);
  }
  std::uint16_t* to =
      scratch.weight + row / kTileRows * kTileRows * kKvTile + row % kTileRows * kTileDepth;
  for (std::int64_t t = 0; t < kKvTile; t += Vec::kLanes) {
    Vec::load(score + t).store_bf16(to + t / kTileDepth * kTileElements + t % kTileDepth);
  }
}

void attend_tile_bf16(const AttentionArgs& args, const AttentionTask& task, std::int64_t begin,
                      std::int64_t count, const AmxScratch& scratch) {
  const void* rows[kKvTile];
  find_rows(args, task, args.key, begin, count, rows);
  load_keys_bf16(args, rows, count, scratch.key);
  find_rows(args, task, args.value, begin, count, rows);
  load_values_bf16(args, rows, scratch.value);

  const std::int64_t padded = round_up(args.head_dim, kTileDepth);
  const std::int64_t state_stride = AttentionScratch::state_floats(args.head_dim);
  const std::int64_t num_rows = round_up(task.num_rows(args), kTileRows);
  // Rows of tokens before the tile see nothing of it.
  const std::int64_t first_token = begin > task.first_position ? begin - task.first_position : 0;
  const std::int64_t first_row = first_token * args.group_size / kTileRows * kTileRows;
  for (std::int64_t row = first_row; row < num_rows; row += kTileRows) {
    for (std::int64_t t = 0; t < count; t += kTileRows) {
      multiply_tiles<false>(scratch.q + row * padded, scratch.key + t * padded, padded / kTileDepth,
                            scratch.score + row * kKvTile + t, kKvTile);
    }
    for (std::int64_t r = row; r < row + kTileRows; ++r) {
      weigh_row(args, task, r, begin, scratch);
    }
    for (std::int64_t d = 0; d < args.head_dim; d += kTileRows) {
      multiply_tiles<true>(scratch.weight + row * kKvTile, scratch.value + d * kKvTile,
                           kKvDepthTiles, state_values(scratch.state + row * state_stride) + d,
                           state_stride);
    }
  }
}

void run(const AttentionArgs& args, const AttentionTask& task, void* memory) {
  const AmxTiles tiles;
  const std::int64_t num_rows = round_up(task.num_rows(args), kTileRows);
  const AmxScratch scratch(memory, num_rows, args.head_dim);
  load_queries_bf16(args, task, scratch.q);
  clear_states(scratch.state, num_rows, AttentionScratch::state_floats(args.head_dim));
  walk_splits(args, task, scratch.state, scratch.merged,
              [&](std::int64_t begin, std::int64_t count) {
                attend_tile_bf16(args, task, begin, count, scratch);
              });
  write_rows(args, task, scratch.merged);
}

}  // namespace

const AttentionKernel& attention_bf16_amx() {
  static constexpr AttentionKernel kKernel = {scratch_bytes, run, run_attention_split,
                                              merge_attention_splits};
  return kKernel;
}

}  // namespace llmrun::kernels
