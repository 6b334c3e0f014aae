// The skinny linear kernels against sums in double precision.
#include <algorithm>
#include <cstring>
#include <utility>
#include <vector>

#include <doctest/doctest.h>

#include "kernels/cuda/hopper.h"
#include "kernels/cuda/skinny_linear.h"
#include "kernels/cuda/skinny_linear_variants.h"
#include "tests/kernels/cuda/linear_case.cuh"
#include "tests/support/cuda_device.h"

namespace llmrun::kernels {
namespace {

void default_kernel(const LinearArguments& args) {
  skinny_linear(Launch{}, args);
}
void direct_kernel(const LinearArguments& args) {
  skinny_linear_direct(Launch{}, args);
}

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
      for (const int rows : {8, 16, 24, 56, 112, 136, 192}) {
        CAPTURE(tokens);
        CAPTURE(splits);
        CAPTURE(rows);
        SkinnyStreamPlan plan = plan_skinny_stream(
            linear.arguments(nullptr), skinny_stream_device(), kSkinnySharedBytesOverlapping);
        plan.rows_per_block = rows;
        plan.num_splits = splits;
        // Without splits, fewer blocks than groups of rows: several passes.
        const int groups = (1200 + rows - 1) / rows;
        plan.num_blocks = splits == 1 ? std::min(4, groups) : groups * splits;
        plan.warp_groups = splits == 1 ? 1 : std::max(1, 6 / plan.tiles_per_block());
        plan.num_slots = std::max(2, plan.warp_groups);
        const auto kernel = [&](const LinearArguments& args) {
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
  const auto late = [&](const LinearArguments& args) {
    const std::int64_t count = shape.tokens * shape.columns / 8;
    const Launch overlapping{nullptr, true};
    for (int i = 0; i < 3; ++i) {
      launch(overlapping, "late copy", late_copy_kernel,
             dim3(static_cast<unsigned>((count + 127) / 128)), dim3(128), 0,
             reinterpret_cast<uint4*>(x.data()), static_cast<const uint4*>(args.x), count,
             200000LL);
    }
    LinearArguments from_copy = args;
    from_copy.x = x.data();
    skinny_linear(overlapping, from_copy);
  };
  CHECK(linear.run(late) == expected);
}

TEST_CASE("skinny linear: what it does not take") {
  LinearArguments args;
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
