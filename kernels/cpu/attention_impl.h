// Attention for any Vec. Include after one of the vec_*.h headers. See attention.h.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/cpu/attention.h"
#include "kernels/cpu/vec_math.h"

namespace llmrun::kernels {
namespace {

constexpr float kNegativeInfinity = -__builtin_inff();

// Register tile of the small products: kMaxRows rows times up to kMaxVecs registers of columns. The
// even and odd elements of pairs take twice the registers.
template <bool kIsBf16>
constexpr int kMaxRows = Vec::kLanes < 16 ? 4 : (kIsBf16 ? 5 : 6);
constexpr int kMaxVecs = Vec::kLanes == 16 ? 4 : 2;

inline std::int64_t round_up(std::int64_t value, std::int64_t multiple) {
  return (value + multiple - 1) / multiple * multiple;
}

// Where the parts of a task's scratch memory lie. R rows, P = head_dim padded to 16. Keys and
// values of a bf16 cache stay in bf16 as pairs, which the products widen: pairs of dimensions of a
// key, pairs of positions of values.
struct AttentionScratch {
  float* q;       // [R, P], scaled
  float* key;     // [P, kKvTile], transposed; or pairs [P / 2, kKvTile]
  float* value;   // [kKvTile, P]; or pairs [kKvTile / 2, P]
  float* score;   // [R, kKvTile]
  float* state;   // [R, 2 + P] as attention_state_floats
  float* merged;  // [R, 2 + P]

  AttentionScratch(void* memory, std::int64_t rows, std::int64_t head_dim)
      : q(static_cast<float*>(memory)),
        key(q + rows * round_up(head_dim, 16)),
        value(key + round_up(head_dim, 16) * kKvTile),
        score(value + round_up(head_dim, 16) * kKvTile),
        state(score + rows * kKvTile),
        merged(state + rows * state_floats(head_dim)) {}

