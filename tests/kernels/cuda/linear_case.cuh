// A linear layer with random data and a reference in double precision, for the tests of the CUDA
// linear kernels.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <memory>
#include <random>
#include <vector>

#include <doctest/doctest.h>

#include "kernels/cuda/check.h"
#include "kernels/cuda/element.cuh"
#include "kernels/cuda/linear_arguments.h"

namespace llmrun::kernels {

inline constexpr std::size_t kGuardBytes = 256;
inline constexpr unsigned char kGuard = 0xA5;

// Device memory between two guards, filled with NaN (0xFF...) until written.
class DeviceBuffer {
 public:
  explicit DeviceBuffer(std::size_t bytes) : bytes_(bytes) {
    check_cuda(cudaMalloc(&base_, bytes + 2 * kGuardBytes), "cudaMalloc");
    check_cuda(cudaMemset(base_, kGuard, bytes + 2 * kGuardBytes), "cudaMemset");
    check_cuda(cudaMemset(data(), 0xFF, bytes), "cudaMemset");
  }
  DeviceBuffer(const DeviceBuffer&) = delete;
  DeviceBuffer& operator=(const DeviceBuffer&) = delete;
  ~DeviceBuffer() { cudaFree(base_); }

  unsigned char* data() const { return static_cast<unsigned char*>(base_) + kGuardBytes; }
  template <typename T>
  void upload(const std::vector<T>& values) {
    REQUIRE(values.size() * sizeof(T) <= bytes_);
    check_cuda(cudaMemcpy(data(), values.data(), values.size() * sizeof(T), cudaMemcpyDefault),
               "upload");
  }
  std::vector<unsigned char> download() const {
    std::vector<unsigned char> result(bytes_);
    check_cuda(cudaMemcpy(result.data(), data(), bytes_, cudaMemcpyDefault), "download");
    return result;
  }
  bool guards_intact() const {
    std::vector<unsigned char> all(bytes_ + 2 * kGuardBytes);
    check_cuda(cudaMemcpy(all.data(), base_, all.size(), cudaMemcpyDefault), "download");
    for (std::size_t i = 0; i < kGuardBytes; ++i) {
      if (all[i] != kGuard || all[kGuardBytes + bytes_ + i] != kGuard) return false;
    }
    return true;
  }

 private:
  void* base_ = nullptr;
  std::size_t bytes_;
};

inline std::uint16_t encode(float value, DType dtype) {
  std::uint16_t bits = 0;
  if (dtype == DType::kF16) {
    const __half half = __float2half_rn(value);
    std::memcpy(&bits, &half, 2);
  } else {
    const __nv_bfloat16 bfloat = __float2bfloat16_rn(value);
    std::memcpy(&bits, &bfloat, 2);
  }
  return bits;
}

inline float decode(const unsigned char* bytes, DType dtype) {
  if (dtype == DType::kF32) {
    float value = 0.0F;
    std::memcpy(&value, bytes, 4);
    return value;
  }
  if (dtype == DType::kF16) {
    __half half;
    std::memcpy(&half, bytes, 2);
    return __half2float(half);
  }
  __nv_bfloat16 bfloat;
  std::memcpy(&bfloat, bytes, 2);
  return __bfloat162float(bfloat);
}

struct Shape {
  std::int64_t tokens, rows, columns;
};

// Random data of one layer: on the host as rounded floats, on the device as `dtype`.
class LinearCase {
 public:
  LinearCase(Shape shape, DType dtype, DType out_dtype, CudaLinearEpilogue epilogue, bool has_bias)
      : shape_(shape),
        dtype_(dtype),
        out_dtype_(out_dtype),
        epilogue_(epilogue),
        has_bias_(has_bias),
        random_(static_cast<unsigned>(shape.tokens * 7919 + shape.rows * 31 + shape.columns)) {
    out_columns_ = epilogue == CudaLinearEpilogue::kSiluMul ? shape.rows / 2 : shape.rows;
    fill(x_, x_device_, shape.tokens * shape.columns, 1.0F, dtype);
    fill(weight_, weight_device_, shape.rows * shape.columns,
         2.0F / std::sqrt(static_cast<float>(shape.columns)), dtype);
    fill(bias_, bias_device_, shape.rows, 1.0F, dtype);
    fill(residual_, residual_device_, shape.tokens * out_columns_, 2.0F, out_dtype);
  }

  std::size_t token_bytes() const {
    return static_cast<std::size_t>(out_columns_) * dtype_bytes(out_dtype_);
  }

  LinearArguments arguments(void* out) const {
    LinearArguments args;
    args.out = out;
    args.x = x_device_->data();
    args.weight = weight_device_->data();
    args.bias = has_bias_ ? bias_device_->data() : nullptr;
    args.num_tokens = shape_.tokens;
    args.num_rows = shape_.rows;
    args.num_columns = shape_.columns;
    args.dtype = dtype_;
    args.out_dtype = out_dtype_;
    args.epilogue = epilogue_;
    return args;
  }

