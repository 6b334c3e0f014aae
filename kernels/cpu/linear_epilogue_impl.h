// What happens to a finished tile of c = x W^T. Include after one of the vec_*.h headers.
#pragma once

#include <cstdint>

#include "kernels/cpu/linear.h"
#include "kernels/cpu/vec_activation.h"

namespace llmrun::kernels {
namespace {

// Up to 16 columns of one row, c + bias, to out.
inline void finish_columns(const LinearArgs& args, const float* c, const float* bias, float* out,
                           int num_columns) {
  for (int i = 0; i < num_columns; i += Vec::kLanes) {
    Vec value = Vec::load(c + i);
    if (bias != nullptr) value = value + Vec::load(bias + i);
    const int rest = num_columns - i;
    if (rest >= Vec::kLanes) {
      if (args.epilogue == LinearEpilogue::kAdd) value = value + Vec::load(out + i);
      value.store(out + i);
    } else {
      if (args.epilogue == LinearEpilogue::kAdd) value = value + Vec::load_first(out + i, rest);
      value.store_first(out + i, rest);
    }
  }
}

// The same for a gate panel and the up panel that follows it, to args.out or args.out_bf16.
inline void finish_gate_mul(const LinearArgs& args, const float* c, const float* bias,
                            std::int64_t offset, int num_columns) {
  for (int i = 0; i < num_columns; i += Vec::kLanes) {
    Vec gate = Vec::load(c + i);
    Vec up = Vec::load(c + kPanelColumns + i);
    if (bias != nullptr) {
      gate = gate + Vec::load(bias + i);
      up = up + Vec::load(bias + kPanelColumns + i);
    }
    const Vec value = activated(gate, args.activation) * up;
    const int rest = num_columns - i;
    if (args.out_bf16 != nullptr) {
      std::uint16_t* out = args.out_bf16 + offset + i;
      rest >= Vec::kLanes ? value.store_bf16(out) : value.store_bf16_first(out, rest);
    } else {
      float* out = args.out + offset + i;
      rest >= Vec::kLanes ? value.store(out) : value.store_first(out, rest);
    }
  }
}

// c [num_rows, c_stride] holds panels [panel, panel + num_panels) of rows [row, row + num_rows).
inline void finish_tile(const LinearArgs& args, const float* c, std::int64_t c_stride,
                        std::int64_t row, std::int64_t num_rows, std::int64_t panel,
                        std::int64_t num_panels) {
  const bool is_gate_up = args.epilogue == LinearEpilogue::kGateMul;
  const std::int64_t step = is_gate_up ? 2 : 1;
  for (std::int64_t r = 0; r < num_rows; ++r) {
    for (std::int64_t p = 0; p < num_panels; p += step) {
      const std::int64_t column = (panel + p) / step * kPanelColumns;
      const std::int64_t rest = args.out_columns - column;
      const int count = static_cast<int>(rest < kPanelColumns ? rest : kPanelColumns);
      const float* tile = c + r * c_stride + p * kPanelColumns;
      const float* bias = args.bias == nullptr ? nullptr : args.bias + (panel + p) * kPanelColumns;
      const std::int64_t offset = (row + r) * args.out_stride + column;
      if (is_gate_up) {
        finish_gate_mul(args, tile, bias, offset, count);
      } else {
        finish_columns(args, tile, bias, args.out + offset, count);
      }
    }
  }
}

}  // namespace
}  // namespace llmrun::kernels
