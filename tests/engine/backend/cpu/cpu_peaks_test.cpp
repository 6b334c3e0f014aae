#include "engine/backend/cpu/cpu_peaks.h"

#include <doctest/doctest.h>

namespace llmrun {

TEST_CASE("peaks are positive on every instruction set") {
  for (const CpuIsa isa : supported_cpu_isas()) {
    const CpuPeaks peaks = measure_cpu_peaks(2, isa, 0.01);
    CHECK(peaks.read_bytes_per_s > 1e6);
    CHECK(peaks.f32_flops_per_s > 1e6);
    CHECK(peaks.bf16_flops_per_s > 1e6);
  }
}

}  // namespace llmrun
