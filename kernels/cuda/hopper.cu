#include <cuda_runtime.h>

#include "kernels/cuda/check.h"
#include "kernels/cuda/hopper.h"

namespace llmrun::kernels {
namespace {

__global__ void marker_kernel() {}

}  // namespace

bool runs_hopper_code() {
  int device = 0;
  check_cuda(cudaGetDevice(&device), "cudaGetDevice");
  thread_local int known_device = -1;
  thread_local bool known = false;  // asked at every launch of some kernels
  if (device != known_device) {
    int major = 0;
    check_cuda(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device),
               "cudaDeviceGetAttribute");
    cudaFuncAttributes attributes{};
    check_cuda(cudaFuncGetAttributes(&attributes, marker_kernel), "cudaFuncGetAttributes");
    known = major == 9 && attributes.ptxVersion >= 90;
    known_device = device;
  }
  return known;
}

}  // namespace llmrun::kernels
