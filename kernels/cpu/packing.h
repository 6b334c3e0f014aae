// Packing of weight rows into panels (layout: linear.h), and reading single rows back.
#pragma once

#include <cstdint>

#include "engine/core/dtype.h"
#include "kernels/cpu/linear.h"

namespace llmrun::kernels {

// The rows of W that become the 16 columns of one panel: each `depth` elements of `dtype` (f32,
// f16, bf16), or null for a column of zeros.
struct PanelRows {
  const void* rows[kPanelColumns] = {};
  DType dtype = DType::kF32;
};

// panel [padded_depth / 32][16][16][2]
void pack_panel_bf16(std::uint16_t* panel, const PanelRows& source, std::int64_t depth,
                     std::int64_t padded_depth);
// panel [depth][16]
void pack_panel_f32(float* panel, const PanelRows& source, std::int64_t depth);

// Row `column` of the weight behind a panel, `depth` elements, as float32.
void unpack_row_bf16(float* out, const std::uint16_t* panel, std::int64_t column,
                     std::int64_t depth);
void unpack_row_f32(float* out, const float* panel, std::int64_t column, std::int64_t depth);

}  // namespace llmrun::kernels
