#include "kernels/cuda/sampling.h"
#include "kernels/cuda/sampling_block.cuh"
#include "kernels/cuda/sampling_candidates.cuh"
#include "kernels/cuda/sampling_row.cuh"

namespace llmrun::kernels {
namespace {

struct TopKMemory {
  CandidateMemory candidates;
  std::int32_t groups[kSamplingMaxGroups];  // whose maximum reaches the threshold
  std::uint32_t num_groups;
};

// Puts a token on the row's list, and of the first ones a copy in shared memory.
__device__ __forceinline__ void list_token(std::int32_t* list, float x, std::int32_t token,
                                           CandidateMemory& memory) {
  const std::uint32_t place = atomicAdd(&memory.num_listed, 1U);
  if (place < kSamplingListSize) list[place] = token;
  if (place < kSamplingCachedTokens) {
    memory.logits[place] = x;
    memory.tokens[place] = token;
  }
}

__device__ __forceinline__ void find_groups(const float* group_maxima, const SamplingSplit& split,
                                            float threshold, TopKMemory& memory) {
  const int num_groups = static_cast<int>(split.num_splits) * split.groups_per_block;
  for (int g = threadIdx.x; g < num_groups; g += kSamplingThreads) {
    if (group_maxima[g] >= threshold) memory.groups[atomicAdd(&memory.num_groups, 1U)] = g;
  }
}

// Lists the tokens of the groups that reach the threshold. The groups are those of the scan: in
// each block's part of the row, every kSamplingThreads-th vector of some neighbouring threads.
__device__ __forceinline__ void list_groups(std::int32_t* list, const RowView& view,
                                            const SamplingSplit& split, float threshold,
                                            TopKMemory& memory) {
  const unsigned group_size = kSamplingThreads / static_cast<unsigned>(split.groups_per_block);
  const unsigned group_vectors =
      static_cast<unsigned>(split.vectors_per_split) / kSamplingThreads * group_size;
  const unsigned count = memory.num_groups * group_vectors;
  for (unsigned base = threadIdx.x; base < count; base += kSamplingBatch) {
    std::int32_t vectors[kSamplingUnroll];
    float4 values[kSamplingUnroll];
#pragma unroll
    for (unsigned u = 0; u < kSamplingUnroll; ++u) {
      const unsigned place = base + u * kSamplingThreads;
      vectors[u] = view.num_vectors;
      if (place < count) {
        const auto group = static_cast<unsigned>(memory.groups[place / group_vectors]);
        const unsigned inside = place % group_vectors;
        const unsigned block = group / split.groups_per_block;
        const unsigned thread = group % split.groups_per_block * group_size + inside % group_size;
        vectors[u] = static_cast<std::int32_t>(block * split.vectors_per_split +
                                               inside / group_size * kSamplingThreads + thread);
      }
      values[u] = make_float4(threshold, threshold, threshold, threshold);
      if (vectors[u] < view.num_vectors) values[u] = view.vectors()[vectors[u]];
    }
#pragma unroll
    for (int u = 0; u < kSamplingUnroll; ++u) {
      if (vectors[u] >= view.num_vectors) continue;
      const float4 x = values[u];
      const std::int32_t token = view.num_head + 4 * vectors[u];
      if (x.x >= threshold) list_token(list, x.x, token, memory.candidates);
      if (x.y >= threshold) list_token(list, x.y, token + 1, memory.candidates);
      if (x.z >= threshold) list_token(list, x.z, token + 2, memory.candidates);
      if (x.w >= threshold) list_token(list, x.w, token + 3, memory.candidates);
    }
  }
  if (static_cast<std::int32_t>(threadIdx.x) < view.num_ends()) {
    const std::int32_t token = view.end_token(static_cast<std::int32_t>(threadIdx.x));
    if (view.logits[token] >= threshold) {
      list_token(list, view.logits[token], token, memory.candidates);
    }
  }
}

// One block a row.
__global__ void __launch_bounds__(kSamplingThreads)
    top_k_kernel(const __grid_constant__ SamplingBatch batch, const SamplingRows rows,
                 const SamplingSplit split) {
  __shared__ TopKMemory memory;
  wait_for_inputs();
  const std::int64_t row = row_index(rows);
  const SamplingWorkspace& workspace = batch.workspace;
  const SamplingRowParams& params = batch.rows[row];
  const SamplingRowState& state = workspace.states[row];
  if (state.is_finite == 0) return;
  const RowView view = row_view(batch, row, params.modified_row >= 0);
  const Sieve sieve(params, state);
  if (threadIdx.x == 0) {
    memory.num_groups = 0;
    memory.candidates.num_listed = 0;
  }
  __syncthreads();
  find_groups(workspace.group_maxima + row * kSamplingMaxGroups, split, sieve.threshold, memory);
  __syncthreads();
  std::int32_t* list = workspace.lists + row * kSamplingListSize;
  list_groups(list, view, split, sieve.threshold, memory);
  __syncthreads();
  const Candidates candidates(list, memory.candidates.num_listed, view, sieve, memory.candidates);
  TokenScorer scorer(params, state);
  draw_candidates(params, state, sieve, candidates, scorer, memory.candidates);
  const std::uint64_t best = block_max(scorer.best, memory.candidates.warps);
  if (threadIdx.x == 0) finish_row(batch, row, token_of_key(best));
}

}  // namespace

void sampling_top_k(const Launch& launch_options, const SamplingBatch& batch,
                    const SamplingRows& rows) {
  if (rows.count == 0) return;
  const SamplingSplit split =
      split_rows(rows.num_scanned, batch.vocab_size, batch.num_multiprocessors, kSamplingThreads);
  launch(launch_options, "sampling_top_k", top_k_kernel, dim3(1, static_cast<unsigned>(rows.count)),
         dim3(kSamplingThreads), 0, batch, rows, split);
}

}  // namespace llmrun::kernels
