// AMX in plain vectors, for tests on processors without it (LLMRUN_EMULATE_AMX): the intrinsics
// that the kernels use, with what a processor checks, and loads and stores that AddressSanitizer
// sees. Source: Intel 64 and IA-32 Architectures Software Developer's Manual, LDTILECFG, TILELOADD,
// TDPBF16PS. Denormal numbers are not flushed to zero here.
#pragma once

#include <cstdint>
#include <cstring>

#include <immintrin.h>

namespace llmrun::kernels {
namespace {

// Where a processor would raise an exception, or compute something else than the kernel meant.
inline void require(bool holds) {
  if (!holds) __builtin_trap();
}

// A thread's tiles, of one source file: where a processor has one set for all.
class EmulatedTiles {
 public:
  // The 64 bytes that LDTILECFG reads: bytes a row from byte 16 on, two each, rows from byte 48 on.
  void configure(const void* config) {
    const auto* bytes = static_cast<const std::uint8_t*>(config);
    for (int i = 0; i < kConfigBytes; ++i) {
      const bool is_used = i == 0 || (i >= 16 && i < 32) || (i >= 48 && i < 56);
      require(is_used || bytes[i] == 0);
    }
    require(bytes[0] == 1);  // the palette
    for (int tile = 0; tile < kNumTiles; ++tile) {
      require(bytes[16 + 2 * tile] == kRowBytes && bytes[17 + 2 * tile] == 0);
      num_rows_[tile] = bytes[48 + tile];
      require(num_rows_[tile] >= 1 && num_rows_[tile] <= kMaxRows);
      zero(tile);
    }
  }
  void release() { std::memset(num_rows_, 0, sizeof(num_rows_)); }
  void zero(int tile) {
    require(num_rows_[tile] > 0);
    std::memset(tiles_[tile], 0, sizeof(tiles_[tile]));
  }
  void load(int tile, const void* from, std::int64_t stride) {
    zero(tile);
    for (int row = 0; row < num_rows_[tile]; ++row) {
      std::memcpy(tiles_[tile][row], static_cast<const char*>(from) + row * stride, kRowBytes);
    }
  }
  void store(int tile, void* to, std::int64_t stride) const {
    require(num_rows_[tile] > 0);
    for (int row = 0; row < num_rows_[tile]; ++row) {
      std::memcpy(static_cast<char*>(to) + row * stride, tiles_[tile][row], kRowBytes);
    }
  }
  // sums [M, 16] += a [M, 32] b [32, 16], where a row of b holds pairs of its rows.
  void multiply_add(int sums, int a, int b) {
    require(sums != a && sums != b && a != b);
    require(num_rows_[sums] > 0 && num_rows_[sums] == num_rows_[a]);
    require(num_rows_[b] == kMaxRows);
    const __m512i high = _mm512_set1_epi32(static_cast<int>(0xffff0000U));
    for (int row = 0; row < num_rows_[sums]; ++row) {
      __m512 even = _mm512_setzero_ps();
      __m512 odd = _mm512_setzero_ps();
      for (int k = 0; k < kMaxRows; ++k) {
        const __m512i pair = _mm512_set1_epi32(static_cast<int>(tiles_[a][row][k]));
        const __m512i pairs = _mm512_load_si512(tiles_[b][k]);
        even = _mm512_fmadd_ps(_mm512_castsi512_ps(_mm512_slli_epi32(pair, 16)),
                               _mm512_castsi512_ps(_mm512_slli_epi32(pairs, 16)), even);
        odd = _mm512_fmadd_ps(_mm512_castsi512_ps(_mm512_and_si512(pair, high)),
                              _mm512_castsi512_ps(_mm512_and_si512(pairs, high)), odd);
      }
      const __m512 before = _mm512_castsi512_ps(_mm512_load_si512(tiles_[sums][row]));
      const __m512 after = _mm512_add_ps(before, _mm512_add_ps(even, odd));
      _mm512_store_si512(tiles_[sums][row], _mm512_castps_si512(after));
    }
  }

 private:
  static constexpr int kConfigBytes = 64;
  static constexpr int kNumTiles = 8;
  static constexpr int kMaxRows = 16;
  static constexpr int kRowBytes = 64;

  alignas(64) std::uint32_t tiles_[kNumTiles][kMaxRows][kRowBytes / 4] = {};
  int num_rows_[kNumTiles] = {};  // 0: not configured
};

thread_local EmulatedTiles emulated_tiles;

inline void load_tile_config(const void* config) {
  emulated_tiles.configure(config);
}

}  // namespace
}  // namespace llmrun::kernels

// In place of those of <immintrin.h>, most of which are macros too.
#undef _tile_zero
#undef _tile_loadd
#undef _tile_stored
#undef _tile_dpbf16ps
#define _tile_zero(tile) emulated_tiles.zero(tile)
#define _tile_loadd(tile, from, stride) emulated_tiles.load(tile, from, stride)
#define _tile_stored(tile, to, stride) emulated_tiles.store(tile, to, stride)
#define _tile_dpbf16ps(sums, a, b) emulated_tiles.multiply_add(sums, a, b)
#define _tile_release() emulated_tiles.release()
