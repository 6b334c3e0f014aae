// Whether a CUDA device can be used here. Tests of the GPU skip without one, and say so.
#pragma once

#include <cstdio>

#include <cuda_runtime_api.h>

namespace llmrun::testing {

inline bool has_cuda_device() {
  static const bool found = [] {
    int count = 0;
    const bool ok = cudaGetDeviceCount(&count) == cudaSuccess && count > 0;
    if (!ok) std::puts("SKIPPED: no CUDA device here; the GPU tests of this program check nothing");
    return ok;
  }();
  return found;
}

}  // namespace llmrun::testing
