// How attention is divided among threads changes no bit of it.
#include "engine/backend/cpu/cpu_attention.h"

#include <cmath>
#include <vector>

#include <doctest/doctest.h>

#include "tests/support/random_values.h"

namespace llmrun {
namespace {

using testing::random_values;

// Sequences of these lengths, the last `query_len` tokens of each new, in a cache of float32 whose
// blocks hold a sequence each.
std::vector<float> run_attention(CpuAttention& attention, std::vector<std::int32_t> seq_lens,
                                 std::int32_t query_len, std::int64_t num_kv_heads,
                                 std::int64_t group_size) {
  constexpr std::int64_t kHeadDim = 24;
  constexpr std::int64_t kBlockSize = 1400;
  const auto num_sequences = static_cast<std::int32_t>(seq_lens.size());
  std::vector<std::int32_t> query_start_loc, block_tables;
  for (std::int32_t s = 0; s <= num_sequences; ++s) query_start_loc.push_back(s * query_len);
  for (std::int32_t s = 0; s < num_sequences; ++s) block_tables.push_back(s);
  ForwardBatch batch;
  batch.num_sequences = num_sequences;
  batch.query_start_loc = Tensor(query_start_loc.data(), DType::kI32, {num_sequences + 1});
  batch.seq_lens = Tensor(seq_lens.data(), DType::kI32, {num_sequences});
  batch.block_tables = Tensor(block_tables.data(), DType::kI32, {num_sequences, 1});

  const std::int64_t row_size = num_kv_heads * group_size * kHeadDim;
  const std::int64_t num_rows = num_sequences * query_len;
  const std::int64_t cache_size = num_sequences * num_kv_heads * kBlockSize * kHeadDim;
  const std::vector<float> q = random_values(num_rows * row_size, 1);
  const std::vector<float> key = random_values(cache_size, 2);
  const std::vector<float> value = random_values(cache_size, 3);
  std::vector<float> out(q.size(), NAN);
  kernels::AttentionArgs args;
  args.q = q.data();
  args.q_stride = row_size;
  args.out = out.data();
  args.out_stride = args.q_stride;
  args.key = key.data();
  args.value = value.data();
  args.block_size = kBlockSize;
  args.num_kv_heads = num_kv_heads;
  args.group_size = group_size;
  args.head_dim = kHeadDim;
  args.scale = 0.2F;
  attention.run(args, batch);
  return out;
}

}  // namespace

TEST_CASE("attention's bits do not depend on the number of threads") {
  const kernels::CpuKernels& kernels = kernels::cpu_kernels(supported_cpu_isas().back());
  ThreadPool one({.num_threads = 1});
  CpuAttention alone(one, kernels, false);
  for (const std::int32_t num_threads : {2, 3, 5, 16, 40}) {
    CAPTURE(num_threads);
    ThreadPool pool({.num_threads = num_threads});
    CpuAttention attention(pool, kernels, false);
    for (const std::vector<std::int32_t>& seq_lens :
         std::vector<std::vector<std::int32_t>>{{40}, {1300}, {40, 600, 41}}) {
      for (const std::int32_t query_len : {1, 40}) {
        for (const std::int64_t num_kv_heads : {1, 2}) {
          for (const std::int64_t group_size : {1, 7}) {
            // Equal numbers: a row that nobody computed is NaN and unequal.
            CHECK(run_attention(attention, seq_lens, query_len, num_kv_heads, group_size) ==
                  run_attention(alone, seq_lens, query_len, num_kv_heads, group_size));
          }
        }
      }
    }
  }
}

}  // namespace llmrun
