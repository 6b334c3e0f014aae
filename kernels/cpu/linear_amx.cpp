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
constexpr std::int64_t kMaxRowBlock = 512;            // rows whose sums wait in scratch
constexpr std::size_t kScratchBytes =
    static_cast<std::size_t>(kMaxRowBlock * kCStride) * sizeof(float);

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

// A tile load that misses L1 costs some ten cycles a line, so that everything is asked for ahead:
// each step of the inner loop asks for one tile of each of these streams.
struct FetchStreams {
  const std::uint16_t* to_l1[5] = {};  // activations and weights of the next block or ahead, sums
  const std::uint16_t* to_l2[2] = {};  // weights that come from memory
};

struct BlockArgs {
  const std::uint16_t* a;  // tiles of the first 16 rows
  std::int64_t a_stride;   // elements to the next 16 rows
  const std::uint16_t* w;  // tiles of the first panel
  std::int64_t w_stride;   // elements to the next panel
  std::int64_t num_tiles;  // along k
  float* c;                // [32, kCStride]
  bool accumulate;
  FetchStreams fetch;
};

// In a single pass over the weights: how far ahead of their use tiles are asked for.
constexpr std::int64_t kNearTiles = 4;
constexpr std::int64_t kFarTiles = 20;

// kLevel as in __builtin_prefetch: 3 is L1, 2 is L2.
template <int kLevel>
void fetch_tile(const std::uint16_t* tile) {
#pragma GCC unroll 16
  for (std::int64_t i = 0; i < kTileElements; i += 32) __builtin_prefetch(tile + i, 0, kLevel);
}

inline void fetch_step(const FetchStreams& fetch, std::int64_t k) {
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) {
    if (fetch.to_l1[i] != nullptr) fetch_tile<3>(fetch.to_l1[i] + k * kTileElements);
  }
  constexpr std::int64_t kSumTiles = 4;
  if (fetch.to_l1[4] != nullptr && k < kSumTiles) fetch_tile<3>(fetch.to_l1[4] + k * kTileElements);
