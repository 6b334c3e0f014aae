// The best rates of a GPU, measured in a fraction of a second.
#pragma once

#include <cuda_runtime_api.h>

#include "engine/backend/cuda/cuda_device.h"
#include "engine/backend/device_report.h"
#include "engine/core/dtype.h"

namespace llmrun {

// Reads memory as fast as it goes, and multiplies large random matrices of `dtype` by the best of
// cuBLASLt's algorithms. Takes what it needs from free memory and gives it back.
DeviceLimits measure_cuda_limits(const CudaDevice& device, DType dtype, cudaStream_t stream);

}  // namespace llmrun
