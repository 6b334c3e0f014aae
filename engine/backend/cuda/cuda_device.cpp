#include "engine/backend/cuda/cuda_device.h"

#include <array>

#include <cuda_runtime_api.h>
#include <fmt/format.h>

#include "engine/backend/cuda/cublaslt.h"
#include "engine/backend/cuda/cuda_backend.h"
#include "engine/core/error.h"
#include "kernels/cuda/check.h"
#include "kernels/cuda/hopper.h"

namespace llmrun {

using kernels::check_cuda;

namespace {

constexpr int kDevice = 0;
constexpr int kLowestCapability = 80;

int attribute(cudaDeviceAttr name) {
  int value = 0;
  check_cuda(cudaDeviceGetAttribute(&value, name, kDevice), "cudaDeviceGetAttribute");
  return value;
}

int compute_capability() {
  return 10 * attribute(cudaDevAttrComputeCapabilityMajor) +
         attribute(cudaDevAttrComputeCapabilityMinor);
}

}  // namespace

std::string cuda_unavailable_reason() {
  int count = 0;
  const cudaError_t status = cudaGetDeviceCount(&count);
  if (status == cudaErrorInsufficientDriver) {
    return "the NVIDIA driver is missing or older than this build's CUDA";
  }
  if (status == cudaErrorNoDevice || (status == cudaSuccess && count == 0)) {
    return "there is no NVIDIA GPU (or CUDA_VISIBLE_DEVICES hides it)";
  }
  if (status != cudaSuccess) return fmt::format("CUDA: {}", cudaGetErrorString(status));
  if (const cudaError_t use = cudaSetDevice(kDevice); use != cudaSuccess) {
    cudaGetLastError();
    return fmt::format("the GPU cannot be used now: {}", cudaGetErrorString(use));
  }
  try {
    if (compute_capability() < kLowestCapability) {
      return fmt::format("the GPU has compute capability {}.{}; 8.0 or later is needed",
                         compute_capability() / 10, compute_capability() % 10);
    }
    cublaslt();
  } catch (const Error& error) {
    return error.what();
  }
  return {};
}

CudaDevice open_cuda_device() {
  check_cuda(cudaSetDevice(kDevice), "cudaSetDevice");
  cudaDeviceProp properties{};
  check_cuda(cudaGetDeviceProperties(&properties, kDevice), "cudaGetDeviceProperties");
  std::array<char, 32> bus_id{};
  check_cuda(cudaDeviceGetPCIBusId(bus_id.data(), static_cast<int>(bus_id.size()), kDevice),
             "cudaDeviceGetPCIBusId");
  CudaDevice device;
  device.name = properties.name;
  device.pci_bus_id = bus_id.data();
  device.num_multiprocessors = properties.multiProcessorCount;
  device.compute_capability = compute_capability();
  device.can_overlap_launches = kernels::runs_hopper_code();
  device.l2_bytes = static_cast<std::size_t>(properties.l2CacheSize);
  return device;
}

}  // namespace llmrun