#pragma GCC unroll 2
  for (int i = 0; i < 2; ++i) {
    if (fetch.to_l2[i] != nullptr) fetch_tile<2>(fetch.to_l2[i] + k * kTileElements);
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
    fetch_step(args.fetch, k);
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

// Asks for part `part` of `num_parts` of `num_tiles` tiles of each panel from `w` on.
void fetch_weights(const std::uint16_t* w, std::int64_t w_stride, std::int64_t num_panels,
                   std::int64_t num_tiles, std::int64_t part, std::int64_t num_parts) {
  for (std::int64_t panel = 0; panel < num_panels; ++panel) {
    const std::int64_t end = (part + 1) * num_tiles / num_parts;
    for (std::int64_t tile = part * num_tiles / num_parts; tile < end; ++tile) {
      fetch_tile<2>(w + panel * w_stride + tile * kTileElements);
    }
  }
}

// Rows [row_begin, row_end) over one or two panels.
struct PanelRun {
  const LinearArgs& args;
  std::int64_t row_begin, row_end;
  std::int64_t panel, num_panels;
  bool has_next;  // as many panels that follow will be wanted next
  float* scratch;

  const std::uint16_t* activations(std::int64_t row) const {
    return static_cast<const std::uint16_t*>(args.activations) + row * args.depth;
  }
  const std::uint16_t* weights() const {
    return static_cast<const std::uint16_t*>(args.weight) + panel * kPanelColumns * args.depth;
  }
};

void finish(const PanelRun& run, const float* c, std::int64_t row, std::int64_t rows) {
  finish_tile(run.args, c, kCStride, row, rows, run.panel, run.num_panels);
}

// At most 32 rows: the weights stream past once.
void run_single_pass(const PanelRun& run, BlockArgs block) {
  const std::int64_t rows = run.row_end - run.row_begin;
  block.num_tiles = run.args.depth / kTileDepth;
  block.a = run.activations(run.row_begin);
  block.w = run.weights();
  block.c = run.scratch;
  block.accumulate = false;
  block.fetch.to_l1[0] = block.a + kNearTiles * kTileElements;
  if (rows > kTileRows) block.fetch.to_l1[1] = block.fetch.to_l1[0] + block.a_stride;
  for (std::int64_t panel = 0; panel < run.num_panels; ++panel) {
    const std::uint16_t* w = block.w + panel * block.w_stride;
    block.fetch.to_l1[2 + panel] = w + kNearTiles * kTileElements;
    block.fetch.to_l2[panel] = w + kFarTiles * kTileElements;
  }
  multiply(block, rows > kTileRows, run.num_panels == 2);
  finish(run, block.c, run.row_begin, rows);
}

// More rows: K in blocks, and for each block all rows.
void run_blocks(const PanelRun& run, BlockArgs block) {
  const std::int64_t num_tiles = run.args.depth / kTileDepth;
  const std::int64_t num_passes = (run.row_end - run.row_begin + kBlockRows - 1) / kBlockRows;
  for (std::int64_t tile = 0; tile < num_tiles; tile += kDepthBlockTiles) {
    const std::int64_t rest = num_tiles - tile;
    const bool is_last = rest <= kDepthBlockTiles;
    block.num_tiles = is_last ? rest : kDepthBlockTiles;
    block.accumulate = tile > 0;
    block.w = run.weights() + tile * kTileElements;
    const std::uint16_t* next_w = block.w + kDepthBlockTiles * kTileElements;
    if (is_last) {
      next_w = run.has_next ? run.weights() + run.num_panels * block.w_stride : nullptr;
    }
    const std::int64_t next_tile = is_last ? 0 : tile + kDepthBlockTiles;
    for (std::int64_t pass = 0; pass < num_passes; ++pass) {
      const std::int64_t row = run.row_begin + pass * kBlockRows;
      const std::int64_t rows = run.row_end - row < kBlockRows ? run.row_end - row : kBlockRows;
      const bool is_last_pass = pass + 1 == num_passes;
      block.a = run.activations(row) + tile * kTileElements;
      block.c = run.scratch + (row - run.row_begin) * kCStride;
      const std::uint16_t* next_a = is_last_pass
                                        ? run.activations(run.row_begin) + next_tile * kTileElements
                                        : block.a + kBlockRows * run.args.depth;
      const float* next_c = is_last_pass ? run.scratch : block.c + kBlockRows * kCStride;
      const bool fetch_w = is_last_pass && next_w != nullptr;
      block.fetch.to_l1[0] = next_a;
      block.fetch.to_l1[1] = next_a + block.a_stride;
      block.fetch.to_l1[2] = fetch_w ? next_w : nullptr;
      block.fetch.to_l1[3] = fetch_w && run.num_panels == 2 ? next_w + block.w_stride : nullptr;
      block.fetch.to_l1[4] = reinterpret_cast<const std::uint16_t*>(next_c);
      if (next_w != nullptr && !is_last_pass) {
        fetch_weights(next_w, block.w_stride, run.num_panels, kDepthBlockTiles, pass,
                      num_passes - 1);
      }
      multiply(block, rows > kTileRows, run.num_panels == 2);
      if (is_last) finish(run, block.c, row, rows);
    }
  }
}

// Rows whose activations fit in L2 beside the rest, so that all panels can pass over them.
std::int64_t row_block(std::int64_t depth) {
  constexpr std::int64_t kActivationBytes = std::int64_t{1} << 20;
  const std::int64_t rows = kActivationBytes / (depth * 2) / kBlockRows * kBlockRows;
  return rows < 2 * kBlockRows ? 2 * kBlockRows : (rows < kMaxRowBlock ? rows : kMaxRowBlock);
}

void run(const LinearArgs& args, const LinearRange& range, void* scratch) {
  const AmxTiles tiles;
  const std::int64_t max_rows = row_block(args.depth);
  for (std::int64_t row = range.row_begin; row < range.row_end; row += max_rows) {
    const std::int64_t row_end = row + max_rows < range.row_end ? row + max_rows : range.row_end;
    for (std::int64_t panel = range.panel_begin; panel < range.panel_end; panel += 2) {
      const std::int64_t num_panels = range.panel_end - panel < 2 ? 1 : 2;
      const PanelRun panels = {.args = args,
                               .row_begin = row,
                               .row_end = row_end,
                               .panel = panel,
                               .num_panels = num_panels,
                               .has_next = panel + 2 * num_panels <= range.panel_end,
                               .scratch = static_cast<float*>(scratch)};
      BlockArgs block = {};
      block.a_stride = kTileRows * args.depth;
      block.w_stride = kPanelColumns * args.depth;
      row_end - row <= kBlockRows ? run_single_pass(panels, block) : run_blocks(panels, block);
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
