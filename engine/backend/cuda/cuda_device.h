// Which GPU is used, and what it is.
#pragma once

#include <cstdint>
#include <string>

namespace llmrun {

struct CudaDevice {
  std::string name;        // "NVIDIA H200"
  std::string pci_bus_id;  // for NVML
  std::int32_t num_multiprocessors = 0;
  std::int32_t compute_capability = 0;  // 90 for 9.0
  std::size_t l2_bytes = 0;
  // Kernels wait for their predecessors only in code made for Hopper (kernels/cuda/launch.h).
  bool can_overlap_launches = false;
};

// Makes device 0 current. Throws Error(kDevice).
CudaDevice open_cuda_device();

}  // namespace llmrun
