#include "kernels/cuda/sampling.h"
#include "kernels/cuda/sampling_block.cuh"
#include "kernels/cuda/sampling_row.cuh"

namespace llmrun::kernels {
namespace {

struct LogprobsMemory {
  SelectMemory select;
  std::uint64_t warps[kSamplingWarps];
  std::uint32_t flag;
  std::uint32_t num_entries;
};

// Writes the num_logprobs best tokens of a row, the lower ids of those with equal logits.
__device__ void write_best(const SamplingBatch& batch, std::int64_t row, const RowView& view,
                           LogprobsMemory& memory) {
  const SamplingRowParams& params = batch.rows[row];
  const auto wanted = static_cast<std::uint64_t>(params.num_logprobs);
  const std::int32_t* list = batch.workspace.lists + row * kSamplingListSize;
  const std::uint32_t num_listed = __ldcg(batch.workspace.list_counts + row);
  __syncthreads();
  if (threadIdx.x == 0) {
    batch.workspace.list_counts[row] = 0;
    memory.num_entries = 0;
  }
  // Too many equal logits for the list, or too few that are not masked: look at all of the row.
  const bool has_list = num_listed >= wanted && num_listed <= kSamplingListSize;
  const std::int64_t count = has_list ? num_listed : view.vocab_size;
  const auto token_at = [&](std::int64_t i) {
    return has_list ? __ldcg(list + i) : static_cast<std::int32_t>(i);
  };
  const Selection last =
      select_reaching(memory.select, count, 0, wanted,
                      [&](std::int64_t i, std::uint32_t& key, std::uint64_t& weight) {
                        key = order_key(view.logits[token_at(i)]);
                        weight = 1;
                        return true;
                      });
  const Selection last_tied =
      select_reaching(memory.select, count, last.above, wanted,
                      [&](std::int64_t i, std::uint32_t& key, std::uint64_t& weight) {
                        const std::int32_t token = token_at(i);
                        key = ~static_cast<std::uint32_t>(token);
                        weight = 1;
                        return order_key(view.logits[token]) == last.key;
                      });
  for (std::int64_t i = threadIdx.x; i < count; i += kSamplingThreads) {
    const std::int32_t token = token_at(i);
    const float x = view.logits[token];
    const std::uint32_t key = order_key(x);
    if (key < last.key || (key == last.key && ~static_cast<std::uint32_t>(token) < last_tied.key)) {
      continue;
    }
    const std::uint32_t place = atomicAdd(&memory.num_entries, 1U);
    if (place < wanted) batch.entries[params.entries_begin + place] = {token, x};
  }
}

__global__ void __launch_bounds__(kSamplingThreads)
    logprobs_kernel(const __grid_constant__ SamplingBatch batch, const SamplingRows rows,
                    const SamplingSplit split) {
  __shared__ LogprobsMemory memory;
  wait_for_inputs();
  const std::int64_t row = row_index(rows);
  const SamplingWorkspace& workspace = batch.workspace;
  const SamplingRowParams& params = batch.rows[row];
  const SamplingRowState& state = workspace.states[row];
  if (state.is_finite == 0) return;
  const RowView view = row_view(batch, row, false);
  RowStream stream(view, blockIdx.x, split.vectors_per_split);
  const float max = state.raw_max;
  const float threshold =
      params.num_logprobs > 0 ? fmaxf(state.raw_threshold, -FLT_MAX) : -minus_infinity();
  const std::int32_t chosen = state.token;
  const float chosen_logit = view.logits[chosen];
  std::uint64_t weight = 0;
  std::uint32_t num_before = 0;
  stream.for_batches(__int_as_float(0x7fc00000), [&](const LogitBatch& logits) {
#pragma unroll
    for (int i = 0; i < LogitBatch::kSize; ++i) {
      const float x = logits.values[i];
      weight += softmax_weight(x, max, 1.0F);
      num_before += x > chosen_logit || (x == chosen_logit && logits.token(i) < chosen) ? 1 : 0;
    }
    const auto is_listed = [&](float x, std::int32_t /*token*/) { return x >= threshold; };
    logits.for_bits(logits.mask(is_listed), [&](float /*x*/, std::int32_t token) {
      const std::uint32_t place = atomicAdd(workspace.list_counts + row, 1U);
      if (place < kSamplingListSize) workspace.lists[row * kSamplingListSize + place] = token;
    });
  });
  weight = block_sum(weight, memory.warps);
  std::uint64_t before = block_sum(num_before, memory.warps);
  std::uint64_t* partials = workspace.partials + row * kSamplingMaxSplits;
  std::uint32_t* partial_counts = workspace.partial_counts + row * kSamplingMaxSplits;
  if (threadIdx.x == 0) {
    partials[blockIdx.x] = weight;
    partial_counts[blockIdx.x] = static_cast<std::uint32_t>(before);
  }
  if (!is_last_block(workspace.block_counters + row, &memory.flag)) return;
  const bool mine = threadIdx.x < gridDim.x;
  weight = block_sum(mine ? __ldcg(partials + threadIdx.x) : 0, memory.warps);
  before = block_sum(mine ? __ldcg(partial_counts + threadIdx.x) : 0, memory.warps);
  if (threadIdx.x == 0) {
    SamplingRowResult& result = batch.results[row];
    result.weight = weight;
    result.max = max;
    result.token_logit = chosen_logit;
    result.num_before = static_cast<std::int32_t>(before);
  }
  if (params.num_logprobs > 0) write_best(batch, row, view, memory);
}

}  // namespace

void sampling_logprobs(const Launch& launch_options, const SamplingBatch& batch,
                       const SamplingRows& rows) {
  if (rows.count == 0) return;
  const SamplingSplit split =
      split_rows(rows.count, batch.vocab_size, batch.num_multiprocessors, kSamplingThreads);
  launch(launch_options, "sampling_logprobs", logprobs_kernel,
         dim3(split.num_splits, static_cast<unsigned>(rows.count)), dim3(kSamplingThreads),
         kSamplingStreamBytes, batch, rows, split);
}

}  // namespace llmrun::kernels
