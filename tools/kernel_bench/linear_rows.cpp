#include <functional>

#include <fmt/format.h>

#include "tools/kernel_bench/rows.h"

namespace llmrun {
namespace {

constexpr float kStddev = 0.02F;

// A kind of linear layer, W [num_rows, num_columns].
struct Linear {
  const char* name;
  std::int64_t num_rows;
  std::int64_t num_columns;
  std::int64_t out_size;
  DType x_dtype;
  DType out_dtype;
  std::function<std::unique_ptr<LinearWeight>(std::uint64_t seed)> make;
  std::function<void(const Tensor& out, const Tensor& x, const LinearWeight& weight)> run;
};

void bench_linear(KernelBench& bench, const Linear& linear) {
  const auto num_weights = static_cast<double>(linear.num_rows * linear.num_columns);
  std::vector<std::unique_ptr<LinearWeight>> weights;
  for (const std::int64_t tokens : bench.num_tokens()) {
    Row row;
    row.kernel = linear.name;
    row.shape = fmt::format("[{}, {}] {}", linear.num_rows, linear.num_columns, bench.dtype_name());
    row.num_tokens = tokens;
    row.bytes = num_weights * static_cast<double>(dtype_bytes(bench.dtype()));
    row.flops = 2.0 * num_weights * static_cast<double>(tokens);
    row.peak_flops_per_s = bench.product_flops_per_s();
    if (!bench.wants(row)) continue;
    const std::int64_t num_copies = bench.num_copies(row.bytes);
    for (std::int64_t i = std::ssize(weights); i < num_copies; ++i) {
      weights.push_back(linear.make(static_cast<std::uint64_t>(i)));
    }
    const DeviceTensor x = bench.random_tensor(linear.x_dtype, {tokens, linear.num_columns});
    const DeviceTensor out = bench.random_tensor(linear.out_dtype, {tokens, linear.out_size});
    bench.measure(row, make_step(1, 1, 1), num_copies,
                  [&](const ForwardBatch& /*batch*/, std::int64_t copy) {
                    linear.run(out.tensor, x.tensor, *weights[static_cast<std::size_t>(copy)]);
                  });
  }
}

}  // namespace

void bench_linears(KernelBench& bench) {
  const ModelShape& m = bench.model();
  Backend& backend = bench.backend();
  const DType activation_dtype = backend.activation_dtype();
  const DType input_dtype = bench.product_input_dtype();
  const auto random_linear = [&](std::int64_t rows, std::int64_t columns, bool has_bias) {
    return [&backend, &bench, rows, columns, has_bias](std::uint64_t seed) {
      return backend.make_random_linear(rows, columns, has_bias, bench.dtype(), kStddev, seed);
    };
  };
  const auto store = [&](const Tensor& out, const Tensor& x, const LinearWeight& weight) {
    backend.linear(out, x, weight);
  };
  const auto add = [&](const Tensor& inout, const Tensor& x, const LinearWeight& weight) {
    backend.linear_add(inout, x, weight);
  };
  bench_linear(bench, {.name = "qkv",
                       .num_rows = m.qkv_size(),
                       .num_columns = m.hidden_size,
                       .out_size = m.qkv_size(),
                       .x_dtype = input_dtype,
                       .out_dtype = activation_dtype,
                       .make = random_linear(m.qkv_size(), m.hidden_size, m.has_qkv_bias),
                       .run = store});
  bench_linear(bench, {.name = "lm_head",
                       .num_rows = m.vocab_size,
                       .num_columns = m.hidden_size,
                       .out_size = m.vocab_size,
                       .x_dtype = activation_dtype,  // after the last norm
                       .out_dtype = DType::kF32,
                       .make = random_linear(m.vocab_size, m.hidden_size, false),
                       .run = store});
  bench_linear(bench, {.name = "o",
                       .num_rows = m.hidden_size,
                       .num_columns = m.q_size(),
                       .out_size = m.hidden_size,
                       .x_dtype = input_dtype,
                       .out_dtype = activation_dtype,
                       .make = random_linear(m.hidden_size, m.q_size(), false),
                       .run = add});
  bench_linear(bench, {.name = "gate_up",
                       .num_rows = 2 * m.intermediate_size,
                       .num_columns = m.hidden_size,
                       .out_size = m.intermediate_size,
                       .x_dtype = input_dtype,
                       .out_dtype = input_dtype,
                       .make =
                           [&](std::uint64_t seed) {
                             return backend.make_random_gate_up(m.intermediate_size, m.hidden_size,
                                                                bench.dtype(), kStddev, seed);
                           },
                       .run =
                           [&](const Tensor& out, const Tensor& x, const LinearWeight& weight) {
                             backend.gate_up(out, x, weight, Activation::kSilu);
                           }});
  bench_linear(bench, {.name = "down",
                       .num_rows = m.hidden_size,
                       .num_columns = m.intermediate_size,
                       .out_size = m.hidden_size,
                       .x_dtype = input_dtype,
                       .out_dtype = activation_dtype,
                       .make = random_linear(m.hidden_size, m.intermediate_size, false),
                       .run = add});
}

}  // namespace llmrun