  static std::int64_t state_floats(std::int64_t head_dim) { return 16 + round_up(head_dim, 16); }
  static std::size_t bytes(std::int64_t rows, std::int64_t head_dim) {
    const std::int64_t padded = round_up(head_dim, 16);
    return static_cast<std::size_t>(rows * (padded + kKvTile + 2 * state_floats(head_dim)) +
                                    2 * padded * kKvTile) *
           sizeof(float);
  }
};

// One row's running softmax inside a state: [maximum, sum, 14 unused, weighted sum of values].
inline float& state_max(float* state) {
  return state[0];
}
inline float& state_sum(float* state) {
  return state[1];
}
inline float* state_values(float* state) {
  return state + 16;
}
inline const float* state_values(const float* state) {
  return state + 16;
}

struct ProductArgs {
  const float* a;  // [rows, a_stride]
  std::int64_t a_stride;
  const float* b;  // [depth, b_stride], or pairs of bf16 [depth / 2, b_stride]
  std::int64_t b_stride;
  std::int64_t depth;  // of pairs: an odd depth takes one element more of a, too
  float* c;            // [rows, c_stride]
  std::int64_t c_stride;
  bool accumulate;  // c += instead of c =
};

// c = a b for kRows rows and kVecs registers of columns; one accumulator per element, k ascending.
template <bool kIsBf16, int kRows, int kVecs>
void multiply_registers(const ProductArgs& args) {
  Vec acc[kRows][kVecs];
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 8
    for (int v = 0; v < kVecs; ++v) {
      acc[r][v] = args.accumulate ? Vec::load(args.c + r * args.c_stride + v * Vec::kLanes)
                                  : Vec::broadcast(0.0F);
    }
  }
  constexpr std::int64_t kStep = kIsBf16 ? 2 : 1;
  const float* b = args.b;
  for (std::int64_t k = 0; k < args.depth; k += kStep, b += args.b_stride) {
    Vec row[kStep][kVecs];
#pragma GCC unroll 8
    for (int v = 0; v < kVecs; ++v) {
      if constexpr (kIsBf16) {
        Vec::load_bf16_pairs(reinterpret_cast<const std::uint16_t*>(b + v * Vec::kLanes), row[0][v],
                             row[1][v]);
      } else {
        row[0][v] = Vec::load(b + v * Vec::kLanes);
      }
    }
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 2
      for (int i = 0; i < kStep; ++i) {
        const Vec scalar = Vec::broadcast(args.a[r * args.a_stride + k + i]);
#pragma GCC unroll 8
        for (int v = 0; v < kVecs; ++v) acc[r][v] = Vec::fma(scalar, row[i][v], acc[r][v]);
      }
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 8
    for (int v = 0; v < kVecs; ++v) acc[r][v].store(args.c + r * args.c_stride + v * Vec::kLanes);
  }
}

template <bool kIsBf16, int kVecs>
void multiply_rows(const ProductArgs& args, std::int64_t num_rows) {
  switch (num_rows) {
    case 1: return multiply_registers<kIsBf16, 1, kVecs>(args);
    case 2: return multiply_registers<kIsBf16, 2, kVecs>(args);
    case 3: return multiply_registers<kIsBf16, 3, kVecs>(args);
    case 4: return multiply_registers<kIsBf16, 4, kVecs>(args);
    case 5: return multiply_registers<kIsBf16, 5, kVecs>(args);
    default: return multiply_registers<kIsBf16, 6, kVecs>(args);
  }
}

// c = a b (or +=), num_columns a multiple of 16; b and c are padded to that.
template <bool kIsBf16>
void multiply(ProductArgs args, std::int64_t num_rows, std::int64_t num_columns) {
  const ProductArgs first = args;
  const std::int64_t num_groups = (num_rows + kMaxRows<kIsBf16> - 1) / kMaxRows<kIsBf16>;
  for (std::int64_t column = 0; column < num_columns;) {
    const std::int64_t vecs_left = (num_columns - column) / Vec::kLanes;
    const int vecs = vecs_left >= kMaxVecs ? kMaxVecs : (vecs_left >= 2 ? 2 : 1);
    args.b = first.b + column;
    std::int64_t row = 0;
    for (std::int64_t group = 0; group < num_groups; ++group) {
      const std::int64_t rows = (num_rows - row) / (num_groups - group);
      args.a = first.a + row * args.a_stride;
      args.c = first.c + row * args.c_stride + column;
      switch (vecs) {
        case 4: multiply_rows<kIsBf16, 4>(args, rows); break;
        case 2: multiply_rows<kIsBf16, 2>(args, rows); break;
        default: multiply_rows<kIsBf16, 1>(args, rows); break;
      }
      row += rows;
    }
    column += vecs * Vec::kLanes;
  }
}

// Elements [i, i + 2 kLanes) of a row of `size` bf16, where they lie or else in `copy`; beyond its
// end 0.
struct Halves {
  alignas(64) std::uint16_t elements[2 * Vec::kLanes];
};
inline const std::uint16_t* find_halves(const void* row, std::int64_t i, std::int64_t size,
                                        Halves& copy) {
  const auto* p = static_cast<const std::uint16_t*>(row) + i;
  const std::int64_t rest = size - i;
  if (rest >= 2 * Vec::kLanes) return p;
  copy = {};
  for (std::int64_t j = 0; j < rest; ++j) copy.elements[j] = p[j];
  return copy.elements;
}

// The cached rows of `count` positions from `begin` on, as pointers to keys (or values); the last
// one repeated up to kKvTile.
inline void find_rows(const AttentionArgs& args, const AttentionTask& task, const void* cache,
                      std::int64_t begin, std::int64_t count, const void** rows) {
  const std::int64_t row_bytes = args.head_dim * (args.is_bf16 ? 2 : 4);
  const std::int64_t head_bytes = args.block_size * row_bytes;
  const std::int32_t* block = task.block_table + begin / args.block_size;
  std::int64_t offset = begin % args.block_size;
  for (std::int64_t i = 0; i < count; ++block, offset = 0) {
    const char* head =
        static_cast<const char*>(cache) + (*block * args.num_kv_heads + task.kv_head) * head_bytes;
    for (; offset < args.block_size && i < count; ++offset, ++i)
      rows[i] = head + offset * row_bytes;
  }
  for (std::int64_t i = count; i < kKvTile; ++i) rows[i] = rows[count - 1];
}

// A register's worth of kLanes keys, from dimension `d` on, to their rows of `key`, transposed.
template <bool kIsBf16>
void load_key_block(const void* const* rows, std::int64_t d, std::int64_t head_dim, float* key) {
  constexpr std::int64_t kPerLane = kIsBf16 ? 2 : 1;
  Vec block[Vec::kLanes];
#pragma GCC unroll 16
  for (int i = 0; i < Vec::kLanes; ++i) {
    if constexpr (kIsBf16) {
      Halves copy;
      block[i] = Vec::load(reinterpret_cast<const float*>(find_halves(rows[i], d, head_dim, copy)));
    } else {
      block[i] = load_up_to(static_cast<const float*>(rows[i]), d, head_dim);
    }
  }
  Vec::transpose(block);
  const std::int64_t lanes = (round_up(head_dim, 16) - d) / kPerLane;
#pragma GCC unroll 16
  for (int i = 0; i < Vec::kLanes; ++i) {
    if (i < lanes) block[i].store(key + (d / kPerLane + i) * kKvTile);
  }
}

// Keys of a tile to scratch.key, transposed; positions from `count` on repeat the last one, so that
// they hold finite numbers.
template <bool kIsBf16>
void load_keys(const AttentionArgs& args, const void* const* rows, std::int64_t count, float* key) {
  constexpr std::int64_t kDimensions = (kIsBf16 ? 2 : 1) * Vec::kLanes;
  for (std::int64_t t = 0; t < count; t += Vec::kLanes) {
    for (std::int64_t d = 0; d < args.head_dim; d += kDimensions) {
      load_key_block<kIsBf16>(rows + t, d, args.head_dim, key + t);
    }
  }
}

// Values of a tile to scratch.value; dimensions from head_dim on are 0.
inline void load_values_f32(const AttentionArgs& args, const void* const* rows, std::int64_t count,
                            float* value) {
  const std::int64_t padded = round_up(args.head_dim, 16);
  for (std::int64_t t = 0; t < count; ++t) {
    for (std::int64_t d = 0; d < padded; d += Vec::kLanes) {
      const Vec elements = load_up_to(static_cast<const float*>(rows[t]), d, args.head_dim);
      elements.store(value + t * padded + d);
    }
  }
}

inline void load_values_bf16(const AttentionArgs& args, const void* const* rows, std::int64_t count,
                             float* value) {
  const std::int64_t padded = round_up(args.head_dim, 16);
  for (std::int64_t t = 0; t < count; t += 2) {
    for (std::int64_t d = 0; d < padded; d += 2 * Vec::kLanes) {
      Halves copies[2];
      Vec low;
      Vec high;
      Vec::interleave_bf16(find_halves(rows[t], d, args.head_dim, copies[0]),
                           find_halves(rows[t + 1], d, args.head_dim, copies[1]), low, high);
      float* to = value + t / 2 * padded + d;
      low.store(to);
      if (d + Vec::kLanes < padded) high.store(to + Vec::kLanes);
    }
  }
}

// Asks for the cached rows of up to kKvTile positions from `begin` on.
inline void fetch_rows(const AttentionArgs& args, const AttentionTask& task, const void* cache,
                       std::int64_t begin) {
  const std::int64_t rest = attention_span(args, task).end - begin;
  if (rest <= 0) return;
  const std::int64_t count = rest < kKvTile ? rest : kKvTile;
  const void* rows[kKvTile];
  find_rows(args, task, cache, begin, count, rows);
  const std::int64_t row_bytes = args.head_dim * (args.is_bf16 ? 2 : 4);
  for (std::int64_t i = 0; i < count; ++i) {
    for (std::int64_t byte = 0; byte < row_bytes; byte += 64) {
      __builtin_prefetch(static_cast<const char*>(rows[i]) + byte, 0, 2);
    }
  }
}

// The keys and values that follow are asked for early, since they come from memory.
template <bool kIsBf16>
void load_tile(const AttentionArgs& args, const AttentionTask& task, std::int64_t begin,
               std::int64_t count, const AttentionScratch& scratch) {
  const void* rows[kKvTile];
  fetch_rows(args, task, args.value, begin);
  find_rows(args, task, args.key, begin, count, rows);
  load_keys<kIsBf16>(args, rows, count, scratch.key);
  fetch_rows(args, task, args.key, begin + kKvTile);
  find_rows(args, task, args.value, begin, count, rows);
  if constexpr (kIsBf16) {
    load_values_bf16(args, rows, count, scratch.value);
  } else {
    load_values_f32(args, rows, count, scratch.value);
  }
}

// The positions a row sees, relative to a tile that begins at `begin`: [first, last).
struct Visible {
  std::int64_t first, last;
};

inline Visible visible_in_tile(const AttentionArgs& args, std::int64_t position,
                               std::int64_t begin) {
  const std::int64_t window_begin =
      args.sliding_window > 0 ? position - args.sliding_window + 1 - begin : 0;
  const std::int64_t last = position + 1 - begin;
  return {window_begin > 0 ? window_begin : 0, last < kKvTile ? last : kKvTile};
}

// Softcap, ALiBi and mask of one row of scores.
inline void adjust_scores(const AttentionArgs& args, float* score, Visible visible,
                          std::int64_t query_head, std::int64_t distance) {
  if (args.logit_softcap > 0) {
    const Vec cap = Vec::broadcast(args.logit_softcap);
    const Vec inverse = Vec::broadcast(1.0F / args.logit_softcap);
    for (std::int64_t t = 0; t < kKvTile; t += Vec::kLanes) {
      (cap * tanh(Vec::load(score + t) * inverse)).store(score + t);
    }
  }
  if (args.alibi_slopes != nullptr) {
    const float slope = args.alibi_slopes[query_head];
    for (std::int64_t t = 0; t < kKvTile; ++t) {
      score[t] += slope * static_cast<float>(distance + t);
    }
  }
  for (std::int64_t t = 0; t < visible.first; ++t) score[t] = kNegativeInfinity;
  for (std::int64_t t = visible.last; t < kKvTile; ++t) score[t] = kNegativeInfinity;
}

// One step of the online softmax: scores become weights, the state is rescaled to the new maximum.
inline void update_state(float* score, float* state, std::int64_t padded) {
  Vec largest = Vec::load(score);
  for (std::int64_t t = Vec::kLanes; t < kKvTile; t += Vec::kLanes) {
    largest = Vec::max(largest, Vec::load(score + t));
  }
  const float old_max = state_max(state);
  const float tile_max = largest.largest();
  const float new_max = tile_max > old_max ? tile_max : old_max;
  const Vec shift = Vec::broadcast(new_max);
  Vec sum = Vec::broadcast(0.0F);
  for (std::int64_t t = 0; t < kKvTile; t += Vec::kLanes) {
    const Vec weight = exp(Vec::load(score + t) - shift);
    weight.store(score + t);
    sum = sum + weight;
  }
  const float tile_sum = sum.sum();
  if (new_max == old_max) {
    state_sum(state) += tile_sum;
    return;
  }
  const Vec rescale = exp(Vec::broadcast(old_max) - shift);
  alignas(64) float lanes[Vec::kLanes];
  rescale.store(lanes);
  state_max(state) = new_max;
  state_sum(state) = state_sum(state) * lanes[0] + tile_sum;
  float* values = state_values(state);
  for (std::int64_t d = 0; d < padded; d += Vec::kLanes) {
    (Vec::load(values + d) * rescale).store(values + d);
  }
}

// One tile of one split for all rows of a task.
template <bool kIsBf16>
void attend_tile(const AttentionArgs& args, const AttentionTask& task, std::int64_t begin,
                 std::int64_t count, float* states, const AttentionScratch& scratch) {
  const std::int64_t padded = round_up(args.head_dim, 16);
  const std::int64_t state_stride = AttentionScratch::state_floats(args.head_dim);
  const std::int64_t num_rows = task.num_rows();
  // Rows of tokens before the tile see nothing of it.
  const std::int64_t first_token = begin > task.first_position ? begin - task.first_position : 0;
  const std::int64_t first_row = first_token * task.num_heads;

  multiply<kIsBf16>({.a = scratch.q + first_row * padded,
                     .a_stride = padded,
                     .b = scratch.key,
                     .b_stride = kKvTile,
                     .depth = args.head_dim,
                     .c = scratch.score + first_row * kKvTile,
                     .c_stride = kKvTile,
                     .accumulate = false},
                    num_rows - first_row, round_up(count, 16));
  for (std::int64_t row = first_row; row < num_rows; ++row) {
    const std::int64_t position = task.first_position + row / task.num_heads;
    const std::int64_t head = task.first_head + row % task.num_heads;
    const Visible visible = visible_in_tile(args, position, begin);
    float* score = scratch.score + row * kKvTile;
    if (visible.first >= visible.last) {  // before this row's window
      for (std::int64_t t = 0; t < kKvTile; ++t) score[t] = 0.0F;
      continue;
    }
    adjust_scores(args, score, visible, head, begin - position);
    update_state(score, states + row * state_stride, padded);
  }
  multiply<kIsBf16>({.a = scratch.score + first_row * kKvTile,
                     .a_stride = kKvTile,
                     .b = scratch.value,
                     .b_stride = padded,
                     .depth = count,
                     .c = state_values(states + first_row * state_stride),
                     .c_stride = state_stride,
                     .accumulate = true},
                    num_rows - first_row, padded);
}

inline void clear_states(float* states, std::int64_t num_rows, std::int64_t state_stride) {
  for (std::int64_t i = 0; i < num_rows * state_stride; ++i) states[i] = 0.0F;
  for (std::int64_t row = 0; row < num_rows; ++row) {
    state_max(states + row * state_stride) = kNegativeInfinity;
  }
}

// merged <- merged and state, as if the softmax had run over both.
inline void merge_state(float* merged, const float* state, std::int64_t padded) {
  if (state[0] == kNegativeInfinity) return;  // the split showed this row nothing
  const float new_max = state[0] > merged[0] ? state[0] : merged[0];
  const Vec shift = Vec::broadcast(new_max);
  const Vec old_scale = exp(Vec::broadcast(merged[0]) - shift);
  const Vec scale = exp(Vec::broadcast(state[0]) - shift);
  alignas(64) float sums[Vec::kLanes];
  Vec::fma(Vec::broadcast(merged[1]), old_scale, Vec::broadcast(state[1]) * scale).store(sums);
  merged[0] = new_max;
  merged[1] = sums[0];
  float* to = state_values(merged);
  const float* from = state_values(state);
  for (std::int64_t d = 0; d < padded; d += Vec::kLanes) {
    Vec::fma(Vec::load(to + d), old_scale, Vec::load(from + d) * scale).store(to + d);
  }
}

inline void write_rows(const AttentionArgs& args, const AttentionTask& task, float* merged) {
  const std::int64_t state_stride = AttentionScratch::state_floats(args.head_dim);
  for (std::int64_t row = 0; row < task.num_rows(); ++row) {
    const std::int64_t token = task.first_token + row / task.num_heads;
    const std::int64_t head = task.first_head + row % task.num_heads;
    float* state = merged + row * state_stride;
    const std::int64_t offset = token * args.out_stride + head * args.head_dim;
    const Vec sum = Vec::broadcast(state_sum(state));
    for (std::int64_t d = 0; d < args.head_dim; d += Vec::kLanes) {
      const Vec value = Vec::load(state_values(state) + d) / sum;
      const std::int64_t rest = args.head_dim - d;
      const bool is_whole = rest >= Vec::kLanes;
      if (args.out_bf16 != nullptr) {
        std::uint16_t* out = args.out_bf16 + offset + d;
        is_whole ? value.store_bf16(out) : value.store_bf16_first(out, static_cast<int>(rest));
      } else {
        float* out = args.out + offset + d;
        is_whole ? value.store(out) : value.store_first(out, static_cast<int>(rest));
      }
    }
  }
}

// The task's queries to scratch, scaled and zero padded.
inline void load_queries(const AttentionArgs& args, const AttentionTask& task, float* q) {
  const std::int64_t padded = round_up(args.head_dim, 16);
  const Vec scale = Vec::broadcast(args.scale);
  for (std::int64_t row = 0; row < task.num_rows(); ++row) {
    const std::int64_t token = task.first_token + row / task.num_heads;
    const std::int64_t head = task.first_head + row % task.num_heads;
    const float* from = args.q + token * args.q_stride + head * args.head_dim;
    for (std::int64_t d = 0; d < padded; d += Vec::kLanes) {
      (load_up_to(from, d, args.head_dim) * scale).store(q + row * padded + d);
    }
  }
}

// Walks over the tiles of one split: attend(begin, count) takes them into `states`.
template <class Attend>
void walk_split(const AttentionArgs& args, const AttentionTask& task, std::int64_t split,
                const Attend& attend) {
  const AttentionSpan span = attention_span(args, task);
  for (std::int64_t tile = split * kTilesPerSplit; tile < (split + 1) * kTilesPerSplit; ++tile) {
    const std::int64_t begin = tile * kKvTile;
    if (begin + kKvTile <= span.begin) continue;
    if (begin >= span.end) break;
    attend(begin, span.end - begin < kKvTile ? span.end - begin : kKvTile);
  }
}

// All splits of a task in ascending order; the rows of `states` and `merged` hold one split's
// state and the result.
template <class Attend>
void walk_splits(const AttentionArgs& args, const AttentionTask& task, float* states, float* merged,
                 const Attend& attend) {
  const std::int64_t num_rows = task.num_rows();
  const std::int64_t state_stride = AttentionScratch::state_floats(args.head_dim);
  const AttentionSpan span = attention_span(args, task);
  clear_states(merged, num_rows, state_stride);
  for (std::int64_t split = span.begin / kKvSplit; split * kKvSplit < span.end; ++split) {
    clear_states(states, num_rows, state_stride);
    walk_split(args, task, split, attend);
    for (std::int64_t row = 0; row < num_rows; ++row) {
      merge_state(merged + row * state_stride, states + row * state_stride, state_stride - 16);
    }
  }
}

inline void load_and_attend(const AttentionArgs& args, const AttentionTask& task,
                            std::int64_t begin, std::int64_t count, float* states,
                            const AttentionScratch& scratch) {
  if (args.is_bf16) {
    load_tile<true>(args, task, begin, count, scratch);
    attend_tile<true>(args, task, begin, count, states, scratch);
  } else {
    load_tile<false>(args, task, begin, count, scratch);
    attend_tile<false>(args, task, begin, count, states, scratch);
  }
}

inline void run_attention(const AttentionArgs& args, const AttentionTask& task, void* memory) {
  const AttentionScratch scratch(memory, task.num_rows(), args.head_dim);
  load_queries(args, task, scratch.q);
  walk_splits(args, task, scratch.state, scratch.merged,
              [&](std::int64_t begin, std::int64_t count) {
                load_and_attend(args, task, begin, count, scratch.state, scratch);
              });
  write_rows(args, task, scratch.merged);
}

inline void run_attention_split(const AttentionArgs& args, const AttentionTask& task,
                                std::int64_t split, float* state, void* memory) {
  const AttentionScratch scratch(memory, task.num_rows(), args.head_dim);
  load_queries(args, task, scratch.q);
  clear_states(state, task.num_rows(), AttentionScratch::state_floats(args.head_dim));
  walk_split(args, task, split, [&](std::int64_t begin, std::int64_t count) {
    load_and_attend(args, task, begin, count, state, scratch);
  });
}

inline void merge_attention_splits(const AttentionArgs& args, const AttentionTask& task,
                                   std::int64_t num_splits, const float* states, void* memory) {
  const std::int64_t num_rows = task.num_rows();
  const std::int64_t state_stride = AttentionScratch::state_floats(args.head_dim);
  const AttentionScratch scratch(memory, num_rows, args.head_dim);
  clear_states(scratch.merged, num_rows, state_stride);
  for (std::int64_t split = 0; split < num_splits; ++split) {
    for (std::int64_t row = 0; row < num_rows; ++row) {
      merge_state(scratch.merged + row * state_stride,
                  states + (split * num_rows + row) * state_stride, state_stride - 16);
    }
  }
  write_rows(args, task, scratch.merged);
}

inline std::size_t attention_scratch_bytes(std::int64_t max_rows, std::int64_t head_dim) {
  return AttentionScratch::bytes(max_rows, head_dim);
}

constexpr AttentionKernel kAttention = {attention_scratch_bytes, run_attention, run_attention_split,
                                        merge_attention_splits};

}  // namespace
}  // namespace llmrun::kernels
