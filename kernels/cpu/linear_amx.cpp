// The bf16 linear kernel in AMX: 32 rows times 32 columns at a time in four tiles of sums.
#include "kernels/cpu/vec_avx512.h"
//
#include <cstddef>
#include <cstdint>
#include <utility>

#include "kernels/cpu/amx_tiles.h"
#include "kernels/cpu/linear.h"
#include "kernels/cpu/linear_bf16_rows.h"
#include "kernels/cpu/linear_epilogue_impl.h"

namespace llmrun::kernels {
namespace {

constexpr std::int64_t kTileRows = 16;
constexpr std::int64_t kTileDepth = 32;
constexpr std::int64_t kTileElements = kTileRows * kTileDepth;
constexpr std::int64_t kBlockRows = 2 * kTileRows;    // rows of one register block
constexpr std::int64_t kCStride = 2 * kPanelColumns;  // columns of one register block
constexpr std::int64_t kBlockSums = kBlockRows * kCStride;
constexpr std::size_t kScratchBytes = static_cast<std::size_t>(2 * kBlockSums) * sizeof(float);

// What is done between the products of a block, since tiles, vectors and loads have units of their
// own: the epilogue of the block before, a few rows at a time, and asking for the weights of the
// panels that come next.
class SideWork {
 public:
  explicit SideWork(const LinearArgs& args) : args_(args) {}

  // c holds the sums of these rows and panels.
  void begin_epilogue(const float* c, std::int64_t row, std::int64_t num_rows, std::int64_t panel,
                      std::int64_t num_panels) {
    c_ = c;
    row_ = row;
    row_end_ = row + num_rows;
    panel_ = panel;
    num_panels_ = num_panels;
  }
  void begin_fetch(const std::uint16_t* weight, std::int64_t num_elements) {
    fetch_ = weight;
    fetch_end_ = weight + num_elements;
  }
  // A share for each of a block's `num_steps` steps, so that the epilogue is done by the last and
  // the weights after `num_blocks` blocks.
  void plan(std::int64_t num_steps, std::int64_t num_blocks) {
    rows_per_step_ = (kBlockRows + num_steps - 1) / num_steps;
    lines_per_step_ = (2 * kTileRows + num_blocks - 1) / num_blocks;
  }
  void step() {
    finish_rows(rows_per_step_);
    for (std::int64_t i = 0; i < lines_per_step_ && fetch_ < fetch_end_; ++i, fetch_ += 32) {
      __builtin_prefetch(fetch_, 0, 2);
    }
  }
  void finish_rows(std::int64_t count) {
    for (; count > 0 && row_ < row_end_; --count, ++row_, c_ += kCStride) {
      finish_tile(args_, c_, kCStride, row_, 1, panel_, num_panels_);
    }
  }

