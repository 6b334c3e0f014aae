// The tile configuration of AMX, common to the kernels that use it: eight tiles of up to 16 rows of
// 64 bytes. The configuration belongs to a thread and lasts as long as this object.
#pragma once

#include <cstdint>

#include <immintrin.h>

#ifdef LLMRUN_EMULATE_AMX
#include "kernels/cpu/amx_emulation.h"
#endif

namespace llmrun::kernels {
namespace {

#ifndef LLMRUN_EMULATE_AMX
// REQUIRES: 64 bytes. GCC 12's _tile_loadconfig claims to read 8 only; the rest would be optimised
// away.
inline void load_tile_config(const void* config) {
  asm volatile("ldtilecfg %0" : : "m"(*static_cast<const std::uint8_t(*)[64]>(config)) : "memory");
}
#endif

class AmxTiles {
 public:
  AmxTiles() { configure(16, 16); }
  // Tiles 0, 1 and 4 get `first_rows` rows, tiles 2, 3 and 5 `second_rows`, 6 and 7 all 16:
  // products of two neighbouring blocks of rows. A tile's rows are the time its product takes.
  void configure(int first_rows, int second_rows) {
    struct alignas(64) Config {
      std::uint8_t palette = 1;
      std::uint8_t start_row = 0;
      std::uint8_t reserved[14] = {};
      std::uint16_t row_bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
      std::uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
    };
    static_assert(sizeof(Config) == 64);
    Config config;
    const auto first = static_cast<std::uint8_t>(first_rows);
    const auto second = static_cast<std::uint8_t>(second_rows);
    config.rows[0] = config.rows[1] = config.rows[4] = first;
    config.rows[2] = config.rows[3] = config.rows[5] = second;
    load_tile_config(&config);
  }
  ~AmxTiles() { _tile_release(); }
  AmxTiles(const AmxTiles&) = delete;
  AmxTiles& operator=(const AmxTiles&) = delete;
};

}  // namespace
}  // namespace llmrun::kernels
