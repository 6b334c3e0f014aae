// Every CUDA call is checked: a failure becomes Error(kDevice) that names the call, or
// Error(kMemory).
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

// Of the current device.
inline int device_attribute(cudaDeviceAttr attribute) {
  int device = 0;
  int value = 0;
  check_cuda(cudaGetDevice(&device), "cudaGetDevice");
  check_cuda(cudaDeviceGetAttribute(&value, attribute, device), "cudaDeviceGetAttribute");
  return value;
}

}  // namespace llmrun::kernels
