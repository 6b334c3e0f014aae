// The skinny linear kernels against sums in double precision.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <memory>
#include <random>
#include <utility>
#include <vector>

#include <doctest/doctest.h>

#include "kernels/cuda/element.cuh"
#include "kernels/cuda/hopper.h"
#include "kernels/cuda/skinny_linear.h"
#include "kernels/cuda/skinny_linear_variants.h"
#include "tests/support/cuda_device.h"

namespace llmrun::kernels {
namespace {

constexpr std::size_t kGuardBytes = 256;
constexpr unsigned char kGuard = 0xA5;

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

std::uint16_t encode(float value, DType dtype) {
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

float decode(const unsigned char* bytes, DType dtype) {
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

  SkinnyLinear arguments(void* out) const {
    SkinnyLinear args;
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
    SkinnyLinear args = arguments(out.data());
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

void default_kernel(const SkinnyLinear& args) {
  skinny_linear(Launch{}, args);
}
void direct_kernel(const SkinnyLinear& args) {
  skinny_linear_direct(Launch{}, args);
}

constexpr CudaLinearEpilogue kEpilogues[] = {CudaLinearEpilogue::kStore, CudaLinearEpilogue::kAdd,
                                             CudaLinearEpilogue::kSiluMul};

TEST_CASE("skinny linear: every epilogue, type and number of tokens") {
  if (!llmrun::testing::has_cuda_device()) return;
  for (const CudaLinearEpilogue epilogue : kEpilogues) {
    for (std::int64_t tokens = 1; tokens <= kMaxSkinnyTokens; tokens += tokens < 9 ? 1 : 5) {
      for (const DType dtype : {DType::kBf16, DType::kF16}) {
        const DType out_dtype = tokens % 2 == 0 ? DType::kF32 : dtype;
        const bool has_bias = tokens % 3 != 0;
        CAPTURE(static_cast<int>(epilogue));
        CAPTURE(tokens);
        CAPTURE(to_string(dtype));
        const LinearCase linear({tokens, 160, 520}, dtype, out_dtype, epilogue, has_bias);
        CHECK(linear.error(linear.run(default_kernel)) < 1.5);
        CHECK(linear.error(linear.run(direct_kernel)) < 1.5);
      }
    }
  }
}

TEST_CASE("skinny linear: odd shapes") {
  if (!llmrun::testing::has_cuda_device()) return;
  const Shape shapes[] = {{1, 1, 8},      {3, 40, 64},    {7, 5, 192},    {33, 17, 72},
                          {64, 250, 96},  {2, 1000, 136}, {9, 3000, 64},  {16, 24, 4104},
                          {64, 31, 2048}, {5, 4000, 328}, {1, 2049, 1000}};
  for (const Shape& shape : shapes) {
    for (const CudaLinearEpilogue epilogue :
         {CudaLinearEpilogue::kStore, CudaLinearEpilogue::kAdd}) {
      CAPTURE(shape.tokens);
      CAPTURE(shape.rows);
      CAPTURE(shape.columns);
      const LinearCase linear(shape, DType::kBf16, DType::kBf16, epilogue, true);
      CHECK(linear.error(linear.run(default_kernel)) < 1.5);
      CHECK(linear.error(linear.run(direct_kernel)) < 1.5);
    }
  }
}

TEST_CASE("skinny linear: every division of the streaming kernel") {
  if (!llmrun::testing::has_cuda_device() || !runs_hopper_code()) return;
  for (const std::int64_t tokens : {1, 8, 21, 29, 48, 63}) {
    const LinearCase linear({tokens, 1200, 1096}, DType::kBf16, DType::kF32,
                            CudaLinearEpilogue::kAdd, true);
    for (const int splits : {1, 2, 4, 8}) {
      for (const int tiles : {1, 2, 3, 7, 12}) {
        CAPTURE(tokens);
        CAPTURE(splits);
        CAPTURE(tiles);
        SkinnyStreamPlan plan = plan_skinny_stream(
            linear.arguments(nullptr), skinny_stream_device(), kSkinnySharedBytesOverlapping);
        plan.tiles_per_block = tiles;
        plan.num_splits = splits;
        // Without splits, fewer blocks than groups of rows: several passes.
        plan.num_blocks =
            splits == 1 ? std::min(4, (75 + tiles - 1) / tiles) : (75 + tiles - 1) / tiles * splits;
        plan.warp_groups = splits == 1 ? 1 : std::max(1, 6 / tiles);
        plan.num_slots = std::max(2, plan.warp_groups);
        const auto kernel = [&](const SkinnyLinear& args) {
          skinny_linear_stream(Launch{nullptr, true}, args, plan);
        };
        CHECK(linear.error(linear.run(kernel)) < 1.5);
      }
    }
  }
}

TEST_CASE("skinny linear: a token's result does not depend on its batch, nor on the run") {
  if (!llmrun::testing::has_cuda_device()) return;
  for (const auto kernel : {default_kernel, direct_kernel}) {
    const LinearCase linear({64, 1536, 2056}, DType::kBf16, DType::kF32,
                            CudaLinearEpilogue::kSiluMul, false);
    const std::vector<unsigned char> all = linear.run(kernel);
    CHECK(linear.run(kernel) == all);
    const std::pair<std::int64_t, std::int64_t> ranges[] = {{0, 1},  {5, 1},   {60, 4}, {3, 17},
                                                            {8, 24}, {20, 32}, {1, 47}};
    for (const auto& [first, count] : ranges) {
      CAPTURE(first);
      CAPTURE(count);
      const std::vector<unsigned char> part = linear.run(kernel, first, count);
      CHECK(std::memcmp(part.data(), &all[static_cast<std::size_t>(first) * linear.token_bytes()],
                        part.size()) == 0);
    }
  }
}

// Writes x and the residual long after the next kernel may have started.
__global__ void late_copy_kernel(uint4* target, const uint4* source, std::int64_t count,
                                 long long cycles) {
  wait_for_inputs();
  allow_next();
  const long long start = clock64();
  while (clock64() - start < cycles) {
  }
  const std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (i < count) target[i] = source[i];
}

TEST_CASE("skinny linear: with overlapping launches it waits for its inputs") {
  if (!llmrun::testing::has_cuda_device()) return;
  const Shape shape{8, 1024, 1024};
  const LinearCase linear(shape, DType::kBf16, DType::kBf16, CudaLinearEpilogue::kAdd, true);
  const std::vector<unsigned char> expected = linear.run(default_kernel);
  DeviceBuffer x(static_cast<std::size_t>(shape.tokens * shape.columns) * 2);
  const auto late = [&](const SkinnyLinear& args) {
    const std::int64_t count = shape.tokens * shape.columns / 8;
    const Launch overlapping{nullptr, true};
    for (int i = 0; i < 3; ++i) {
      launch(overlapping, "late copy", late_copy_kernel,
             dim3(static_cast<unsigned>((count + 127) / 128)), dim3(128), 0,
             reinterpret_cast<uint4*>(x.data()), static_cast<const uint4*>(args.x), count,
             200000LL);
    }
    SkinnyLinear from_copy = args;
    from_copy.x = x.data();
    skinny_linear(overlapping, from_copy);
  };
  CHECK(linear.run(late) == expected);
}

TEST_CASE("skinny linear: what it does not take") {
  SkinnyLinear args;
  args.num_tokens = 1;
  args.num_rows = 40;
  args.num_columns = 64;
  CHECK(supports_skinny_linear(args));
  args.num_columns = 68;
  CHECK_FALSE(supports_skinny_linear(args));
  args.num_columns = 64;
  args.num_tokens = kMaxSkinnyTokens + 1;
  CHECK_FALSE(supports_skinny_linear(args));
  args.num_tokens = 1;
  args.epilogue = CudaLinearEpilogue::kSiluMul;
  CHECK_FALSE(supports_skinny_linear(args));
  args.epilogue = CudaLinearEpilogue::kStore;
  args.dtype = DType::kF32;
  CHECK_FALSE(supports_skinny_linear(args));
  args.dtype = DType::kF16;
  CHECK_FALSE(supports_skinny_linear(args));  // out_dtype is bf16
  args.out_dtype = DType::kF32;
  args.weight = reinterpret_cast<const void*>(8);
  CHECK_FALSE(supports_skinny_linear(args));
}

}  // namespace
}  // namespace llmrun::kernels
