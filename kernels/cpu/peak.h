// Loops that do nothing but reach the processor's limits: what a share of peak is measured against.
#pragma once

#include <cstdint>

namespace llmrun::kernels {

struct PeakKernels {
  // Multiply-adds on registers, `iterations` rounds of them; return the floating-point operations
  // done. bf16: float32 sums of bf16 products where the instruction set has them, else as f32.
  double (*multiply_f32)(std::int64_t iterations);
  double (*multiply_bf16)(std::int64_t iterations);
  // Reads [data, data + count) once, from low to high addresses; returns a value that depends on
  // all.
  float (*read)(const float* data, std::int64_t count);
};

const PeakKernels& peak_portable();
const PeakKernels& peak_avx2();
const PeakKernels& peak_avx512();
const PeakKernels& peak_amx();

}  // namespace llmrun::kernels
