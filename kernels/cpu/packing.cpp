#include "kernels/cpu/packing.h"

#include <cstddef>

#include "engine/core/float16.h"

namespace llmrun::kernels {
namespace {

float load_as_float(const void* row, DType dtype, std::int64_t i) {
  switch (dtype) {
    case DType::kF16: return f16_to_float(static_cast<const std::uint16_t*>(row)[i]);
    case DType::kBf16: return bf16_to_float(static_cast<const std::uint16_t*>(row)[i]);
    default: return static_cast<const float*>(row)[i];
  }
}

// Element (k, column) of a bf16 panel: k-pairs, then columns, then the two of the pair.
std::int64_t bf16_offset(std::int64_t k, std::int64_t column) {
  return (k / 2) * (2 * kPanelColumns) + column * 2 + k % 2;
}

}  // namespace

void pack_panel_bf16(std::uint16_t* panel, const PanelRows& source, std::int64_t depth,
                     std::int64_t padded_depth) {
  for (std::int64_t column = 0; column < kPanelColumns; ++column) {
    const void* row = source.rows[column];
    const std::int64_t valid = row == nullptr ? 0 : depth;
    if (source.dtype == DType::kBf16) {
      const auto* from = static_cast<const std::uint16_t*>(row);
      for (std::int64_t k = 0; k < valid; ++k) panel[bf16_offset(k, column)] = from[k];
    } else {
      for (std::int64_t k = 0; k < valid; ++k) {
        panel[bf16_offset(k, column)] = float_to_bf16(load_as_float(row, source.dtype, k));
      }
    }
    for (std::int64_t k = valid; k < padded_depth; ++k) panel[bf16_offset(k, column)] = 0;
  }
}

void pack_panel_f32(float* panel, const PanelRows& source, std::int64_t depth) {
  for (std::int64_t column = 0; column < kPanelColumns; ++column) {
    const void* row = source.rows[column];
    for (std::int64_t k = 0; k < depth; ++k) {
      panel[k * kPanelColumns + column] =
          row == nullptr ? 0.0F : load_as_float(row, source.dtype, k);
    }
  }
}

void unpack_row_bf16(float* out, const std::uint16_t* panel, std::int64_t column,
                     std::int64_t depth) {
  for (std::int64_t k = 0; k < depth; ++k) out[k] = bf16_to_float(panel[bf16_offset(k, column)]);
}

void unpack_row_f32(float* out, const float* panel, std::int64_t column, std::int64_t depth) {
  for (std::int64_t k = 0; k < depth; ++k) out[k] = panel[k * kPanelColumns + column];
}

}  // namespace llmrun::kernels
