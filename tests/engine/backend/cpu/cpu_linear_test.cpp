// How products are divided among threads: every element once, with the bits that the number of
// threads and, within a kernel's range, the number of rows do not change.
#include "engine/backend/cpu/cpu_linear.h"

#include <cmath>
#include <cstring>
#include <vector>

#include <doctest/doctest.h>

#include "tests/support/random_values.h"

namespace llmrun {
namespace {

using kernels::CpuKernels;
using kernels::LinearEpilogue;
using testing::random_values;

constexpr std::int64_t kMostFewRows = CpuKernels::kFewRows - 1;

// As on AMX machines, where few rows have a kernel of their own.
std::vector<CpuKernels> kernels_with_own_few_rows() {
  std::vector<CpuKernels> result;
  for (const CpuIsa isa : supported_cpu_isas()) {
    if (isa != CpuIsa::kAvx2 && isa != CpuIsa::kAvx512Bf16) continue;
    const CpuKernels& all = kernels::cpu_kernels(isa);
    const bool is_avx2 = isa == CpuIsa::kAvx2;
    result.push_back({isa, all.linear_f32,
                      is_avx2 ? kernels::linear_bf16_portable() : kernels::linear_bf16_avx512(),
                      is_avx2 ? kernels::linear_bf16_avx2() : kernels::linear_bf16_avx512_xeon(),
                      all.attention, all.attention_bf16_many_rows, all.elementwise, all.peak});
  }
  return result;
}

struct Product {
  std::int64_t num_columns, depth;
  LinearEpilogue epilogue;
  bool has_bias;

  bool is_gate_up() const { return epilogue == LinearEpilogue::kGateMul; }
  std::int64_t out_columns() const { return is_gate_up() ? num_columns / 2 : num_columns; }
};

// A product's result, [num_rows, out_columns]; its inputs depend on the product alone.
std::vector<float> run(CpuLinear& linear, const Product& product, std::int64_t num_rows) {
  const auto weight = linear.make_random(product.num_columns, product.depth, DType::kBf16,
                                         product.is_gate_up(), product.has_bias, 0.1F, 1);
  std::vector<float> x = random_values(num_rows * product.depth, 2);
  std::vector<float> out = random_values(num_rows * product.out_columns(), 3);
  linear.run(Tensor(out.data(), DType::kF32, {num_rows, product.out_columns()}),
             Tensor(x.data(), DType::kF32, {num_rows, product.depth}), *weight, product.epilogue);
  return out;
}

// The largest difference from a plain loop in double precision; not for kGateMul.
double largest_error(CpuLinear& linear, const Product& product, std::int64_t num_rows) {
  const std::vector<float> out = run(linear, product, num_rows);
  const auto weight = linear.make_random(product.num_columns, product.depth, DType::kBf16, false,
                                         product.has_bias, 0.1F, 1);
  const std::vector<float> x = random_values(num_rows * product.depth, 2);
  const std::vector<float> initial = random_values(num_rows * product.num_columns, 3);
  std::vector<float> weight_row(static_cast<std::size_t>(product.depth));
  double largest = 0;
  for (std::int64_t column = 0; column < product.num_columns; ++column) {
    linear.read_row(weight_row.data(), *weight, column);
    for (std::int64_t row = 0; row < num_rows; ++row) {
      const auto i = static_cast<std::size_t>(row * product.num_columns + column);
      double expected = product.has_bias ? weight->bias()[column] : 0.0F;
      if (product.epilogue == LinearEpilogue::kAdd) expected += initial[i];
      for (std::int64_t k = 0; k < product.depth; ++k) {
        expected += double{weight_row[static_cast<std::size_t>(k)]} *
                    x[static_cast<std::size_t>(row * product.depth + k)];
      }
      const double error = std::abs(out[i] - expected);
      largest = std::isnan(error) ? INFINITY : std::max(largest, error);
    }
  }
  return largest;
}

// The first rows of both have the same bits.
bool begin_alike(const std::vector<float>& a, const std::vector<float>& b) {
  return std::memcmp(a.data(), b.data(), std::min(a.size(), b.size()) * sizeof(float)) == 0;
}

// Depths of one part and of several, with a remainder and without; panels that are not full.
std::vector<Product> products() {
  std::vector<Product> result;
  for (const std::int64_t columns : {1, 40, 300}) {
    for (const std::int64_t depth : {70, 512, 1025, 2080}) {
      for (const LinearEpilogue epilogue : {LinearEpilogue::kStore, LinearEpilogue::kAdd}) {
        for (const bool has_bias : {false, true}) {
          result.push_back({columns, depth, epilogue, has_bias});
        }
      }
    }
  }
  return result;
}

}  // namespace

TEST_CASE("products of few rows whose kernel is their own, against plain loops") {
  for (const CpuKernels& kernels : kernels_with_own_few_rows()) {
    CAPTURE(to_string(kernels.isa));
    ThreadPool pool({.num_threads = 3});
    CpuLinear linear(pool, kernels, false);
    for (const Product& product : products()) {
      CAPTURE(product.num_columns);
      CAPTURE(product.depth);
      for (std::int64_t rows = 1; rows <= kMostFewRows; ++rows) {
        CHECK(largest_error(linear, product, rows) < 1e-4);
      }
    }
  }
}

TEST_CASE("the bits of few rows do not depend on the number of threads or of few rows") {
  for (const CpuKernels& kernels : kernels_with_own_few_rows()) {
    CAPTURE(to_string(kernels.isa));
    ThreadPool one({.num_threads = 1});
    CpuLinear alone(one, kernels, false);
    std::vector<Product> all = products();
    all.push_back({1600, 96, LinearEpilogue::kGateMul, true});
    for (const std::int32_t num_threads : {2, 3, 16}) {
      ThreadPool pool({.num_threads = num_threads});
      CpuLinear linear(pool, kernels, false);
      for (const Product& product : all) {
        const std::vector<float> expected = run(alone, product, kMostFewRows);
        for (std::int64_t rows = 1; rows <= kMostFewRows; ++rows) {
          CHECK(begin_alike(run(linear, product, rows), expected));
        }
      }
    }
  }
}

TEST_CASE("one kernel for all rows, or deterministic: the bits of a row in any batch") {
  ThreadPool pool({.num_threads = 3});
  const auto check = [&](const CpuKernels& kernels, bool deterministic) {
    CAPTURE(to_string(kernels.isa));
    CpuLinear linear(pool, kernels, deterministic);
    for (const Product& product : products()) {
      const std::vector<float> expected = run(linear, product, 2 * CpuKernels::kFewRows);
      for (const std::int64_t rows : {std::int64_t{1}, kMostFewRows}) {
        CHECK(begin_alike(run(linear, product, rows), expected));
      }
    }
  };
  for (const CpuKernels& kernels : kernels_with_own_few_rows()) check(kernels, true);
  for (const CpuIsa isa : supported_cpu_isas())
    check(kernels::cpu_kernels(isa), isa == CpuIsa::kAmx);
}

TEST_CASE("the depth is divided where few rows have a kernel of their own") {
  const Product product = {40, 2080, LinearEpilogue::kStore, false};
  ThreadPool pool({.num_threads = 3});
  for (const CpuKernels& kernels : kernels_with_own_few_rows()) {
    CpuLinear divided(pool, kernels, false);
    CpuLinear whole(pool, kernels::cpu_kernels(kernels.isa), false);  // sums in the same order
    CHECK(!begin_alike(run(divided, product, 1), run(whole, product, 1)));
  }
}

}  // namespace llmrun
