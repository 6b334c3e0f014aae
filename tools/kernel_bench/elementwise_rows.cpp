#include <cmath>
#include <vector>

#include <fmt/format.h>

#include "tools/kernel_bench/rows.h"

namespace llmrun {
namespace {

double element_bytes(DType dtype) {
  return static_cast<double>(dtype_bytes(dtype));
}

void bench_embedding(KernelBench& bench) {
  constexpr std::int64_t kSteps = 64;  // with other ids in each
  const ModelShape& m = bench.model();
  Backend& backend = bench.backend();
  const DType activation_dtype = backend.activation_dtype();
  std::unique_ptr<LinearWeight> table;
  for (const std::int64_t tokens : bench.num_tokens()) {
    Row row;
    row.kernel = "embedding";
    row.shape = fmt::format("[{}, {}] {}", m.vocab_size, m.hidden_size, bench.dtype_name());
    row.num_tokens = tokens;
    row.bytes = static_cast<double>(tokens * m.hidden_size) *
                (element_bytes(bench.dtype()) + element_bytes(activation_dtype));
    if (!bench.wants(row)) continue;
    if (table == nullptr) {
      table =
          backend.make_random_linear(m.vocab_size, m.hidden_size, false, bench.dtype(), 1.0F, 1);
    }
    const DeviceTensor ids = bench.random_ids(kSteps * tokens, m.vocab_size);
    const DeviceTensor out = bench.random_tensor(activation_dtype, {tokens, m.hidden_size});
    bench.measure(row, make_step(1, 1, 1), kSteps,
                  [&](const ForwardBatch& /*batch*/, std::int64_t copy) {
                    backend.embedding(out.tensor, *table, ids.tensor.rows(copy * tokens, tokens));
                  });
  }
}

void bench_rms_norm(KernelBench& bench) {
  const std::int64_t size = bench.model().hidden_size;
  Backend& backend = bench.backend();
  const DType dtype = backend.activation_dtype();
  const DType out_dtype = bench.product_input_dtype();
  for (const std::int64_t tokens : bench.num_tokens()) {
    Row row;
    row.kernel = "rms_norm";
    row.shape = fmt::format("[{}, {}] {}", tokens, size, dtype == DType::kF32 ? "f32" : "bf16");
    row.num_tokens = tokens;
    row.bytes =
        (element_bytes(dtype) + element_bytes(out_dtype)) * static_cast<double>(tokens * size);
    if (!bench.wants(row)) continue;
    const DeviceTensor x = bench.random_tensor(dtype, {tokens, size});
    const DeviceTensor out = bench.random_tensor(out_dtype, {tokens, size});
    const DeviceTensor weight = bench.random_tensor(DType::kF32, {size});
    bench.measure(row, make_step(1, 1, 1), 1,
                  [&](const ForwardBatch& /*batch*/, std::int64_t /*copy*/) {
                    backend.rms_norm(out.tensor, x.tensor, weight.tensor, 1e-6F);
                  });
  }
}

// One token each of as many sequences.
void bench_rope(KernelBench& bench) {
  constexpr std::int64_t kContext = 512;
  const ModelShape& m = bench.model();
  Backend& backend = bench.backend();
  const DType activation_dtype = backend.activation_dtype();
  for (const std::int64_t tokens : bench.num_tokens()) {
    Row row;
    row.kernel = "rope, store k, v";
    row.shape = fmt::format("[{}, {}] {}", tokens, m.qkv_size(), bench.dtype_name());
    row.num_tokens = tokens;
    // q, k and v are read, q and k written in place, k and v to the cache.
    const auto values = static_cast<double>(m.qkv_size() + m.q_size() + m.kv_size());
    row.bytes = static_cast<double>(tokens) *
                (values * element_bytes(activation_dtype) +
                 2.0 * static_cast<double>(m.kv_size()) * element_bytes(bench.dtype()));
    if (!bench.wants(row)) continue;
    const std::int64_t num_blocks = num_kv_blocks(tokens, kContext);
    const auto make_cache = [&] {
      return backend.allocate_tensor(bench.dtype(),
                                     {num_blocks, m.num_kv_heads, kKvBlockSize, m.head_dim});
    };
    const DeviceTensor key = make_cache();
    const DeviceTensor value = make_cache();
    const DeviceTensor qkv = bench.random_tensor(activation_dtype, {tokens, m.qkv_size()});
    // Turned by 45 degrees in every call, so that values keep their size and never become denormal.
    const std::vector<float> turn(static_cast<std::size_t>(kContext * m.head_dim), std::sqrt(0.5F));
    const DeviceTensor cos_sin = backend.allocate_tensor(DType::kF32, {kContext, m.head_dim});
    backend.copy_to_device(cos_sin.tensor, turn.data());
    bench.measure(row, make_step(tokens, 1, kContext), 1,
                  [&](const ForwardBatch& batch, std::int64_t /*copy*/) {
                    backend.rope_and_store_kv(qkv.tensor, {key.tensor, value.tensor}, batch,
                                              cos_sin.tensor,
                                              static_cast<std::int32_t>(m.num_query_heads));
                  });
  }
}

}  // namespace

void bench_elementwise(KernelBench& bench) {
  bench_embedding(bench);
  bench_rms_norm(bench);
  bench_rope(bench);
}

}  // namespace llmrun
