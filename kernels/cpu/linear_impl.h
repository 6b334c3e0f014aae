// The linear kernels that work in vector registers, for any Vec and any way of multiplying.
// Include after one of the vec_*.h headers.
//
// An Op says how one step of the inner loop multiplies: kDepth elements of k, 16 columns of a
// panel.
//   Activation, Weight           element types of packed x and W
//   Operand load(w, v)           lanes [v * kLanes, (v + 1) * kLanes) of one step of a panel
//   Scalar broadcast(a)          kDepth elements of one row of x
//   Vec accumulate(acc, s, o)
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/cpu/linear.h"
#include "kernels/cpu/linear_epilogue_impl.h"

namespace llmrun::kernels {
namespace {

constexpr int kVecsPerPanel = static_cast<int>(kPanelColumns) / Vec::kLanes;
constexpr int kMaxTilePanels = 4;
// Rows whose partial sums wait in scratch between two blocks of k.
constexpr std::int64_t kRowBlock = 240;
constexpr std::size_t kTileScratchBytes =
    static_cast<std::size_t>(kRowBlock) * kMaxTilePanels * kPanelColumns * sizeof(float);

struct OpF32 {
  using Activation = float;
  using Weight = float;
  using Operand = Vec;
  using Scalar = Vec;
  static constexpr int kDepth = 1;
  static Operand load(const Weight* w, int v) { return Vec::load(w + v * Vec::kLanes); }
  static Scalar broadcast(const Activation* a) { return Vec::broadcast(*a); }
  static Vec accumulate(Vec acc, Scalar s, Operand o) { return Vec::fma(s, o, acc); }
};

// bf16 weights widened to float32; activations are float32 values that were rounded to bf16.
struct OpWidenedBf16 {
  using Activation = float;
  using Weight = std::uint16_t;
  struct Operand {
    Vec even, odd;
  };
  struct Scalar {
    Vec even, odd;
  };
  static constexpr int kDepth = 2;
  static Operand load(const Weight* w, int v) {
    Operand result;
    Vec::load_bf16_pairs(w + v * (2 * Vec::kLanes), result.even, result.odd);
    return result;
  }
  static Scalar broadcast(const Activation* a) {
    return {Vec::broadcast(a[0]), Vec::broadcast(a[1])};
  }
  static Vec accumulate(Vec acc, Scalar s, Operand o) {
    return Vec::fma(s.odd, o.odd, Vec::fma(s.even, o.even, acc));
  }
};

template <class Op>
struct TileArgs {
  const typename Op::Activation* a;
  std::int64_t a_stride;  // elements from row to row
  const typename Op::Weight* w;
  std::int64_t panel_stride;  // elements from panel to panel
  std::int64_t num_steps;     // k / Op::kDepth
  float* c;                   // [kRows, kPanels * 16], row stride kMaxTilePanels * 16
  bool accumulate;            // c += instead of c =
  // Weights that are wanted next: one line of each is asked for in every step.
  const typename Op::Weight* fetch[kMaxTilePanels];
};

// kRows rows times kPanels panels, all sums in registers.
template <class Op, int kRows, int kPanels>
void multiply_tile(const TileArgs<Op>& args) {
  constexpr int kVecs = kPanels * kVecsPerPanel;
  constexpr std::int64_t kCStride = kMaxTilePanels * kPanelColumns;
  constexpr std::int64_t kWeightsPerStep = Op::kDepth * kPanelColumns;
  Vec acc[kRows][kVecs];
#pragma GCC unroll 16
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 16
    for (int v = 0; v < kVecs; ++v) {
      acc[r][v] = args.accumulate ? Vec::load(args.c + r * kCStride + v * Vec::kLanes)
                                  : Vec::broadcast(0.0F);
    }
  }
  const typename Op::Activation* a = args.a;
  const typename Op::Weight* w = args.w;
  std::int64_t fetch[kPanels];
#pragma GCC unroll 4
  for (int p = 0; p < kPanels; ++p) fetch[p] = args.fetch[p] - w;
  for (std::int64_t step = 0; step < args.num_steps; ++step) {
#pragma GCC unroll 4
    for (int p = 0; p < kPanels; ++p) __builtin_prefetch(w + fetch[p], 0, 2);
    typename Op::Operand operands[kVecs];
#pragma GCC unroll 16
    for (int v = 0; v < kVecs; ++v) {
      operands[v] = Op::load(w + v / kVecsPerPanel * args.panel_stride, v % kVecsPerPanel);
    }
#pragma GCC unroll 16
    for (int r = 0; r < kRows; ++r) {
      const typename Op::Scalar scalar = Op::broadcast(a + r * args.a_stride);
#pragma GCC unroll 16
      for (int v = 0; v < kVecs; ++v) {
        acc[r][v] = Op::accumulate(acc[r][v], scalar, operands[v]);
      }
    }
    a += Op::kDepth;
    w += kWeightsPerStep;
  }
#pragma GCC unroll 16
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 16
    for (int v = 0; v < kVecs; ++v) acc[r][v].store(args.c + r * kCStride + v * Vec::kLanes);
  }
}

