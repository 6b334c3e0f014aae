// Attention over a bf16 cache in AMX, for tasks of many rows: a chunk of a prompt.
//
// Everything is computed transposed, 16 rows at a time: a row is a lane of a register, so that no
// sum or maximum runs across lanes, and keys are multiplied as they lie in the cache.
//   scores^T [kKvTile, 16] = K [kKvTile, D] q^T [D, 16]
//   out^T [D, 16] += V^T [D, kKvTile] weights^T [kKvTile, 16]
// Queries and softmax weights are rounded to bf16, all sums are float32. Tiles of positions begin
// at fixed positions and lanes are independent, so that a row's result depends on no other row.
#include "kernels/cpu/vec_avx512.h"
//
#include <algorithm>
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
constexpr std::int64_t kLanes = Vec::kLanes;  // rows of a group

// A group's rows as lanes: [maximum, sum, position, slope, weighted sum of values of P dimensions].
struct GroupState {
  float* memory;

  float* largest() const { return memory; }
  float* sum() const { return memory + kLanes; }
  float* position() const { return memory + 2 * kLanes; }  // of the row's token in its sequence
  float* slope() const { return memory + 3 * kLanes; }     // ALiBi; 0: none
  float* values() const { return memory + 4 * kLanes; }
  static std::int64_t num_floats(std::int64_t padded) { return (4 + padded) * kLanes; }
};

// Where the parts of a task's scratch memory lie. P = head_dim padded to 32.
struct AmxScratch {
  std::int64_t padded;    // P
  std::uint16_t* q;       // [groups] of tiles [P / 32] of 16 pairs along head_dim, 16 rows; scaled
  std::uint16_t* key;     // [kKvTile, P]
  std::uint16_t* value;   // [P, kKvTile]
  std::uint16_t* weight;  // tiles [kKvTile / 32] of 16 pairs of positions, 16 rows
  float* score;           // [kKvTile, 16]
  float* states;          // [groups] of GroupState

  AmxScratch(void* memory, std::int64_t num_groups, std::int64_t head_dim)
      : padded(round_up(head_dim, kTileDepth)),
        q(static_cast<std::uint16_t*>(memory)),
        key(q + num_groups * kLanes * padded),
        value(key + kKvTile * padded),
        weight(value + padded * kKvTile),
        score(reinterpret_cast<float*>(weight + kKvTile * kLanes)),
        states(score + kKvTile * kLanes) {}

  GroupState state(std::int64_t group) const {
    return {states + group * GroupState::num_floats(padded)};
  }
};

std::int64_t num_groups_of(std::int64_t num_rows) {
  return (num_rows + kLanes - 1) / kLanes;
}

std::size_t scratch_bytes(std::int64_t max_rows, std::int64_t head_dim) {
  const std::int64_t padded = round_up(head_dim, kTileDepth);
  const std::int64_t groups = num_groups_of(max_rows);
  const std::int64_t halves = groups * kLanes * padded + 2 * padded * kKvTile + kKvTile * kLanes;
  const std::int64_t floats = kKvTile * kLanes + groups * GroupState::num_floats(padded);
  return static_cast<std::size_t>(halves) * sizeof(std::uint16_t) +
         static_cast<std::size_t>(floats) * sizeof(float);
}

// Sixteen rows of sixteen pairs of bf16, transposed to `to` with `stride` elements from row to row.
void store_transposed(Vec (&block)[kLanes], std::uint16_t* to, std::int64_t stride) {
  Vec::transpose(block);
#pragma GCC unroll 16
  for (int i = 0; i < kLanes; ++i) {
    _mm512_storeu_si512(to + i * stride, _mm512_castps_si512(block[i].v));
  }
}

// The queries of a group, scaled, and its state before the first tile. Rows beyond the task's are
// 0.
void begin_group(const AttentionArgs& args, const AttentionTask& task, std::int64_t group,
                 const AmxScratch& scratch) {
  const GroupState state = scratch.state(group);
  Vec::broadcast(kNegativeInfinity).store(state.largest());
  for (float* to = state.sum(); to < state.values() + scratch.padded * kLanes; to += kLanes) {
    Vec::broadcast(0.0F).store(to);
  }
  const Vec scale = Vec::broadcast(args.scale);
  std::uint16_t* to = scratch.q + group * kLanes * scratch.padded;
  for (std::int64_t d = 0; d < scratch.padded; d += kTileDepth) {
    Vec block[kLanes];
    for (std::int64_t lane = 0; lane < kLanes; ++lane) {
      const std::int64_t row = group * kLanes + lane;
      const std::int64_t token = task.first_token + row / task.num_heads;
      const std::int64_t head = task.first_head + row % task.num_heads;
      const float* from = args.q + token * args.q_stride + head * args.head_dim;
      const std::int64_t valid = row < task.num_rows() ? args.head_dim : 0;
      alignas(64) std::uint16_t halves[kTileDepth];
      (load_up_to(from, d, valid) * scale).store_bf16(halves);
      (load_up_to(from, d + kLanes, valid) * scale).store_bf16(halves + kLanes);
      block[lane].v = _mm512_castsi512_ps(_mm512_load_si512(halves));
      const std::int64_t position = task.first_position + row / task.num_heads;
      state.position()[lane] = static_cast<float>(position);
      if (args.alibi_slopes != nullptr && valid > 0) state.slope()[lane] = args.alibi_slopes[head];
    }
    store_transposed(block, to, kTileDepth);
    to += kTileElements;
  }
}

