#include "engine/backend/cuda/cuda_limits.h"

#include <algorithm>
#include <limits>

#include "engine/backend/cuda/cuda_memory.h"
#include "engine/backend/cuda/gemm_plan.h"
#include "engine/core/error.h"
#include "kernels/cuda/check.h"
#include "kernels/cuda/peak.h"
#include "kernels/cuda/weights.h"

namespace llmrun {
namespace {

using kernels::check_cuda;

constexpr int kRepeats = 8;

// The shortest of several runs of `work`, in seconds.
template <typename Work>
double shortest(cudaStream_t stream, const Work& work) {
  CudaEvent begin(true);
  CudaEvent end(true);
  double best = std::numeric_limits<double>::infinity();
  work();
  for (int i = 0; i < kRepeats; ++i) {
    begin.record(stream);
    work();
    end.record(stream);
    end.wait();
    float milliseconds = 0;
    check_cuda(cudaEventElapsedTime(&milliseconds, begin.get(), end.get()), "cudaEventElapsedTime");
    best = std::min(best, static_cast<double>(milliseconds) / 1000.0);
  }
  return best;
}

double measure_read(const CudaDevice& device, cudaStream_t stream) {
  constexpr std::size_t kLargest = std::size_t{2} << 30;
  const std::size_t num_bytes = std::min(kLargest, free_device_bytes() / 2) / 4096 * 4096;
  if (num_bytes < 4 * device.l2_bytes) return 0;  // would measure the cache
  CudaBuffer memory(num_bytes);
  CudaBuffer sum(sizeof(unsigned));
  const kernels::Launch launch{.stream = stream};
  kernels::fill_normal(launch, memory.data(), DType::kF32, static_cast<std::int64_t>(num_bytes / 4),
                       1.0F, 1);
  double best = std::numeric_limits<double>::infinity();
  for (const unsigned blocks_each : {2U, 4U, 8U}) {
    const unsigned num_blocks = blocks_each * static_cast<unsigned>(device.num_multiprocessors);
    best = std::min(best, shortest(stream, [&] {
                      kernels::read_memory(launch, static_cast<unsigned*>(sum.data()),
                                           memory.data(), num_bytes, num_blocks);
                    }));
  }
  return static_cast<double>(num_bytes) / best;
}

double measure_multiply(DType dtype, cudaStream_t stream) {
  std::int64_t size = 8192;
  const auto bytes_of = [&] { return static_cast<std::size_t>(size * size) * dtype_bytes(dtype); };
  while (size > 1024 && 4 * bytes_of() + CublasLtGemm::kWorkspaceBytes > free_device_bytes()) {
    size /= 2;
  }
  if (4 * bytes_of() + CublasLtGemm::kWorkspaceBytes > free_device_bytes()) return 0;
  const CublasLtGemm gemm;
  CudaBuffer workspace(CublasLtGemm::kWorkspaceBytes);
  CudaBuffer x(bytes_of());
  CudaBuffer weight(bytes_of());
  CudaBuffer out(bytes_of());
  const kernels::Launch launch{.stream = stream};
  kernels::fill_normal(launch, x.data(), dtype, size * size, 1.0F, 2);
  kernels::fill_normal(launch, weight.data(), dtype, size * size, 1.0F, 3);
  const GemmCall call{
      .shape = {.num_rows = size, .num_columns = size, .dtype = dtype, .out_dtype = dtype},
      .num_tokens = size,
      .out = out.data(),
      .x = x.data(),
      .weight = weight.data()};
  double best = std::numeric_limits<double>::infinity();
  for (const cublasLtMatmulAlgo_t& algo : gemm.guesses(call.shape, size, 4, false)) {
    best =
        std::min(best, shortest(stream, [&] { gemm.run(call, algo, workspace.data(), stream); }));
  }
  const auto n = static_cast<double>(size);
  return 2.0 * n * n * n / best;
}

}  // namespace

DeviceLimits measure_cuda_limits(const CudaDevice& device, DType dtype, cudaStream_t stream) {
  return {.read_bytes_per_second = measure_read(device, stream),
          .multiply_flops_per_second = measure_multiply(dtype, stream),
          .multiply_dtype = to_string(dtype)};
}

}  // namespace llmrun