// Sizes of the register tile.
struct TileShape {
  int max_rows;              // rows of a tile, when several passes over the weights are needed
  int single_pass_rows;      // up to so many rows, one pass with fewer panels is taken instead
  int panels[13];            // panels of a tile, by number of rows
  std::int64_t depth_block;  // k of one block, whose weights must stay in L2 while all rows pass
  std::int64_t single_pass_depth;   // k of one block in a single pass; it asks for the next one
  bool fetches_past_range = false;  // asks for what follows the range, too
};

template <class Op, int kRows>
void multiply_tile_panels(const TileArgs<Op>& args, int num_panels) {
  switch (num_panels) {
    case 4: return multiply_tile<Op, kRows, 4>(args);
    case 2: return multiply_tile<Op, kRows, 2>(args);
    default: return multiply_tile<Op, kRows, 1>(args);
  }
}

template <class Op, int kRows>
void multiply_tall_tile_panels(const TileArgs<Op>& args, int num_panels) {
  num_panels == 2 ? multiply_tile<Op, kRows, 2>(args) : multiply_tile<Op, kRows, 1>(args);
}

// 7 to 12 rows of up to 2 panels: only AVX-512 has the registers.
template <class Op>
void multiply_tall_tile(const TileArgs<Op>& args, int num_rows, int num_panels) {
  if constexpr (Vec::kLanes == 16) {
    switch (num_rows) {
      case 7: return multiply_tall_tile_panels<Op, 7>(args, num_panels);
      case 8: return multiply_tall_tile_panels<Op, 8>(args, num_panels);
      case 9: return multiply_tall_tile_panels<Op, 9>(args, num_panels);
      case 10: return multiply_tall_tile_panels<Op, 10>(args, num_panels);
      case 11: return multiply_tall_tile_panels<Op, 11>(args, num_panels);
      default: return multiply_tall_tile_panels<Op, 12>(args, num_panels);
    }
  }
}

template <class Op>
void multiply_tile_rows(const TileArgs<Op>& args, int num_rows, int num_panels) {
  switch (num_rows) {
    case 1: return multiply_tile_panels<Op, 1>(args, num_panels);
    case 2: return multiply_tile_panels<Op, 2>(args, num_panels);
    case 3: return multiply_tile_panels<Op, 3>(args, num_panels);
    case 4: return multiply_tile_panels<Op, 4>(args, num_panels);
    case 5: return multiply_tile_panels<Op, 5>(args, num_panels);
    case 6: return multiply_tile_panels<Op, 6>(args, num_panels);
    default: return multiply_tall_tile<Op>(args, num_rows, num_panels);
  }
}

// The panels of `next` that pass `pass` of `num_passes` over the present weights should ask for, so
// that memory is read while the processor computes: 1.3 times faster at 25 rows on Zen 5.
template <class Op>
void plan_fetch(TileArgs<Op>& tile, const typename Op::Weight* next, int num_panels,
                std::int64_t pass, std::int64_t num_passes) {
  const std::int64_t panels_per_pass = (num_panels + num_passes - 1) / num_passes;
  for (int i = 0; i < num_panels; ++i) {
    const std::int64_t panel = pass * panels_per_pass + i;
    const bool is_wanted = next != nullptr && i < panels_per_pass && panel < num_panels;
    tile.fetch[i] = is_wanted ? next + panel * tile.panel_stride : tile.w;
  }
}

