// Whether the CUDA backend can be tested here. Tests of it skip without a GPU, and say so.
#pragma once

#include <cstdio>
#include <string>

#include "engine/backend/cuda/cuda_backend.h"

namespace llmrun::testing {

inline bool can_test_cuda() {
  static const std::string problem = [] {
    std::string reason = cuda_unavailable_reason();
    if (!reason.empty()) std::printf("SKIPPED on a GPU: %s\n", reason.c_str());
    return reason;
  }();
  return problem.empty();
}

}  // namespace llmrun::testing
