// Every CUDA call is checked: a failure becomes Error(kDevice) that names the call.
#pragma once

#include <string>

#include <cuda_runtime_api.h>

#include "engine/core/error.h"

namespace llmrun::kernels {

inline void check_cuda(cudaError_t status, const char* what) {
  if (status == cudaSuccess) return;
  throw Error(status == cudaErrorMemoryAllocation ? ErrorKind::kMemory : ErrorKind::kDevice,
              std::string("CUDA: ") + what + ": " + cudaGetErrorString(status) + " (" +
                  cudaGetErrorName(status) + ")");
}

}  // namespace llmrun::kernels