// Blocks of equal length, up to alignment: each asks for as many weights as the next one reads.
inline std::int64_t equal_blocks(std::int64_t depth, std::int64_t max_block) {
  const std::int64_t num_blocks = (depth + max_block - 1) / max_block;
  const std::int64_t block = (depth + num_blocks - 1) / num_blocks;
  return (block + kDepthAlignment - 1) / kDepthAlignment * kDepthAlignment;
}

// All rows of the range over `num_panels` neighbouring panels. `has_next`: the panels that follow
// will be wanted next.
template <class Op, const TileShape& kShape>
void run_panels(const LinearArgs& args, std::int64_t row_begin, std::int64_t row_end,
                std::int64_t panel, int num_panels, bool has_next, float* scratch) {
  constexpr std::int64_t kCStride = kMaxTilePanels * kPanelColumns;
  const std::int64_t a_stride = args.activation_stride;
  const std::int64_t num_rows = row_end - row_begin;
  const std::int64_t num_groups =
      num_rows <= kShape.single_pass_rows ? 1 : (num_rows + kShape.max_rows - 1) / kShape.max_rows;
  TileArgs<Op> tile;
  tile.a_stride = a_stride;
  tile.panel_stride = args.panel_stride;
  const auto* weight =
      static_cast<const typename Op::Weight*>(args.weight) + panel * tile.panel_stride;
  const std::int64_t depth_block =
      equal_blocks(args.depth, num_groups == 1 ? kShape.single_pass_depth : kShape.depth_block);
  for (std::int64_t k = 0; k < args.depth; k += depth_block) {
    const std::int64_t rest = args.depth - k;
    const bool is_last = rest <= depth_block;
    tile.num_steps = (is_last ? rest : depth_block) / Op::kDepth;
    tile.w = weight + k * kPanelColumns;
    tile.accumulate = k > 0;
    const typename Op::Weight* next = tile.w + depth_block * kPanelColumns;
    if (is_last) {
      next =
          has_next ? tile.w + (num_panels - 1) * tile.panel_stride + rest * kPanelColumns : nullptr;
    }
    std::int64_t row = 0;
    for (std::int64_t group = 0; group < num_groups; ++group) {
      const auto rows = static_cast<int>((num_rows - row) / (num_groups - group));
      tile.a = static_cast<const typename Op::Activation*>(args.activations) +
               (row_begin + row) * a_stride + k;
      tile.c = scratch + row * kCStride;
      plan_fetch(tile, next, num_panels, group, num_groups);
      multiply_tile_rows<Op>(tile, rows, num_panels);
      if (is_last) finish_tile(args, tile.c, kCStride, row_begin + row, rows, panel, num_panels);
      row += rows;
    }
  }
}

template <class Op, const TileShape& kShape>
void run_linear(const LinearArgs& args, const LinearRange& range, void* scratch) {
  for (std::int64_t row = range.row_begin; row < range.row_end; row += kRowBlock) {
    const std::int64_t row_end = row + kRowBlock < range.row_end ? row + kRowBlock : range.row_end;
    const std::int64_t rows = row_end - row;
    int wanted = kShape.panels[rows <= kShape.single_pass_rows ? rows : kShape.max_rows];
    if (args.epilogue == LinearEpilogue::kGateMul && wanted < 2) wanted = 2;
    std::int64_t panel = range.panel_begin;
    while (panel < range.panel_end) {
      int num_panels = wanted;
      while (panel + num_panels > range.panel_end) num_panels /= 2;
      const bool has_next =
          panel + num_panels < range.panel_end ||
          (kShape.fetches_past_range && range.has_next && row_end == range.row_end);
      run_panels<Op, kShape>(args, row, row_end, panel, num_panels, has_next,
                             static_cast<float*>(scratch));
      panel += num_panels;
    }
  }
}

// x rounded to bf16 and kept as float32, [num_rows, padded_depth].
inline void pack_rounded_activations(void* packed, const ActivationSource& source,
                                     const PackRange& range) {
  for (std::int64_t row = range.row_begin; row < range.row_end; ++row) {
    float* to = static_cast<float*>(packed) + row * source.padded_depth;
    for (std::int64_t k = range.depth_begin; k < range.depth_end; k += Vec::kLanes) {
      alignas(64) std::uint16_t halves[Vec::kLanes];
      load_up_to(source.x + row * source.stride, k, source.depth).store_bf16(halves);
      Vec::load_bf16(halves).store(to + k);
    }
  }
}

}  // namespace
}  // namespace llmrun::kernels