  // The bytes of the result of `kernel(args)` for `count` tokens from `first` on.
  template <typename Kernel>
  std::vector<unsigned char> run(Kernel kernel, std::int64_t first, std::int64_t count) const {
    DeviceBuffer out(static_cast<std::size_t>(count) * token_bytes());
    if (epilogue_ == CudaLinearEpilogue::kAdd) {
      check_cuda(
          cudaMemcpy(out.data(),
                     residual_device_->data() + static_cast<std::size_t>(first) * token_bytes(),
                     static_cast<std::size_t>(count) * token_bytes(), cudaMemcpyDefault),
          "residual");
    }
    LinearArguments args = arguments(out.data());
    args.num_tokens = count;
    args.x = x_device_->data() + first * shape_.columns * 2;
    kernel(args);
    check_cuda(cudaDeviceSynchronize(), "kernel");
    CHECK(out.guards_intact());
    return out.download();
  }
  template <typename Kernel>
  std::vector<unsigned char> run(Kernel kernel) const {
    return run(kernel, 0, shape_.tokens);
  }

  // The largest error, in units of what rounding to `out_dtype` and summing in float may cost.
  double error(const std::vector<unsigned char>& result) const {
    const double epsilon = out_dtype_ == DType::kF32   ? 0.0
                           : out_dtype_ == DType::kF16 ? 1.0 / 2048
                                                       : 1.0 / 256;
    double worst = 0.0;
    for (std::int64_t token = 0; token < shape_.tokens; ++token) {
      for (std::int64_t i = 0; i < out_columns_; ++i) {
        const std::size_t index = static_cast<std::size_t>(token * out_columns_ + i);
        const double expected = reference(token, i);
        const double actual = decode(&result[index * dtype_bytes(out_dtype_)], out_dtype_);
        const double allowed = epsilon * std::abs(expected) + 5e-5;
        const double ratio = std::abs(actual - expected) / allowed;
        worst = ratio <= worst ? worst : ratio;  // NaN counts as worse
        if (std::isnan(ratio)) return std::numeric_limits<double>::infinity();
      }
    }
    return worst;
  }

 private:
  void fill(std::vector<float>& values, std::unique_ptr<DeviceBuffer>& device, std::int64_t count,
            float scale, DType dtype) {
    std::uniform_real_distribution<float> distribution(-scale, scale);
    values.resize(static_cast<std::size_t>(count));
    std::vector<unsigned char> bytes(values.size() * dtype_bytes(dtype));
    for (std::size_t i = 0; i < values.size(); ++i) {
      const float value = distribution(random_);
      if (dtype == DType::kF32) {
        std::memcpy(&bytes[i * 4], &value, 4);
      } else {
        const std::uint16_t bits = encode(value, dtype);
        std::memcpy(&bytes[i * 2], &bits, 2);
      }
      values[i] = decode(&bytes[i * dtype_bytes(dtype)], dtype);
    }
    device = std::make_unique<DeviceBuffer>(bytes.size());
    device->upload(bytes);
  }

  double dot(std::int64_t token, std::int64_t row) const {
    const float* a = &x_[static_cast<std::size_t>(token * shape_.columns)];
    const float* b = &weight_[static_cast<std::size_t>(row * shape_.columns)];
    double sum = has_bias_ ? bias_[static_cast<std::size_t>(row)] : 0.0;
    for (std::int64_t k = 0; k < shape_.columns; ++k) sum += static_cast<double>(a[k]) * b[k];
    return sum;
  }
  double reference(std::int64_t token, std::int64_t i) const {
    switch (epilogue_) {
      case CudaLinearEpilogue::kStore: return dot(token, i);
      case CudaLinearEpilogue::kAdd:
        return dot(token, i) + residual_[static_cast<std::size_t>(token * out_columns_ + i)];
      case CudaLinearEpilogue::kSiluMul: break;
    }
    const double gate = dot(token, i / 8 * 16 + i % 8);
    return gate / (1.0 + std::exp(-gate)) * dot(token, i / 8 * 16 + 8 + i % 8);
  }

  Shape shape_;
  DType dtype_;
  DType out_dtype_;
  CudaLinearEpilogue epilogue_;
  bool has_bias_;
  std::mt19937 random_;
  std::int64_t out_columns_ = 0;
  std::vector<float> x_, weight_, bias_, residual_;
  std::unique_ptr<DeviceBuffer> x_device_, weight_device_, bias_device_, residual_device_;
};

inline constexpr CudaLinearEpilogue kEpilogues[] = {
    CudaLinearEpilogue::kStore, CudaLinearEpilogue::kAdd, CudaLinearEpilogue::kSiluMul};

}  // namespace llmrun::kernels
