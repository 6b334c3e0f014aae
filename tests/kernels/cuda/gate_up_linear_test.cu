// The gate and up kernel against sums in double precision.
#include <cstring>
#include <utility>
#include <vector>

#include <doctest/doctest.h>

#include "kernels/cuda/gate_up_linear.h"
#include "kernels/cuda/hopper.h"
#include "tests/kernels/cuda/linear_case.cuh"
#include "tests/support/cuda_device.h"

namespace llmrun::kernels {
namespace {

bool runs_here() {
  return llmrun::testing::has_cuda_device() && runs_hopper_code();
}

void gate_up(const LinearArguments& args) {
  gate_up_linear(Launch{nullptr, true}, args);
}

LinearCase gate_up_case(const Shape& shape, DType dtype) {
  return {shape, dtype, dtype, CudaLinearEpilogue::kSiluMul, false};
}

TEST_CASE("gate and up: tokens around the tiles") {
  if (!runs_here()) return;
  for (const std::int64_t tokens : {1, 63, 64, 65, 127, 128, 129, 256, 257, 385}) {
    for (const DType dtype : {DType::kBf16, DType::kF16}) {
      CAPTURE(tokens);
      CAPTURE(to_string(dtype));
      const LinearCase linear = gate_up_case({tokens, 272, 200}, dtype);
      CHECK(linear.error(linear.run(gate_up)) < 1.5);
    }
  }
}

TEST_CASE("gate and up: odd shapes") {
  if (!runs_here()) return;
  const Shape shapes[] = {{1, 16, 8},     {3, 48, 64},    {130, 16, 192},   {33, 528, 72},
                          {300, 256, 64}, {2, 1008, 136}, {200, 2064, 328}, {16, 32, 4104}};
  for (const Shape& shape : shapes) {
    CAPTURE(shape.tokens);
    CAPTURE(shape.rows);
    CAPTURE(shape.columns);
    const LinearCase linear = gate_up_case(shape, DType::kBf16);
    CHECK(linear.error(linear.run(gate_up)) < 1.5);
  }
}

// More tiles than blocks, and tokens beyond one band of tiles: each cluster takes several turns.
TEST_CASE("gate and up: many tiles") {
  if (!runs_here()) return;
  const LinearCase linear = gate_up_case({4500, 2320, 24}, DType::kBf16);
  CHECK(linear.error(linear.run(gate_up)) < 1.5);
}

TEST_CASE("gate and up: a token's result does not depend on its batch, nor on the run") {
  if (!runs_here()) return;
  const LinearCase linear = gate_up_case({300, 1536, 1032}, DType::kBf16);
  const std::vector<unsigned char> all = linear.run(gate_up);
  CHECK(linear.run(gate_up) == all);
  const std::pair<std::int64_t, std::int64_t> ranges[] = {{0, 1}, {5, 130}, {299, 1}, {20, 257}};
  for (const auto& [first, count] : ranges) {
    CAPTURE(first);
    CAPTURE(count);
    const std::vector<unsigned char> part = linear.run(gate_up, first, count);
    CHECK(std::memcmp(part.data(), &all[static_cast<std::size_t>(first) * linear.token_bytes()],
                      part.size()) == 0);
  }
}

TEST_CASE("gate and up: what it does not take") {
  if (!runs_here()) return;
  LinearArguments args;
  args.num_tokens = 1;
  args.num_rows = 48;
  args.num_columns = 64;
  CHECK_FALSE(supports_gate_up_linear(args));
  args.epilogue = CudaLinearEpilogue::kSiluMul;
  CHECK(supports_gate_up_linear(args));
  args.num_columns = 68;
  CHECK_FALSE(supports_gate_up_linear(args));
  args.num_columns = 64;
  args.num_rows = 40;
  CHECK_FALSE(supports_gate_up_linear(args));
  args.num_rows = 48;
  args.bias = &args;
  CHECK_FALSE(supports_gate_up_linear(args));
  args.bias = nullptr;
  args.out_dtype = DType::kF32;
  CHECK_FALSE(supports_gate_up_linear(args));
  args.dtype = DType::kF32;
  CHECK_FALSE(supports_gate_up_linear(args));
  args.dtype = args.out_dtype = DType::kF16;
  CHECK(supports_gate_up_linear(args));
  args.x = reinterpret_cast<const void*>(8);
  CHECK_FALSE(supports_gate_up_linear(args));
}

}  // namespace
}  // namespace llmrun::kernels
