// Weights on their way to the device's form: conversion, the interleaving of gate and up, random
// numbers. Load time only.
#pragma once

#include <cstdint>

#include "engine/core/dtype.h"
#include "kernels/cuda/launch.h"

namespace llmrun::kernels {

// out[i] = source[i], rounded to out_dtype.  Float types.
void convert_elements(const Launch& launch, void* out, DType out_dtype, const void* source,
                      DType source_dtype, std::int64_t num_elements);

// Rows of one of two matrices to their place among the other's: rows go to the device's gate_up
// matrix in groups of 8, 8 gate rows, then their 8 up rows.
//   out [2 I, K] of out_dtype, source rows [first_row, first_row + num_rows) of [I, K], which is
//   `half` 0 (gate) or 1 (up)
void interleave_rows(const Launch& launch, void* out, DType out_dtype, const void* source,
                     DType source_dtype, std::int64_t first_row, std::int64_t num_rows,
                     std::int64_t num_columns, int half);

// out[i] = stddev * a standard normal number of (seed, i): Box-Muller on engine/core/random.h.
void fill_normal(const Launch& launch, void* out, DType dtype, std::int64_t num_elements,
                 float stddev, std::uint64_t seed);

}  // namespace llmrun::kernels
