// Matrices as the bulk copy engine of compute capability 9 wants them described.
#pragma once

#include <cstdint>

#include <cuda.h>

#include "engine/core/dtype.h"

namespace llmrun::kernels {

constexpr int kTensorMapColumns = 64;  // of a box: 128 bytes of a row

// A row-major [rows, columns] matrix of a 16-bit type, moved in boxes of [box_rows, 64], which lie
// in shared memory row after row with the 128-byte swizzle, aligned to 1024 bytes. What lies
// outside of the matrix reads as zero and is not written. `data` is 16-byte aligned, columns a
// multiple of 8, box_rows at most 256.
CUtensorMap tensor_map(const void* data, DType dtype, std::int64_t rows, std::int64_t columns,
                       int box_rows);

}  // namespace llmrun::kernels
