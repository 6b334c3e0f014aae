// The kernels of one instruction set, so that what runs is chosen in one place.
#pragma once

#include <cstdint>

#include "engine/core/cpu_info.h"
#include "kernels/cpu/attention.h"
#include "kernels/cpu/elementwise.h"
#include "kernels/cpu/linear.h"
#include "kernels/cpu/peak.h"

namespace llmrun::kernels {

struct CpuKernels {
  CpuIsa isa;
  const LinearKernel& linear_f32;
  const LinearKernel& linear_bf16;
  // For fewer rows than kFewRows, where AMX would compute mostly padding. Its sums are ordered
  // differently from linear_bf16's on kAmx, and the same kernel elsewhere.
  const LinearKernel& linear_bf16_few_rows;
  const AttentionKernel& attention;
  // run() for a bf16 cache and at least kManyRows rows, where AMX pays. It rounds more than
  // `attention` on kAmx, and is the same kernel elsewhere.
  const AttentionKernel& attention_bf16_many_rows;
  const ElementwiseKernels& elementwise;
  const PeakKernels& peak;

  static constexpr std::int64_t kFewRows = 8;
  static constexpr std::int64_t kManyRows = 32;
};

// REQUIRES: `isa` is one of supported_cpu_isas() before any of the kernels is called.
const CpuKernels& cpu_kernels(CpuIsa isa);

}  // namespace llmrun::kernels
