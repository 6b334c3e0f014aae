// The tile configuration of AMX, common to the kernels that use it: eight tiles of 16 rows of 64
// bytes. The configuration belongs to a thread and lasts as long as this object.
#pragma once

#include <cstdint>

#include <immintrin.h>

namespace llmrun::kernels {
namespace {

class AmxTiles {
 public:
  AmxTiles() {
    struct alignas(64) Config {
      std::uint8_t palette = 1;
      std::uint8_t start_row = 0;
      std::uint8_t reserved[14] = {};
      std::uint16_t row_bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
      std::uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
    };
    static_assert(sizeof(Config) == 64);
    const Config config;
    // GCC 12's _tile_loadconfig claims to read 8 bytes only; the rest would be optimised away.
    asm volatile("ldtilecfg %0" : : "m"(config) : "memory");
  }
  ~AmxTiles() { _tile_release(); }
  AmxTiles(const AmxTiles&) = delete;
  AmxTiles& operator=(const AmxTiles&) = delete;
};

}  // namespace
}  // namespace llmrun::kernels
