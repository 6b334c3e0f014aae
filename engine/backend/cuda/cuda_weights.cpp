#include "engine/backend/cuda/cuda_weights.h"

#include <algorithm>

#include "engine/core/error.h"
#include "engine/core/random.h"
#include "kernels/cuda/check.h"
#include "kernels/cuda/weights.h"

namespace llmrun {
namespace {

HostToDeviceCopier::Fill part_of(const LinearSource& source, std::size_t part) {
  if (!source.read_part) return HostToDeviceCopier::from_memory(source.parts[part].data());
  return [&source, part](std::size_t begin, std::span<std::byte> out) {
    source.read_part(part, begin, out);
  };
}

HostToDeviceCopier::Fill bytes_of(const Tensor& host) {
  return HostToDeviceCopier::from_memory(host.data());
}

void* at(void* base, std::int64_t index, DType dtype) {
  return static_cast<std::byte*>(base) + static_cast<std::size_t>(index) * dtype_bytes(dtype);
}

}  // namespace

std::unique_ptr<CudaLinearWeight> CudaWeightMaker::make_linear(const LinearSource& source,
                                                               DType dtype) {
  LLMRUN_CHECK(!source.parts.empty());
  LLMRUN_CHECK(source.biases.empty() || source.biases.size() == source.parts.size());
  const std::int64_t num_columns = source.parts[0].dim(1);
  std::int64_t num_rows = 0;
  for (const Tensor& part : source.parts) {
    LLMRUN_CHECK(part.rank() == 2 && part.dim(1) == num_columns);
    num_rows += part.dim(0);
  }
  auto weight = std::make_unique<CudaLinearWeight>(num_rows, num_columns, dtype,
                                                   !source.biases.empty(), false);
  std::int64_t row = 0;
  for (std::size_t i = 0; i < source.parts.size(); ++i) {
    copy_converted(at(weight->data(), row * num_columns, dtype), dtype, source.parts[i],
                   part_of(source, i));
    if (!source.biases.empty()) {
      LLMRUN_CHECK(source.biases[i].num_elements() == source.parts[i].dim(0));
      copy_converted(at(weight->bias(), row, dtype), dtype, source.biases[i],
                     bytes_of(source.biases[i]));
    }
    row += source.parts[i].dim(0);
  }
  return weight;
}

std::unique_ptr<CudaLinearWeight> CudaWeightMaker::make_gate_up(const LinearSource& source,
                                                                DType dtype) {
  LLMRUN_CHECK(source.parts.size() == 2);
  LLMRUN_CHECK(source.biases.empty() || source.biases.size() == 2);
  const Tensor& gate = source.parts[0];
  const Tensor& up = source.parts[1];
  LLMRUN_CHECK(gate.rank() == 2 && up.rank() == 2 && gate.dim(0) == up.dim(0) &&
               gate.dim(1) == up.dim(1));
  LLMRUN_CHECK(gate.dim(0) % 8 == 0);  // checked by the backend before weights are read
  auto weight = std::make_unique<CudaLinearWeight>(2 * gate.dim(0), gate.dim(1), dtype,
                                                   !source.biases.empty(), true);
  for (std::size_t half = 0; half < 2; ++half) {
    copy_interleaved(weight->data(), dtype, source.parts[half], part_of(source, half),
                     static_cast<int>(half));
    if (source.biases.empty()) continue;
    copy_interleaved(weight->bias(), dtype, source.biases[half], bytes_of(source.biases[half]),
                     static_cast<int>(half));
  }
  return weight;
}

std::unique_ptr<CudaLinearWeight> CudaWeightMaker::make_random(std::int64_t num_rows,
                                                               std::int64_t num_columns,
                                                               DType dtype, bool has_bias,
                                                               bool is_gate_up, float stddev,
                                                               std::uint64_t seed) {
  auto weight =
      std::make_unique<CudaLinearWeight>(num_rows, num_columns, dtype, has_bias, is_gate_up);
  const kernels::Launch launch{.stream = stream_};
  kernels::fill_normal(launch, weight->data(), dtype, num_rows * num_columns, stddev, seed);
  if (has_bias) {
    kernels::fill_normal(launch, weight->bias(), dtype, num_rows, stddev, derive_seed(seed, 1));
  }
  return weight;
}

void CudaWeightMaker::copy_vector(float* device, const Tensor& host) {
  copy_converted(device, DType::kF32, host, bytes_of(host));
}

void CudaWeightMaker::release_staging() {
  kernels::check_cuda(cudaStreamSynchronize(stream_), "loading weights");
  staging_.reset();
}

void CudaWeightMaker::copy_converted(void* device, DType dtype, const Tensor& host,
                                     const Fill& fill) {
  if (host.dtype() == dtype) {
    copier_.copy(device, host.num_bytes(), fill);
    return;
  }
  if (!staging_) staging_ = std::make_unique<CudaBuffer>(kStagingBytes);
  const auto piece = static_cast<std::int64_t>(kStagingBytes / dtype_bytes(host.dtype()));
  for (std::int64_t begin = 0; begin < host.num_elements(); begin += piece) {
    const std::int64_t count = std::min(piece, host.num_elements() - begin);
    const std::size_t element = dtype_bytes(host.dtype());
    copy_to_staging(static_cast<std::size_t>(begin) * element,
                    static_cast<std::size_t>(count) * element, fill);
    kernels::convert_elements({.stream = stream_}, at(device, begin, dtype), dtype,
                              staging_->data(), host.dtype(), count);
  }
}

void CudaWeightMaker::copy_to_staging(std::size_t begin, std::size_t num_bytes, const Fill& fill) {
  copier_.copy(staging_->data(), num_bytes,
               [&](std::size_t from, std::span<std::byte> out) { fill(begin + from, out); });
}

void CudaWeightMaker::copy_interleaved(void* device, DType dtype, const Tensor& host,
                                       const Fill& fill, int half) {
  if (!staging_) staging_ = std::make_unique<CudaBuffer>(kStagingBytes);
  const std::int64_t num_columns = host.rank() == 1 ? 1 : host.dim(1);
  const std::size_t row_bytes = static_cast<std::size_t>(num_columns) * dtype_bytes(host.dtype());
  LLMRUN_CHECK(row_bytes <= kStagingBytes);
  const auto piece = static_cast<std::int64_t>(kStagingBytes / row_bytes);
  for (std::int64_t begin = 0; begin < host.dim(0); begin += piece) {
    const std::int64_t count = std::min(piece, host.dim(0) - begin);
    copy_to_staging(static_cast<std::size_t>(begin) * row_bytes,
                    static_cast<std::size_t>(count) * row_bytes, fill);
    kernels::interleave_rows({.stream = stream_}, device, dtype, staging_->data(), host.dtype(),
                             begin, count, num_columns, half);
  }
}

}  // namespace llmrun