void load_keys_bf16(const AttentionArgs& args, const void* const* rows, const AmxScratch& scratch) {
  for (std::int64_t t = 0; t < kKvTile; ++t) {
    for (std::int64_t d = 0; d < scratch.padded; d += kTileDepth) {
      Halves copy;
      _mm512_storeu_si512(scratch.key + t * scratch.padded + d,
                          _mm512_loadu_si512(find_halves(rows[t], d, args.head_dim, copy)));
    }
  }
}

void load_values_bf16(const AttentionArgs& args, const void* const* rows,
                      const AmxScratch& scratch) {
  for (std::int64_t t = 0; t < kKvTile; t += kTileDepth) {
    for (std::int64_t d = 0; d < scratch.padded; d += kTileDepth) {
      Vec first[kLanes];  // a lane is a pair of positions of one dimension
      Vec second[kLanes];
      for (std::int64_t i = 0; i < kLanes; ++i) {
        Halves copies[2];
        Vec::interleave_bf16(find_halves(rows[t + 2 * i], d, args.head_dim, copies[0]),
                             find_halves(rows[t + 2 * i + 1], d, args.head_dim, copies[1]),
                             first[i], second[i]);
      }
      store_transposed(first, scratch.value + d * kKvTile + t, kKvTile);
      store_transposed(second, scratch.value + (d + kLanes) * kKvTile + t, kKvTile);
    }
  }
}

// The order that makes pairs of the two halves of a register.
struct Interleave {
  alignas(64) std::uint16_t halves[32];
  constexpr Interleave() : halves() {
    for (int i = 0; i < 32; ++i) halves[i] = static_cast<std::uint16_t>(i / 2 + i % 2 * 16);
  }
};
constexpr Interleave kInterleave;

// score [kKvTile, 16] = keys times the group's queries.
void multiply_keys(const AmxScratch& scratch, std::int64_t group) {
  const std::uint16_t* q = scratch.q + group * kLanes * scratch.padded;
  const std::int64_t key_bytes = scratch.padded * static_cast<std::int64_t>(sizeof(std::uint16_t));
  const std::int64_t key_rows = kTileRows * scratch.padded;  // to the next 16 positions
  static_assert(kKvTile == 4 * kTileRows);
  _tile_zero(0);
  _tile_zero(1);
  _tile_zero(2);
  _tile_zero(3);
  for (std::int64_t d = 0; d < scratch.padded; d += kTileDepth) {
    const std::uint16_t* key = scratch.key + d;
    _tile_loadd(6, q + d * kLanes, 64);
    _tile_loadd(4, key, key_bytes);
    _tile_dpbf16ps(0, 4, 6);
    _tile_loadd(5, key + key_rows, key_bytes);
    _tile_dpbf16ps(1, 5, 6);
    _tile_loadd(4, key + 2 * key_rows, key_bytes);
    _tile_dpbf16ps(2, 4, 6);
    _tile_loadd(5, key + 3 * key_rows, key_bytes);
    _tile_dpbf16ps(3, 5, 6);
  }
  constexpr std::int64_t kTileFloats = kTileRows * kLanes;
  _tile_stored(0, scratch.score, 64);
  _tile_stored(1, scratch.score + kTileFloats, 64);
  _tile_stored(2, scratch.score + 2 * kTileFloats, 64);
  _tile_stored(3, scratch.score + 3 * kTileFloats, 64);
}

