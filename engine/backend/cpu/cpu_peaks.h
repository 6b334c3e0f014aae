// What this machine can do at most, measured: the limits that reports compare with.
#pragma once

#include <cstdint>

#include "engine/core/cpu_info.h"
#include "engine/core/thread_pool.h"

namespace llmrun {

struct CpuPeaks {
  double read_bytes_per_s = 0;  // all threads read a buffer several times the last-level cache
  double f32_flops_per_s = 0;   // multiply-adds in registers, all threads
  double bf16_flops_per_s = 0;  // the same with bf16 products (AMX tiles, vdpbf16ps), else as f32
};

// Takes about `seconds`; each figure is the best of several passes, as in STREAM: other work on the
// machine can only make a pass slower. Allocates min(8 x last-level cache, 1 GiB, a quarter of the
// available memory), at least 64 MiB.
CpuPeaks measure_cpu_peaks(ThreadPool& pool, CpuIsa isa, double seconds = 1.0);
// The same with threads of its own.
CpuPeaks measure_cpu_peaks(std::int32_t num_threads, CpuIsa isa, double seconds = 1.0);

}  // namespace llmrun
