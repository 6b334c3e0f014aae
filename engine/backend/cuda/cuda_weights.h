// Weight matrices on a GPU: row-major [N, K] in one float type, so that both cuBLASLt and the
// streaming kernels read them. Gate and up are interleaved in groups of 8 rows.
#pragma once

#include <cstdint>
#include <memory>

#include <cuda_runtime_api.h>

#include "engine/backend/backend.h"
#include "engine/backend/cuda/cuda_memory.h"

namespace llmrun {

class CudaLinearWeight final : public LinearWeight {
 public:
  CudaLinearWeight(std::int64_t num_rows, std::int64_t num_columns, DType dtype, bool has_bias,
                   bool is_gate_up)
      : LinearWeight(num_rows, num_columns),
        dtype_(dtype),
        is_gate_up_(is_gate_up),
        memory_(static_cast<std::size_t>(num_rows * num_columns) * dtype_bytes(dtype)),
        bias_(has_bias ? static_cast<std::size_t>(num_rows) * dtype_bytes(dtype) : 0) {}

  std::size_t num_bytes() const override { return memory_.num_bytes() + bias_.num_bytes(); }
  DType dtype() const { return dtype_; }
  bool is_gate_up() const { return is_gate_up_; }
  void* data() const { return memory_.data(); }
  void* bias() const { return bias_.data(); }  // null: none
  bool has_bias() const { return bias_.num_bytes() > 0; }
  // Expires with the weight.
  std::weak_ptr<const CudaLinearWeight> weak_reference() const { return lifetime_; }

 private:
  DType dtype_;
  bool is_gate_up_;
  mutable CudaBuffer memory_;
  mutable CudaBuffer bias_;
  // Owns nothing; shared only so that weak references can tell that the weight is gone.
  std::shared_ptr<const CudaLinearWeight> lifetime_{this, [](const CudaLinearWeight*) {}};
};

// Makes weights from host tensors or from random numbers.
class CudaWeightMaker {
 public:
  explicit CudaWeightMaker(cudaStream_t stream) : stream_(stream), copier_(stream) {}

  std::unique_ptr<CudaLinearWeight> make_linear(const LinearSource& source, DType dtype);
  std::unique_ptr<CudaLinearWeight> make_gate_up(const LinearSource& source, DType dtype);
  std::unique_ptr<CudaLinearWeight> make_random(std::int64_t num_rows, std::int64_t num_columns,
                                                DType dtype, bool has_bias, bool is_gate_up,
                                                float stddev, std::uint64_t seed);
  // Host vector [N] to float32 on the device.
  void copy_vector(float* device, const Tensor& host);
  HostToDeviceCopier& copier() { return copier_; }
  // Gives back the device memory that only loading needs, kStagingBytes.
  void release_staging();

  static constexpr std::size_t kStagingBytes = std::size_t{64} << 20;

 private:
  using Fill = HostToDeviceCopier::Fill;
  // host: shape and type; its bytes come from `fill`.
  void copy_converted(void* device, DType dtype, const Tensor& host, const Fill& fill);
  // Bytes [begin, begin + num_bytes) to staging_.
  void copy_to_staging(std::size_t begin, std::size_t num_bytes, const Fill& fill);
  // host [I, K], or a bias [I]
  void copy_interleaved(void* device, DType dtype, const Tensor& host, const Fill& fill, int half);

  cudaStream_t stream_;
  HostToDeviceCopier copier_;
  std::unique_ptr<CudaBuffer> staging_;  // elements in the checkpoint's type, before conversion
};

}  // namespace llmrun
