// The bf16 linear kernel in AMX: 32 rows times 32 columns at a time in four tiles of sums.
//
// Packed activations: [M / 16][K / 32] tiles of 16 rows times 32 elements (1 KiB), zero padded.
// K is walked in blocks, so that the weights of one block and two panels stay in L1 while all rows
// pass over them; partial sums wait in scratch memory in L2.
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
constexpr std::int64_t kDepthBlockTiles = 8;          // 256 elements: 16 KiB of two panels
constexpr std::int64_t kRowBlock = 512;               // rows whose sums wait in scratch
constexpr std::size_t kScratchBytes =
    static_cast<std::size_t>(kRowBlock * kCStride) * sizeof(float);

std::int64_t tile_rows(std::int64_t num_rows) {
  return (num_rows + kTileRows - 1) / kTileRows;
}

std::size_t activation_bytes(std::int64_t num_rows, std::int64_t padded_depth) {
  return static_cast<std::size_t>(tile_rows(num_rows) * kTileRows * padded_depth) *
         sizeof(std::uint16_t);
}

void pack_activations(void* packed, const float* x, std::int64_t x_stride, std::int64_t row_begin,
                      std::int64_t row_end, std::int64_t depth, std::int64_t padded_depth) {
  const std::int64_t padded_end = tile_rows(row_end) * kTileRows;
  for (std::int64_t row = row_begin; row < padded_end; ++row) {
    std::uint16_t* to = static_cast<std::uint16_t*>(packed) +
                        row / kTileRows * kTileRows * padded_depth + row % kTileRows * kTileDepth;
    for (std::int64_t k = 0; k < padded_depth; k += Vec::kLanes) {
      const std::int64_t rest = row < row_end ? depth - k : 0;
      Vec value = Vec::broadcast(0.0F);
      if (rest >= Vec::kLanes) {
        value = Vec::load(x + row * x_stride + k);
      } else if (rest > 0) {
        value = Vec::load_first(x + row * x_stride + k, static_cast<int>(rest));
      }
      value.store_bf16(to + k / kTileDepth * kTileElements + k % kTileDepth);
    }
  }
}

struct BlockArgs {
  const std::uint16_t* a;  // tiles of the first 16 rows
  std::int64_t a_stride;   // elements to the next 16 rows
  const std::uint16_t* w;  // tiles of the first panel
  std::int64_t w_stride;   // elements to the next panel
  std::int64_t num_tiles;  // along k
  float* c;                // [32, kCStride]
  bool accumulate;
  bool stream_weights;  // the weights come from memory: fetch them ahead
};

// How far ahead of their use weights are asked for, in tiles.
constexpr std::int64_t kPrefetchTiles = 16;

inline void prefetch_tile(const std::uint16_t* tile) {
  for (std::int64_t i = 0; i < kTileElements; i += 32) {
    _mm_prefetch(reinterpret_cast<const char*>(tile + i), _MM_HINT_T1);
  }
}

// Tiles: 0-3 sums, 4-5 activations, 6-7 weights.
template <bool kTwoRows, bool kTwoPanels>
void multiply_block(const BlockArgs& args) {
  constexpr std::int64_t kCBytes = kCStride * static_cast<std::int64_t>(sizeof(float));
  float* c_below = args.c + kTileRows * kCStride;
  if (args.accumulate) {
    _tile_loadd(0, args.c, kCBytes);
    if constexpr (kTwoPanels) _tile_loadd(1, args.c + kPanelColumns, kCBytes);
    if constexpr (kTwoRows) _tile_loadd(2, c_below, kCBytes);
    if constexpr (kTwoRows && kTwoPanels) _tile_loadd(3, c_below + kPanelColumns, kCBytes);
  } else {
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
  }
  const std::uint16_t* a = args.a;
  const std::uint16_t* w = args.w;
  for (std::int64_t k = 0; k < args.num_tiles; ++k) {
    if (args.stream_weights) {
      prefetch_tile(w + kPrefetchTiles * kTileElements);
      if constexpr (kTwoPanels) prefetch_tile(w + args.w_stride + kPrefetchTiles * kTileElements);
    }
    _tile_loadd(6, w, 64);
    _tile_loadd(4, a, 64);
    _tile_dpbf16ps(0, 4, 6);
    if constexpr (kTwoPanels) {
      _tile_loadd(7, w + args.w_stride, 64);
      _tile_dpbf16ps(1, 4, 7);
    }
    if constexpr (kTwoRows) {
      _tile_loadd(5, a + args.a_stride, 64);
      _tile_dpbf16ps(2, 5, 6);
      if constexpr (kTwoPanels) _tile_dpbf16ps(3, 5, 7);
    }
    a += kTileElements;
    w += kTileElements;
  }
  _tile_stored(0, args.c, kCBytes);
  if constexpr (kTwoPanels) _tile_stored(1, args.c + kPanelColumns, kCBytes);
  if constexpr (kTwoRows) _tile_stored(2, c_below, kCBytes);
  if constexpr (kTwoRows && kTwoPanels) _tile_stored(3, c_below + kPanelColumns, kCBytes);
}

void multiply(const BlockArgs& args, bool two_rows, bool two_panels) {
  if (two_rows) {
    two_panels ? multiply_block<true, true>(args) : multiply_block<true, false>(args);
  } else {
    two_panels ? multiply_block<false, true>(args) : multiply_block<false, false>(args);
  }
}

// Rows [row_begin, row_end) over one or two panels.
void run_panels(const LinearArgs& args, std::int64_t row_begin, std::int64_t row_end,
                std::int64_t panel, std::int64_t num_panels, float* scratch) {
  const std::int64_t num_tiles = args.depth / kTileDepth;
  // Few rows pass only once over the weights: nothing is gained by blocks.
  const bool is_single_pass = row_end - row_begin <= kBlockRows;
  const std::int64_t block_tiles = is_single_pass ? num_tiles : kDepthBlockTiles;
  BlockArgs block;
  block.a_stride = kTileRows * args.depth;
  block.w_stride = kPanelColumns * args.depth;
  block.stream_weights = is_single_pass;
  const auto* weight = static_cast<const std::uint16_t*>(args.weight) + panel * block.w_stride;
  for (std::int64_t tile = 0; tile < num_tiles; tile += block_tiles) {
    const std::int64_t rest = num_tiles - tile;
    const bool is_last = rest <= block_tiles;
    block.num_tiles = is_last ? rest : block_tiles;
    block.accumulate = tile > 0;
    block.w = weight + tile * kTileElements;
    for (std::int64_t row = row_begin; row < row_end; row += kBlockRows) {
      const std::int64_t rows = row_end - row < kBlockRows ? row_end - row : kBlockRows;
      block.a = static_cast<const std::uint16_t*>(args.activations) + row * args.depth +
                tile * kTileElements;
      block.c = scratch + (row - row_begin) * kCStride;
      multiply(block, rows > kTileRows, num_panels == 2);
      if (is_last) finish_tile(args, block.c, kCStride, row, rows, panel, num_panels);
    }
  }
}

void run(const LinearArgs& args, const LinearRange& range, void* scratch) {
  const AmxTiles tiles;
  for (std::int64_t row = range.row_begin; row < range.row_end; row += kRowBlock) {
    const std::int64_t row_end = row + kRowBlock < range.row_end ? row + kRowBlock : range.row_end;
    for (std::int64_t panel = range.panel_begin; panel < range.panel_end; panel += 2) {
      const std::int64_t num_panels = range.panel_end - panel < 2 ? 1 : 2;
      run_panels(args, row, row_end, panel, num_panels, static_cast<float*>(scratch));
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