 private:
  const LinearArgs& args_;
  const float* c_ = nullptr;
  std::int64_t row_ = 0;
  std::int64_t row_end_ = 0;
  std::int64_t panel_ = 0;
  std::int64_t num_panels_ = 0;
  const std::uint16_t* fetch_ = nullptr;
  const std::uint16_t* fetch_end_ = nullptr;
  std::int64_t rows_per_step_ = 1;
  std::int64_t lines_per_step_ = 1;
};

// Up to 32 rows of activations times two panels of weights, or a part of that.
struct BlockArgs {
  const std::uint16_t* a;  // the first row
  std::int64_t a_stride;   // elements from row to row
  const std::uint16_t* w;  // tiles of the first panel
  std::int64_t w_stride;   // elements to the next panel
  std::int64_t num_tiles;  // along k
  float* c;                // [32, kCStride]
};

// Asks for a tile of weights that comes from memory.
inline void fetch_tile(const std::uint16_t* tile) {
#pragma GCC unroll 16
  for (std::int64_t i = 0; i < kTileElements; i += 32) __builtin_prefetch(tile + i, 0, 2);
}

// Tiles: 0-3 sums, 4 and 5 activations, 6 weights.
// kFetch: the weights have not been asked for. kIsWhole: 32 rows times two panels. They do without
// tile 5 and load 16 rows twice instead: threads that share a core have about ten registers for
// tiles each, and what is loaded or multiplied needs a free one until all before it is done.
// Sixteen threads on eight cores, operands in the second-level cache, products at 18.6 TFLOP/s from
// registers: 6.2 with eight tiles in use, 7.6 with seven, 8.4 with six
// (results/cpu-amx-xeon-16c/tile-registers.txt).
template <bool kTwoRows, bool kTwoPanels, bool kFetch, bool kIsWhole = false>
void multiply_block(const BlockArgs& args, SideWork& side_work) {
  static_assert(!kIsWhole || (kTwoRows && kTwoPanels));
  _tile_zero(0);
  if constexpr (kTwoPanels) _tile_zero(1);
  if constexpr (kTwoRows) _tile_zero(2);
  if constexpr (kTwoRows && kTwoPanels) _tile_zero(3);
  const std::uint16_t* a = args.a;
  const std::uint16_t* w = args.w;
  const std::int64_t a_bytes = args.a_stride * static_cast<std::int64_t>(sizeof(std::uint16_t));
  constexpr std::int64_t kAheadElements = 4 * kTileElements;
  for (std::int64_t k = 0; k < args.num_tiles; ++k) {
    _tile_loadd(6, w, 64);
    _tile_loadd(4, a, a_bytes);
    _tile_dpbf16ps(0, 4, 6);
    if constexpr (kIsWhole) {
      _tile_loadd(4, a + kTileRows * args.a_stride, a_bytes);
      _tile_dpbf16ps(2, 4, 6);
      _tile_loadd(6, w + args.w_stride, 64);
      _tile_dpbf16ps(3, 4, 6);
      _tile_loadd(4, a, a_bytes);
      _tile_dpbf16ps(1, 4, 6);
    } else {
      if constexpr (kTwoRows) {
        _tile_loadd(5, a + kTileRows * args.a_stride, a_bytes);
        _tile_dpbf16ps(2, 5, 6);
      }
      if constexpr (kTwoPanels) {
        _tile_loadd(6, w + args.w_stride, 64);
        _tile_dpbf16ps(1, 4, 6);
        if constexpr (kTwoRows) _tile_dpbf16ps(3, 5, 6);
      }
    }
    if constexpr (kFetch) {
      fetch_tile(w + kAheadElements);
      if constexpr (kTwoPanels) fetch_tile(w + args.w_stride + kAheadElements);
    }
    side_work.step();
    a += kTileDepth;
    w += kTileElements;
  }
  constexpr std::int64_t kCBytes = kCStride * static_cast<std::int64_t>(sizeof(float));
  float* c_below = args.c + kTileRows * kCStride;
  _tile_stored(0, args.c, kCBytes);
  if constexpr (kTwoPanels) _tile_stored(1, args.c + kPanelColumns, kCBytes);
  if constexpr (kTwoRows) _tile_stored(2, c_below, kCBytes);
  if constexpr (kTwoRows && kTwoPanels) _tile_stored(3, c_below + kPanelColumns, kCBytes);
}

template <bool kFetch>
void multiply(const BlockArgs& args, SideWork& side_work, std::int64_t rows, bool two_panels) {
  if (rows == kBlockRows && two_panels) {
    multiply_block<true, true, kFetch, true>(args, side_work);
  } else if (rows > kTileRows) {
    two_panels ? multiply_block<true, true, kFetch>(args, side_work)
               : multiply_block<true, false, kFetch>(args, side_work);
  } else {
    two_panels ? multiply_block<false, true, kFetch>(args, side_work)
               : multiply_block<false, false, kFetch>(args, side_work);
  }
}

// Asks for the lines of the output that a block will be written to. Other threads had them last, so
// they come from far; they arrive while the block is computed.
inline void fetch_output(const LinearArgs& args, std::int64_t row, std::int64_t num_rows,
                         std::int64_t panel, std::int64_t num_panels) {
  const bool is_gate_up = args.epilogue == LinearEpilogue::kGateMul;
  const std::int64_t column = (is_gate_up ? panel / 2 : panel) * kPanelColumns;
  for (std::int64_t r = row; r < row + num_rows; ++r) {
    const std::int64_t offset = r * args.out_stride + column;
    if (args.out_bf16 != nullptr) {
      __builtin_prefetch(args.out_bf16 + offset, 1);
    } else {
      __builtin_prefetch(args.out + offset, 1);
      if (!is_gate_up && num_panels == 2) __builtin_prefetch(args.out + offset + kPanelColumns, 1);
    }
  }
}

// All rows pass over two panels before the next two.
void run(const LinearArgs& args, const LinearRange& range, void* scratch) {
  AmxTiles tiles;
  SideWork side_work(args);
  const std::int64_t range_rows = range.row_end - range.row_begin;
  const std::int64_t num_blocks = (range_rows + kBlockRows - 1) / kBlockRows;
  bool is_whole_block = true;
  BlockArgs block = {};
  block.a_stride = args.activation_stride;
  block.w_stride = args.panel_stride;
  block.num_tiles = args.depth / kTileDepth;
  block.c = static_cast<float*>(scratch);
  float* other_c = block.c + kBlockSums;
  side_work.plan(block.num_tiles, num_blocks);
  for (std::int64_t panel = range.panel_begin; panel < range.panel_end; panel += 2) {
    const std::int64_t panels_left = range.panel_end - panel;
    const std::int64_t num_panels = panels_left < 2 ? 1 : 2;
    block.w = static_cast<const std::uint16_t*>(args.weight) + panel * block.w_stride;
    if (num_blocks > 1 && panels_left > 2) {
      side_work.begin_fetch(block.w + 2 * block.w_stride,
                            (panels_left < 4 ? 1 : 2) * block.w_stride);
    }
    for (std::int64_t row = range.row_begin; row < range.row_end; row += kBlockRows) {
      const std::int64_t rows = range.row_end - row < kBlockRows ? range.row_end - row : kBlockRows;
      if (rows < kBlockRows || !is_whole_block) {
        const auto first = static_cast<int>(rows < kTileRows ? rows : kTileRows);
        tiles.configure(first, rows > kTileRows ? static_cast<int>(rows) - first : first);
        is_whole_block = rows == kBlockRows;
      }
      block.a = static_cast<const std::uint16_t*>(args.activations) + row * block.a_stride;
      fetch_output(args, row, rows, panel, num_panels);
      const bool is_first_pass = row == range.row_begin;
      if (num_blocks == 1 || (is_first_pass && panel == range.panel_begin)) {
        multiply<true>(block, side_work, rows, num_panels == 2);
      } else {
        multiply<false>(block, side_work, rows, num_panels == 2);
      }
      side_work.finish_rows(kBlockRows);
      side_work.begin_epilogue(block.c, row, rows, panel, num_panels);
      std::swap(block.c, other_c);
    }
  }
  side_work.finish_rows(kBlockRows);
}

}  // namespace

const LinearKernel& linear_bf16_amx() {
  static constexpr LinearKernel kKernel = {"bf16 amx",   kBlockRows,     2,  kScratchBytes,
                                           DType::kBf16, pack_bf16_rows, run};
  return kKernel;
}

}  // namespace llmrun::kernels
