// The bf16 linear kernel in AMX: 32 rows times 32 columns at a time in four tiles of sums.
//
// Packed activations: [M / 16][K / 32] tiles of 16 rows times 32 elements (1 KiB), zero padded.
#include "kernels/cpu/vec_avx512.h"
//
#include <cstddef>
#include <cstdint>

#include "kernels/cpu/amx_tiles.h"
#include "kernels/cpu/linear.h"
#include "kernels/cpu/linear_epilogue_impl.h"

namespace llmrun::kernels {
namespace {

constexpr std::int64_t kTileRows = 16;
constexpr std::int64_t kTileDepth = 32;
constexpr std::int64_t kTileElements = kTileRows * kTileDepth;
constexpr std::int64_t kBlockRows = 2 * kTileRows;    // rows of one register block
constexpr std::int64_t kCStride = 2 * kPanelColumns;  // columns of one register block
constexpr std::size_t kScratchBytes =
    static_cast<std::size_t>(kBlockRows * kCStride) * sizeof(float);

std::int64_t tile_rows(std::int64_t num_rows) {
  return (num_rows + kTileRows - 1) / kTileRows;
}

std::size_t activation_bytes(std::int64_t num_rows, std::int64_t padded_depth) {
  return static_cast<std::size_t>(tile_rows(num_rows) * kTileRows * padded_depth) *
         sizeof(std::uint16_t);
}

void pack_activations(void* packed, const ActivationSource& source, const PackRange& range) {
  const std::int64_t padded_end = tile_rows(range.row_end) * kTileRows;
  for (std::int64_t row = range.row_begin; row < padded_end; ++row) {
    std::uint16_t* to = static_cast<std::uint16_t*>(packed) +
                        row / kTileRows * kTileRows * source.padded_depth +
                        row % kTileRows * kTileDepth;
    const std::int64_t valid = row < range.row_end ? source.depth : 0;
    for (std::int64_t k = range.depth_begin; k < range.depth_end; k += Vec::kLanes) {
      load_up_to(source.x + row * source.stride, k, valid)
          .store_bf16(to + k / kTileDepth * kTileElements + k % kTileDepth);
    }
  }
}

// 32 rows of activations times two panels of weights, or a part of that.
struct BlockArgs {
  const std::uint16_t* a;  // tiles of the first 16 rows
  std::int64_t a_stride;   // elements to the next 16 rows
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

// Tiles: 0-3 sums, 4 activations, 6 weights. While the other hyperthread of its core is busy, a
// thread finds few physical tiles to rename to, and the more tiles hold something the longer each
// instruction waits: measured per multiplication, 24 ns with two tiles for each operand, 17 with
// one for the activations, 15 with one for either. So the first activations are loaded twice.
// kFetch: the weights come from memory and are read once.
template <bool kTwoRows, bool kTwoPanels, bool kFetch>
void multiply_block(const BlockArgs& args) {
  _tile_zero(0);
  if constexpr (kTwoPanels) _tile_zero(1);
  if constexpr (kTwoRows) _tile_zero(2);
  if constexpr (kTwoRows && kTwoPanels) _tile_zero(3);
  const std::uint16_t* a = args.a;
  const std::uint16_t* w = args.w;
  constexpr std::int64_t kAheadElements = 4 * kTileElements;
  for (std::int64_t k = 0; k < args.num_tiles; ++k) {
    _tile_loadd(6, w, 64);
    _tile_loadd(4, a, 64);
    _tile_dpbf16ps(0, 4, 6);
    if constexpr (kTwoRows) {
      _tile_loadd(4, a + args.a_stride, 64);
      _tile_dpbf16ps(2, 4, 6);
    }
    if constexpr (kTwoPanels) {
      _tile_loadd(6, w + args.w_stride, 64);
      if constexpr (kTwoRows) {
        _tile_dpbf16ps(3, 4, 6);
        _tile_loadd(4, a, 64);
      }
      _tile_dpbf16ps(1, 4, 6);
    }
    if constexpr (kFetch) {
      fetch_tile(w + kAheadElements);
      if constexpr (kTwoPanels) fetch_tile(w + args.w_stride + kAheadElements);
    }
    a += kTileElements;
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
void multiply(const BlockArgs& args, bool two_rows, bool two_panels) {
  if (two_rows) {
    two_panels ? multiply_block<true, true, kFetch>(args)
               : multiply_block<true, false, kFetch>(args);
  } else {
    two_panels ? multiply_block<false, true, kFetch>(args)
               : multiply_block<false, false, kFetch>(args);
  }
}

// All rows pass over two panels before the next two.
void run(const LinearArgs& args, const LinearRange& range, void* scratch) {
  const AmxTiles tiles;
  const bool is_single_pass = range.row_end - range.row_begin <= kBlockRows;
  BlockArgs block = {};
  block.a_stride = kTileRows * args.depth;
  block.w_stride = kPanelColumns * args.depth;
  block.num_tiles = args.depth / kTileDepth;
  block.c = static_cast<float*>(scratch);
  for (std::int64_t panel = range.panel_begin; panel < range.panel_end; panel += 2) {
    const std::int64_t num_panels = range.panel_end - panel < 2 ? 1 : 2;
    block.w = static_cast<const std::uint16_t*>(args.weight) + panel * block.w_stride;
    for (std::int64_t row = range.row_begin; row < range.row_end; row += kBlockRows) {
      const std::int64_t rows = range.row_end - row < kBlockRows ? range.row_end - row : kBlockRows;
      block.a = static_cast<const std::uint16_t*>(args.activations) + row * args.depth;
      if (is_single_pass) {
        multiply<true>(block, rows > kTileRows, num_panels == 2);
      } else {
        multiply<false>(block, rows > kTileRows, num_panels == 2);
      }
      finish_tile(args, block.c, kCStride, row, rows, panel, num_panels);
    }
  }
}

}  // namespace

const LinearKernel& linear_bf16_amx() {
  static constexpr LinearKernel kKernel = {"bf16 amx",       kBlockRows,       2,  kScratchBytes,
                                           activation_bytes, pack_activations, run};
  return kKernel;
}

}  // namespace llmrun::kernels