// values [P, 16] += values of the tile times the weights.
void multiply_values(const AmxScratch& scratch, float* values) {
  constexpr std::int64_t kValueBytes = kKvTile * static_cast<std::int64_t>(sizeof(std::uint16_t));
  static_assert(kKvTile == 2 * kTileDepth);
  _tile_loadd(6, scratch.weight, 64);
  _tile_loadd(7, scratch.weight + kTileElements, 64);
  for (std::int64_t d = 0; d < scratch.padded; d += kTileDepth) {
    const std::uint16_t* value = scratch.value + d * kKvTile;
    float* to = values + d * kLanes;
    _tile_loadd(0, to, 64);
    _tile_loadd(1, to + kTileRows * kLanes, 64);
    _tile_loadd(4, value, kValueBytes);
    _tile_dpbf16ps(0, 4, 6);
    _tile_loadd(5, value + kTileRows * kKvTile, kValueBytes);
    _tile_dpbf16ps(1, 5, 6);
    _tile_loadd(4, value + kTileDepth, kValueBytes);
    _tile_dpbf16ps(0, 4, 7);
    _tile_loadd(5, value + kTileRows * kKvTile + kTileDepth, kValueBytes);
    _tile_dpbf16ps(1, 5, 7);
    _tile_stored(0, to, 64);
    _tile_stored(1, to + kTileRows * kLanes, 64);
  }
}

// Softcap, ALiBi and mask of a tile's scores.
void adjust_group(const AttentionArgs& args, std::int64_t begin, bool is_masked,
                  const GroupState& state, float* score) {
  const Vec cap = Vec::broadcast(args.logit_softcap);
  const Vec inverse = Vec::broadcast(1.0F / args.logit_softcap);
  const Vec position = Vec::load(state.position());
  const Vec slope = Vec::load(state.slope());
  const float window =
      args.sliding_window > 0 ? static_cast<float>(args.sliding_window) : -kNegativeInfinity;
  for (std::int64_t t = 0; t < kKvTile; ++t) {
    Vec value = Vec::load(score + t * kLanes);
    const Vec distance = Vec::broadcast(static_cast<float>(begin + t)) - position;
    if (args.logit_softcap > 0) value = cap * tanh(value * inverse);
    if (args.alibi_slopes != nullptr) value = value + slope * distance;
    if (is_masked) {
      const __mmask16 is_past = _mm512_cmp_ps_mask(distance.v, _mm512_setzero_ps(), _CMP_LE_OQ);
      const __mmask16 is_near = _mm512_cmp_ps_mask(distance.v, _mm512_set1_ps(-window), _CMP_GT_OQ);
      value.v = _mm512_mask_mov_ps(_mm512_set1_ps(kNegativeInfinity), is_past & is_near, value.v);
    }
    value.store(score + t * kLanes);
  }
}

// 2^x for x <= 0 with a relative error below 3e-6, far below the rounding of the weights to bf16;
// exactly 1 at 0, exactly 0 at -infinity. Minimax polynomial of 2^r on [-0.5, 0.5].
inline Vec exp2_of_negative(Vec x) {
  const Vec r = {_mm512_reduce_ps(x.v, 0)};  // x - n, n the nearest integer
  const Vec n = x - r;
  Vec p = Vec::broadcast(9.58276633e-3F);
  p = Vec::fma(p, r, Vec::broadcast(5.59064262e-2F));
  p = Vec::fma(p, r, Vec::broadcast(2.40241006e-1F));
  p = Vec::fma(p, r, Vec::broadcast(6.93124175e-1F));
  p = Vec::fma(p, r, Vec::broadcast(1.0F));
  return Vec::scale_by_power_of_two(p, n);
}

// One step of the online softmax: scores become weights, the state is rescaled to the new maximum.
void weigh_group(const AmxScratch& scratch, const GroupState& state) {
  const float* score = scratch.score;
  const Vec old_largest = Vec::load(state.largest());
  Vec maxima[4] = {old_largest, old_largest, old_largest, old_largest};
  for (std::int64_t t = 0; t < kKvTile; t += 4) {
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i)
      maxima[i] = Vec::max(maxima[i], Vec::load(score + (t + i) * kLanes));
  }
  const Vec largest = Vec::max(Vec::max(maxima[0], maxima[1]), Vec::max(maxima[2], maxima[3]));
  // A row that has seen nothing yet: any finite number, so that its weights are 0.
  const __mmask16 is_empty =
      _mm512_cmp_ps_mask(largest.v, _mm512_set1_ps(kNegativeInfinity), _CMP_EQ_OQ);
  const Vec shift = {_mm512_mask_mov_ps(largest.v, is_empty, _mm512_setzero_ps())};
  const Vec log2_e = Vec::broadcast(1.44269504088896341F);
  const Vec minus_shift = Vec::broadcast(0.0F) - shift * log2_e;
  const __m512i interleave = _mm512_load_si512(kInterleave.halves);
  Vec even_sum = Vec::broadcast(0.0F);
  Vec odd_sum = even_sum;
  for (std::int64_t t = 0; t < kKvTile; t += 2) {
    const Vec even = exp2_of_negative(Vec::fma(Vec::load(score + t * kLanes), log2_e, minus_shift));
    const Vec odd =
        exp2_of_negative(Vec::fma(Vec::load(score + (t + 1) * kLanes), log2_e, minus_shift));
    even_sum = even_sum + even;
    odd_sum = odd_sum + odd;
    const __m512i halves = reinterpret_cast<__m512i>(_mm512_cvtne2ps_pbh(odd.v, even.v));
    _mm512_storeu_si512(scratch.weight + t * kLanes, _mm512_permutexvar_epi16(interleave, halves));
  }
  const Vec rescale = exp(old_largest - shift);
  largest.store(state.largest());
  Vec::fma(Vec::load(state.sum()), rescale, even_sum + odd_sum).store(state.sum());
  if (_mm512_cmp_ps_mask(largest.v, old_largest.v, _CMP_NEQ_UQ) == 0) return;
  float* values = state.values();
  for (std::int64_t d = 0; d < scratch.padded; ++d) {
    (Vec::load(values + d * kLanes) * rescale).store(values + d * kLanes);
  }
}

