#include <algorithm>

#include "kernels/cuda/sampling.h"
#include "kernels/cuda/sampling_block.cuh"
#include "kernels/cuda/sampling_row.cuh"

namespace llmrun::kernels {
namespace {

constexpr std::uint64_t kNan = ~std::uint64_t{0};  // greater than any token_key

struct ScanMemory {
  std::uint64_t warps[kSamplingWarps];
  float maxima[kSamplingThreads];
  std::uint32_t flag;
};

// The greatest logit and its lowest token; NaN where one of them is NaN.
struct Peak {
  float value = minus_infinity();
  std::int32_t token = 0;
  bool has_nan = false;

  __device__ __forceinline__ void add(std::int32_t first, float4 x) {
    const float greatest = fmaxf(fmaxf(x.x, x.y), fmaxf(x.z, x.w));
    has_nan = has_nan || isnan(x.x) || isnan(x.y) || isnan(x.z) || isnan(x.w);
    if (!(greatest > value)) return;
    value = greatest;
    token = first + (x.x == greatest ? 0 : x.y == greatest ? 1 : x.z == greatest ? 2 : 3);
  }
  __device__ __forceinline__ std::uint64_t key() const {
    return has_nan ? kNan : token_key(value, token);
  }
};

// A value that at least k logits of the row are not below: the k-th greatest of up to 256 maxima of
// parts of the row. -infinity when there are fewer.
__device__ float threshold_of(ScanMemory& memory, const float* group_maxima, int num_groups,
                              std::int32_t k) {
  float greatest = minus_infinity();
  for (int g = threadIdx.x; g < num_groups; g += kSamplingThreads) {
    greatest = fmaxf(greatest, __ldcg(group_maxima + g));
  }
  __syncthreads();
  memory.maxima[threadIdx.x] = greatest;
  __syncthreads();
  int num_before = 0;
#pragma unroll 8
  for (int i = 0; i < kSamplingThreads; ++i) {
    const float other = memory.maxima[i];
    if (other > greatest || (other == greatest && i < static_cast<int>(threadIdx.x))) ++num_before;
  }
  __syncthreads();
  if (num_before == k - 1) memory.maxima[0] = greatest;
  __syncthreads();
  return k <= kSamplingThreads ? memory.maxima[0] : minus_infinity();
}

__device__ void finish_scan(const SamplingBatch& batch, std::int64_t row, bool modified,
                            std::uint64_t peak, ScanMemory& memory, int num_groups) {
  const SamplingRowParams& params = batch.rows[row];
  SamplingRowState& state = batch.workspace.states[row];
  const float* group_maxima = batch.workspace.group_maxima + row * kSamplingMaxGroups;
  const float max = value_of_key(peak);
  const bool is_finite = peak != kNan && isfinite(max);
  const bool is_chosen_from = modified || params.modified_row < 0;
  if (is_finite && is_chosen_from && params.kind == SamplingKind::kTopK) {
    const float threshold = threshold_of(memory, group_maxima, num_groups, params.top_k);
    if (threadIdx.x == 0) state.threshold = threshold;
  }
  if (is_finite && !modified && params.num_logprobs > 0) {
    const float threshold = threshold_of(memory, group_maxima, num_groups, params.num_logprobs);
    if (threadIdx.x == 0) state.raw_threshold = threshold;
  }
  if (threadIdx.x != 0) return;
  if (!modified) state.raw_max = max;
  state.max = max;
  state.argmax = token_of_key(peak);
  state.is_finite = is_finite ? 1 : 0;
  if (!is_finite) {
    finish_row(batch, row, -1);
  } else if (params.kind == SamplingKind::kReport) {
    finish_row(batch, row, params.target_token);
  } else if (params.kind == SamplingKind::kGreedy && is_chosen_from) {
    finish_row(batch, row, state.argmax);
  }
}

__global__ void __launch_bounds__(kSamplingThreads)
    scan_kernel(const SamplingBatch batch, const SamplingRows rows, const SamplingSplit split,
                const bool modified) {
  __shared__ ScanMemory memory;
  wait_for_inputs();
  const std::int64_t row = row_index(rows);
  const SamplingWorkspace& workspace = batch.workspace;
  // A row that has failed is done.
  if (modified && workspace.states[row].is_finite == 0) return;
  Peak peak;
  row_view(batch, row, modified)
      .for_vectors(blockIdx.x, split.vectors_per_split,
                   [&](std::int32_t first, float4 values) { peak.add(first, values); });
  // Maxima of 8 threads or of 32.
  float group = peak.value;
  const int group_size = kSamplingThreads / split.groups_per_block;
  for (int step = 1; step < group_size; step *= 2) {
    group = fmaxf(group, __shfl_xor_sync(0xffffffffU, group, step));
  }
  if (threadIdx.x % group_size == 0) {
    workspace.group_maxima[row * kSamplingMaxGroups + blockIdx.x * split.groups_per_block +
                           threadIdx.x / group_size] = group;
  }
  std::uint64_t best = block_max(peak.key(), memory.warps);
  std::uint64_t* partials = workspace.partials + row * kSamplingMaxSplits;
  if (gridDim.x > 1) {
    if (threadIdx.x == 0) partials[blockIdx.x] = best;
    if (!is_last_block(workspace.block_counters + row, &memory.flag)) return;
    best = block_max(threadIdx.x < gridDim.x ? __ldcg(partials + threadIdx.x) : 0, memory.warps);
  } else {
    __syncthreads();
  }
  finish_scan(batch, row, modified, best, memory, gridDim.x * split.groups_per_block);
}

}  // namespace

SamplingSplit split_rows(std::int64_t num_rows, std::int64_t vocab_size, int num_multiprocessors,
                         std::int64_t min_vectors) {
  constexpr std::int64_t kMaxVectors = 16 * kSamplingThreads;
  constexpr std::int64_t kBlocksPerMultiprocessor = 6;
  const std::int64_t num_vectors = (vocab_size + 6) / 4;
  const auto pieces = [&](std::int64_t size) { return (num_vectors + size - 1) / size; };
  std::int64_t splits = num_multiprocessors * kBlocksPerMultiprocessor / num_rows;
  splits = std::max(splits, pieces(kMaxVectors));
  splits = std::min(splits, pieces(min_vectors));
  splits = std::clamp<std::int64_t>(splits, 1, kSamplingMaxSplits);
  return {static_cast<unsigned>(splits), (num_vectors + splits - 1) / splits,
          splits >= kSamplingWarps * 4 ? kSamplingWarps : kSamplingThreads / 8};
}

bool sampling_top_k_is_listed(std::int32_t top_k, std::int64_t vocab_size) {
  // The fewest maxima that a row is left with: of one row among very many.
  const SamplingSplit split = split_rows(65535, vocab_size, 1, kSamplingThreads);
  const std::int64_t num_groups = split.num_splits * split.groups_per_block;
  return vocab_size <= kSamplingListSize ||
         top_k <= std::min<std::int64_t>(kSamplingMaxListedTopK, num_groups);
}

void sampling_scan(const Launch& launch_options, const SamplingBatch& batch,
                   const SamplingRows& rows, bool modified) {
  if (rows.count == 0) return;
  const SamplingSplit split =
      split_rows(rows.count, batch.vocab_size, batch.num_multiprocessors, kSamplingThreads);
  launch(launch_options, "sampling_scan", scan_kernel,
         dim3(split.num_splits, static_cast<unsigned>(rows.count)), dim3(kSamplingThreads), 0,
         batch, rows, split, modified);
}

}  // namespace llmrun::kernels
