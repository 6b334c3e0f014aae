// What operations write for a product, in the dtype that the product takes, is what it would have
// made of their float32 results; and large products are cut into tasks without losing any.
#include <cstring>
#include <random>
#include <vector>

#include <doctest/doctest.h>

#include "engine/backend/cpu/cpu_backend.h"
#include "engine/core/float16.h"

namespace llmrun {
namespace {

constexpr std::int64_t kRows = 45;
constexpr std::int64_t kDepth = 96;

DeviceTensor random_tensor(Backend& backend, std::initializer_list<std::int64_t> shape,
                           std::uint32_t seed) {
  DeviceTensor result = backend.allocate_tensor(DType::kF32, shape);
  std::mt19937 engine(seed);
  std::normal_distribution<float> normal;
  float* values = result.tensor.as<float>();
  for (std::int64_t i = 0; i < result.tensor.num_elements(); ++i) values[i] = normal(engine);
  return result;
}

// Elements of `rounded`, bf16, that are not those of `values`, float32, rounded.
std::int64_t num_not_rounded(const Tensor& rounded, const Tensor& values) {
  REQUIRE(rounded.num_elements() == values.num_elements());
  std::int64_t count = 0;
  for (std::int64_t i = 0; i < values.num_elements(); ++i) {
    if (rounded.as<std::uint16_t>()[i] != float_to_bf16(values.as<float>()[i])) ++count;
  }
  return count;
}

bool has_same_bits(const Tensor& a, const Tensor& b) {
  REQUIRE(a.num_bytes() == b.num_bytes());
  return std::memcmp(a.data(), b.data(), a.num_bytes()) == 0;
}

std::vector<std::unique_ptr<Backend>> backends_with_bf16_inputs() {
  std::vector<std::unique_ptr<Backend>> result;
  for (const CpuIsa isa : supported_cpu_isas()) {
    if (isa >= CpuIsa::kAvx512Bf16) {
      result.push_back(make_cpu_backend({.num_threads = 3, .isa = isa}));
    }
  }
  return result;
}

}  // namespace

TEST_CASE("which weights take bf16 activations") {
  for (const CpuIsa isa : supported_cpu_isas()) {
    const auto backend = make_cpu_backend({.num_threads = 1, .isa = isa});
    const auto input = [&](std::int64_t columns, DType dtype) {
      return backend->linear_input_dtype(
          *backend->make_random_linear(16, columns, false, dtype, 1.0F, 1));
    };
    CAPTURE(to_string(isa));
    CHECK(input(64, DType::kBf16) == (isa >= CpuIsa::kAvx512Bf16 ? DType::kBf16 : DType::kF32));
    CHECK(input(65, DType::kBf16) == DType::kF32);  // would have to be padded
    CHECK(input(64, DType::kF32) == DType::kF32);
  }
}

TEST_CASE("products of bf16 activations: the bits of the same activations in float32") {
  for (const auto& backend : backends_with_bf16_inputs()) {
    CAPTURE(backend->description());
    for (const std::int64_t rows : {std::int64_t{1}, std::int64_t{7}, kRows}) {
      const DeviceTensor hidden = random_tensor(*backend, {rows, kDepth}, 1);
      const DeviceTensor norm = random_tensor(*backend, {kDepth}, 2);
      const DeviceTensor x = backend->allocate_tensor(DType::kF32, {rows, kDepth});
      const DeviceTensor x_bf16 = backend->allocate_tensor(DType::kBf16, {rows, kDepth});
      backend->rms_norm(x.tensor, hidden.tensor, norm.tensor, 1e-5F);
      backend->rms_norm(x_bf16.tensor, hidden.tensor, norm.tensor, 1e-5F);
      CHECK(num_not_rounded(x_bf16.tensor, x.tensor) == 0);

      const auto weight = backend->make_random_linear(70, kDepth, true, DType::kBf16, 0.1F, 3);
      const DeviceTensor out = backend->allocate_tensor(DType::kF32, {rows, 70});
      const DeviceTensor out_bf16 = backend->allocate_tensor(DType::kF32, {rows, 70});
      backend->linear(out.tensor, x.tensor, *weight);
      backend->linear(out_bf16.tensor, x_bf16.tensor, *weight);
      CHECK(has_same_bits(out.tensor, out_bf16.tensor));
      backend->linear_add(out.tensor, x.tensor, *weight);
      backend->linear_add(out_bf16.tensor, x_bf16.tensor, *weight);
      CHECK(has_same_bits(out.tensor, out_bf16.tensor));

      const auto gate_up = backend->make_random_gate_up(50, kDepth, DType::kBf16, 0.1F, 4);
      const DeviceTensor gated = backend->allocate_tensor(DType::kF32, {rows, 50});
      const DeviceTensor gated_bf16 = backend->allocate_tensor(DType::kBf16, {rows, 50});
      backend->gate_up(gated.tensor, x.tensor, *gate_up, Activation::kSilu);
      backend->gate_up(gated_bf16.tensor, x_bf16.tensor, *gate_up, Activation::kSilu);
      CHECK(num_not_rounded(gated_bf16.tensor, gated.tensor) == 0);
    }
  }
}

TEST_CASE("attention and gather_rows in bf16") {
  constexpr std::int64_t kHeads = 6;
  constexpr std::int64_t kKvHeads = 2;
  constexpr std::int64_t kHeadDim = 24;
  for (const auto& backend : backends_with_bf16_inputs()) {
    CAPTURE(backend->description());
    for (const std::int32_t length : {1, 40}) {
      const DeviceTensor qkv =
          random_tensor(*backend, {length, (kHeads + 2 * kKvHeads) * kHeadDim}, 5);
      const DeviceTensor key = backend->allocate_tensor(DType::kBf16, {3, kKvHeads, 16, kHeadDim});
      const DeviceTensor value =
          backend->allocate_tensor(DType::kBf16, {3, kKvHeads, 16, kHeadDim});
      StepInputs inputs;
      for (std::int32_t t = 0; t < length; ++t) {
        inputs.token_ids.push_back(0);
        inputs.positions.push_back(t);
        inputs.slot_mapping.push_back(t);
      }
      inputs.query_start_loc = {0, length};
      inputs.seq_lens = {length};
      inputs.max_num_blocks = 3;
      inputs.block_tables = {0, 1, 2};
      inputs.logits_indices = {length - 1, 0};
      const ForwardBatch batch = backend->upload(inputs);
      backend->rope_and_store_kv(qkv.tensor, {key.tensor, value.tensor}, batch, {}, kHeads);
      const DeviceTensor out = backend->allocate_tensor(DType::kF32, {length, kHeads * kHeadDim});
      const DeviceTensor out_bf16 =
          backend->allocate_tensor(DType::kBf16, {length, kHeads * kHeadDim});
      for (const Tensor& tensor : {out.tensor, out_bf16.tensor}) {
        backend->attention(tensor, qkv.tensor, {key.tensor, value.tensor}, batch, {.scale = 0.2F});
      }
      CHECK(num_not_rounded(out_bf16.tensor, out.tensor) == 0);

      const DeviceTensor rows = backend->allocate_tensor(DType::kF32, {2, kHeads * kHeadDim});
      const DeviceTensor rows_bf16 = backend->allocate_tensor(DType::kBf16, {2, kHeads * kHeadDim});
      backend->gather_rows(rows.tensor, out.tensor, batch.logits_indices);
      backend->gather_rows(rows_bf16.tensor, out_bf16.tensor, batch.logits_indices);
      CHECK(num_not_rounded(rows_bf16.tensor, rows.tensor) == 0);
      CHECK(has_same_bits(rows.tensor.rows(1, 1), out.tensor.rows(1)));
    }
  }
}

TEST_CASE("a product in many tasks is that of each part of its rows") {
  constexpr std::int64_t kManyRows = 700;
  constexpr std::int64_t kLongDepth = 2048;  // the activations of all rows are too many for a cache
  for (const CpuIsa isa : supported_cpu_isas()) {
    const auto backend = make_cpu_backend({.num_threads = 3, .isa = isa});
    CAPTURE(backend->description());
    const auto weight = backend->make_random_linear(176, kLongDepth, false, DType::kBf16, 0.1F, 6);
    const DeviceTensor x = random_tensor(*backend, {kManyRows, kLongDepth}, 7);
    const DeviceTensor whole = backend->allocate_tensor(DType::kF32, {kManyRows, 176});
    backend->linear(whole.tensor, x.tensor, *weight);
    for (std::int64_t begin = 0; begin < kManyRows; begin += 100) {
      const DeviceTensor part = backend->allocate_tensor(DType::kF32, {100, 176});
      backend->linear(part.tensor, x.tensor.rows(begin, 100), *weight);
      CHECK(has_same_bits(part.tensor, whole.tensor.rows(begin, 100)));
    }
  }
}

}  // namespace llmrun
