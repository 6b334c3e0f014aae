#include "kernels/cuda/sampling.h"
#include "kernels/cuda/sampling_block.cuh"
#include "kernels/cuda/sampling_candidates.cuh"
#include "kernels/cuda/sampling_row.cuh"

namespace llmrun::kernels {
namespace {

// Draws and lists this block's part of the row.
__device__ __forceinline__ void sift(const SamplingBatch& batch, std::int64_t row, RowStream stream,
                                     const Sieve& sieve, TokenScorer& scorer) {
  const float nan = __int_as_float(0x7fc00000);
  const auto offer = [&](float x, std::int32_t token) { scorer.offer(x, token); };
  if (sieve.kind == SamplingKind::kMinP) {
    stream.for_batches(nan, [&](const LogitBatch& logits) {
      const auto may_win = [&](float x, std::int32_t token) {
        return x >= sieve.bound && scorer.may_win(x, token);
      };
      logits.for_bits(logits.mask(may_win), offer);
    });
    return;
  }
  stream.for_batches(nan, [&](const LogitBatch& logits) {
    const auto is_listed = [&](float x, std::int32_t /*token*/) { return sieve.is_listed(x); };
    const auto may_win = [&](float x, std::int32_t token) {
      return sieve.is_surely_kept(x) && scorer.may_win(x, token);
    };
    logits.for_bits(logits.mask(is_listed), [&](float /*x*/, std::int32_t token) {
      const std::uint32_t place = atomicAdd(batch.workspace.list_counts + row, 1U);
      if (place < kSamplingListSize) batch.workspace.lists[row * kSamplingListSize + place] = token;
    });
    logits.for_bits(logits.mask(may_win), offer);
  });
}

// Brings a list that other blocks wrote to shared memory, if it is short, and empties it. Returns
// its length.
__device__ __forceinline__ std::uint32_t take_list(const SamplingWorkspace& workspace,
                                                   std::int64_t row, const RowView& view,
                                                   CandidateMemory& memory) {
  const std::uint32_t num_listed = __ldcg(workspace.list_counts + row);
  __syncthreads();
  if (threadIdx.x == 0) workspace.list_counts[row] = 0;
  if (num_listed <= kSamplingCachedTokens) {
    for (std::uint32_t i = threadIdx.x; i < num_listed; i += kSamplingThreads) {
      const std::int32_t token = __ldcg(workspace.lists + row * kSamplingListSize + i);
      memory.tokens[i] = token;
      memory.logits[i] = view.logits[token];
    }
  }
  __syncthreads();
  return num_listed;
}

// The blocks and threads read what they read in the scan, whose split it must be.
__global__ void __launch_bounds__(kSamplingThreads, kSamplingBlocks)
    draw_kernel(const __grid_constant__ SamplingBatch batch, const SamplingRows rows,
                const SamplingSplit split) {
  __shared__ CandidateMemory memory;
  __shared__ std::uint32_t flag;
  wait_for_inputs();
  const std::int64_t row = row_index(rows);
  const SamplingWorkspace& workspace = batch.workspace;
  const SamplingRowParams& params = batch.rows[row];
  const SamplingRowState& state = workspace.states[row];
  if (state.is_finite == 0) return;
  const RowView view = row_view(batch, row, params.modified_row >= 0);
  const Sieve sieve(params, state);
  TokenScorer scorer(params, state);
  const float group_max =
      workspace.group_maxima[row * kSamplingMaxGroups + blockIdx.x * split.groups_per_block +
                             threadIdx.x / (kSamplingThreads / split.groups_per_block)];
  if (sieve.may_matter(group_max)) {
    sift(batch, row, RowStream(view, blockIdx.x, split.vectors_per_split), sieve, scorer);
  }
  std::uint64_t best = block_max(scorer.best, memory.warps);
  if (gridDim.x > 1) {
    std::uint64_t* partials = workspace.partials + row * kSamplingMaxSplits;
    if (threadIdx.x == 0) partials[blockIdx.x] = best;
    if (!is_last_block(workspace.block_counters + row, &flag)) return;
    best = block_max(threadIdx.x < gridDim.x ? __ldcg(partials + threadIdx.x) : 0, memory.warps);
  }
  if (sieve.kind != SamplingKind::kMinP) {
    scorer.best = best;
    scorer.best_score = value_of_key(best);
    const std::uint32_t num_listed = take_list(workspace, row, view, memory);
    const Candidates candidates(workspace.lists + row * kSamplingListSize, num_listed, view, sieve,
                                memory);
    draw_candidates(params, state, sieve, candidates, scorer, memory);
    best = block_max(scorer.best, memory.warps);
  }
  if (threadIdx.x == 0) finish_row(batch, row, token_of_key(best));
}

}  // namespace

void sampling_draw(const Launch& launch_options, const SamplingBatch& batch,
                   const SamplingRows& rows) {
  if (rows.count == 0) return;
  const SamplingSplit split =
      split_rows(rows.num_scanned, batch.vocab_size, batch.num_multiprocessors, kSamplingThreads);
  launch(launch_options, "sampling_draw", draw_kernel,
         dim3(split.num_splits, static_cast<unsigned>(rows.count)), dim3(kSamplingThreads),
         kSamplingStreamBytes, batch, rows, split);
}

}  // namespace llmrun::kernels
