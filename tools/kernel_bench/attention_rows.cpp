#include <algorithm>
#include <cmath>

#include <fmt/format.h>

#include "tools/kernel_bench/rows.h"

namespace llmrun {
namespace {

// Sequences of `context` tokens, the last `query_len` of them new.
struct Attention {
  std::int64_t num_sequences;
  std::int64_t query_len;
  std::int64_t context;
};

// Copies of the cache are layers: the same block table, other memory.
void bench_one(KernelBench& bench, const Attention& a) {
  constexpr std::int64_t kMaxCopies = 200;
  const ModelShape& m = bench.model();
  Backend& backend = bench.backend();
  const std::int64_t num_tokens = a.num_sequences * a.query_len;
  Row row;
  row.kernel = a.query_len == 1 ? "attention decode" : "attention prefill";
  row.shape =
      fmt::format("{} x {} of {}, {}", a.num_sequences, a.query_len, a.context, bench.dtype_name());
  row.num_tokens = num_tokens;
  row.bytes = 2.0 * static_cast<double>(a.num_sequences * a.context * m.kv_size()) *
              static_cast<double>(dtype_bytes(bench.dtype()));
  const double pairs =
      static_cast<double>(num_tokens) *
      (static_cast<double>(a.context) - static_cast<double>(a.query_len - 1) / 2.0);
  row.flops = 4.0 * pairs * static_cast<double>(m.q_size());
  row.peak_flops_per_s = bench.attention_flops_per_s(a.query_len > 1);
  if (!bench.wants(row)) return;
  const std::int64_t num_copies =
      std::min(bench.num_copies(row.bytes), bench.is_gpu() ? 4 * kMaxCopies : kMaxCopies);
  if (!bench.has_room(static_cast<double>(num_copies) * row.bytes)) {
    fmt::print(stderr, "{} {}: left out, the device has no room\n", row.kernel, row.shape);
    return;
  }

  const std::int64_t num_blocks = num_kv_blocks(a.num_sequences, a.context);
  const auto make_cache = [&] {
    return bench.random_tensor(bench.dtype(),
                               {num_copies * num_blocks, m.num_kv_heads, kKvBlockSize, m.head_dim});
  };
  const DeviceTensor key = make_cache();
  const DeviceTensor value = make_cache();
  const DeviceTensor qkv =
      bench.random_tensor(backend.activation_dtype(), {num_tokens, m.qkv_size()});
  const DeviceTensor out =
      bench.random_tensor(bench.product_input_dtype(), {num_tokens, m.q_size()});
  AttentionParams params;
  params.scale = 1.0F / std::sqrt(static_cast<float>(m.head_dim));
  bench.measure(row, make_step(a.num_sequences, a.query_len, a.context), num_copies,
                [&](const ForwardBatch& batch, std::int64_t copy) {
                  const KvCacheView kv{key.tensor.rows(copy * num_blocks, num_blocks),
                                       value.tensor.rows(copy * num_blocks, num_blocks)};
                  backend.attention(out.tensor, qkv.tensor, kv, batch, params);
                });
}

}  // namespace

void bench_attention(KernelBench& bench) {
  const std::vector<std::int64_t> contexts = bench.is_gpu()
                                                 ? std::vector<std::int64_t>{128, 1024, 4096}
                                                 : std::vector<std::int64_t>{128, 512, 4096};
  const std::vector<std::int64_t> batches =
      bench.is_gpu() ? std::vector<std::int64_t>{1, 25, 256} : std::vector<std::int64_t>{1, 25};
  for (const std::int64_t context : contexts) {
    for (const std::int64_t num_sequences : batches) bench_one(bench, {num_sequences, 1, context});
  }
  bench_one(bench, {1, 512, 512});
  if (bench.is_gpu()) bench_one(bench, {1, 2048, 2048});
  bench_one(bench, {1, 512, 4096});
  if (bench.is_gpu()) bench_one(bench, {8, 1000, 1000});
}

}  // namespace llmrun