// A tile of positions that begins at `begin`, for the rows of one group.
void attend_group(const AttentionArgs& args, const AttentionTask& task, std::int64_t begin,
                  std::int64_t group, const AmxScratch& scratch) {
  const std::int64_t last_row = std::min((group + 1) * kLanes, task.num_rows()) - 1;
  const std::int64_t first = task.first_position + group * kLanes / task.num_heads;
  const std::int64_t last = task.first_position + last_row / task.num_heads;
  if (last < begin) return;  // the tile is in the future of all of them
  const std::int64_t window = args.sliding_window;
  const bool is_masked = begin + kKvTile - 1 > first || (window > 0 && begin <= last - window);
  const GroupState state = scratch.state(group);
  multiply_keys(scratch, group);
  if (is_masked || args.logit_softcap > 0 || args.alibi_slopes != nullptr) {
    adjust_group(args, begin, is_masked, state, scratch.score);
  }
  weigh_group(scratch, state);
  multiply_values(scratch, state.values());
}

void write_group(const AttentionArgs& args, const AttentionTask& task, std::int64_t group,
                 const AmxScratch& scratch) {
  const GroupState state = scratch.state(group);
  const Vec sum = Vec::load(state.sum());
  const std::int64_t num_rows = std::min(kLanes, task.num_rows() - group * kLanes);
  for (std::int64_t d = 0; d < args.head_dim; d += kLanes) {
    Vec block[kLanes];
    for (std::int64_t i = 0; i < kLanes; ++i) {
      block[i] = Vec::load(state.values() + (d + i) * kLanes) / sum;
    }
    Vec::transpose(block);
    const int count = static_cast<int>(std::min(kLanes, args.head_dim - d));
    for (std::int64_t lane = 0; lane < num_rows; ++lane) {
      const std::int64_t row = group * kLanes + lane;
      const std::int64_t token = task.first_token + row / task.num_heads;
      const std::int64_t head = task.first_head + row % task.num_heads;
      const std::int64_t offset = token * args.out_stride + head * args.head_dim + d;
      const Vec value = block[lane];
      if (args.out_bf16 != nullptr) {
        std::uint16_t* to = args.out_bf16 + offset;
        count == kLanes ? value.store_bf16(to) : value.store_bf16_first(to, count);
      } else {
        float* to = args.out + offset;
        count == kLanes ? value.store(to) : value.store_first(to, count);
      }
    }
  }
}

void run(const AttentionArgs& args, const AttentionTask& task, void* memory) {
  const AmxTiles tiles;
  const std::int64_t num_groups = num_groups_of(task.num_rows());
  const AmxScratch scratch(memory, num_groups, args.head_dim);
  for (std::int64_t group = 0; group < num_groups; ++group) {
    begin_group(args, task, group, scratch);
  }
  const AttentionSpan span = attention_span(args, task);
  for (std::int64_t begin = span.begin / kKvTile * kKvTile; begin < span.end; begin += kKvTile) {
    const std::int64_t count = std::min(kKvTile, span.end - begin);
    const void* rows[kKvTile];
    fetch_rows(args, task, args.value, begin);
    find_rows(args, task, args.key, begin, count, rows);
    load_keys_bf16(args, rows, scratch);
    fetch_rows(args, task, args.key, begin + kKvTile);
    find_rows(args, task, args.value, begin, count, rows);
    load_values_bf16(args, rows, scratch);
    for (std::int64_t group = 0; group < num_groups; ++group) {
      attend_group(args, task, begin, group, scratch);
    }
  }
  for (std::int64_t group = 0; group < num_groups; ++group) {
    write_group(args, task, group, scratch);
  }
}

}  // namespace

const AttentionKernel& attention_bf16_amx() {
  static constexpr AttentionKernel kKernel = {scratch_bytes, run, run_attention_split,
                                              merge_attention_splits};
  return kKernel;
}

}  // namespace llmrun::kernels
