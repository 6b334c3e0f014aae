#include "kernels/cuda/sampling.h"
#include "kernels/cuda/sampling_bins.cuh"
#include "kernels/cuda/sampling_block.cuh"
#include "kernels/cuda/sampling_row.cuh"

namespace llmrun::kernels {
namespace {

constexpr int kBinsPerThread = kSamplingBins / kSamplingThreads;

struct HistogramMemory {
  std::uint32_t counts[kSamplingBins];
  std::uint32_t low[kSamplingBins];  // weights in two halves: there is no 64-bit addition here
  std::uint32_t high[kSamplingBins];
  std::uint64_t warps[kSamplingWarps];
  std::uint64_t weight_before;  // of top_k_bin
  std::uint64_t weight_through;
  std::uint32_t count_before;
  std::int32_t top_k_bin;
  std::int32_t list_bins[2];
  std::uint64_t list_weight;  // before list_bins[0]
  std::uint32_t flag;
};

__device__ __forceinline__ void add_weight(HistogramMemory& memory, std::int32_t bin,
                                           std::uint64_t weight) {
  const auto low = static_cast<std::uint32_t>(weight);
  const std::uint32_t old = atomicAdd(&memory.low[bin], low);
  const std::uint32_t high = static_cast<std::uint32_t>(weight >> 32) + (old + low < old ? 1U : 0U);
  if (high != 0) atomicAdd(&memory.high[bin], high);
}

// Reads the row's histogram into registers, this thread's bins, and leaves it zero.
struct ThreadBins {
  std::uint32_t counts[kBinsPerThread];
  std::uint64_t weights[kBinsPerThread];
  std::uint64_t count_before;
  std::uint64_t weight_before;
  std::uint64_t total_weight;

  __device__ ThreadBins(std::uint32_t* row_counts, std::uint64_t* row_weights,
                        HistogramMemory& memory) {
    std::uint64_t count = 0;
    std::uint64_t weight = 0;
#pragma unroll
    for (int b = 0; b < kBinsPerThread; ++b) {
      const int bin = threadIdx.x * kBinsPerThread + b;
      counts[b] = __ldcg(row_counts + bin);
      weights[b] = __ldcg(reinterpret_cast<const unsigned long long*>(row_weights) + bin);
      row_counts[bin] = 0;
      row_weights[bin] = 0;
      count += counts[b];
      weight += weights[b];
    }
    std::uint64_t total_count = 0;
    count_before = sum_before(count, memory.warps, total_count);
    weight_before = sum_before(weight, memory.warps, total_weight);
  }

  // The bin in which the top_k-th greatest logit is, if it is in any.
  __device__ void find_top_k(HistogramMemory& memory, std::uint64_t top_k) const {
    std::uint64_t count = count_before;
    std::uint64_t weight = weight_before;
#pragma unroll
    for (int b = 0; b < kBinsPerThread; ++b) {
      if (count < top_k && count + counts[b] >= top_k) {
        memory.top_k_bin = static_cast<std::int32_t>(threadIdx.x) * kBinsPerThread + b;
        memory.count_before = static_cast<std::uint32_t>(count);
        memory.weight_before = weight;
        memory.weight_through = weight + weights[b];
      }
      count += counts[b];
      weight += weights[b];
    }
  }

  // The bin in which the sum of weights reaches `target`.
  __device__ void find_weight(HistogramMemory& memory, std::uint64_t target, int place) const {
    std::uint64_t weight = weight_before;
#pragma unroll
    for (int b = 0; b < kBinsPerThread; ++b) {
      if (weight < target && weight + weights[b] >= target) {
        memory.list_bins[place] = static_cast<std::int32_t>(threadIdx.x) * kBinsPerThread + b;
        if (place == 0) memory.list_weight = weight;
      }
      weight += weights[b];
    }
  }
};

// `rest`: weight of the tokens that are in no bin, which top_p leaves out whatever the bins hold.
// Which bins must be looked at token by token: that of the top_k-th logit, and those in which the
// nucleus may end, given that top_k keeps some part of its bin.
__device__ void finish_histogram(const SamplingBatch& batch, std::int64_t row, std::uint64_t rest,
                                 HistogramMemory& memory) {
  const SamplingRowParams& params = batch.rows[row];
  const ThreadBins bins(batch.workspace.histogram_counts + row * kSamplingBins,
                        batch.workspace.histogram_weights + row * kSamplingBins, memory);
  if (threadIdx.x == 0) {
    memory.top_k_bin = -1;
    memory.count_before = 0;
    memory.weight_before = bins.total_weight + rest;
    memory.weight_through = bins.total_weight + rest;
    memory.list_weight = 0;
  }
  __syncthreads();
  if (params.top_k > 0) bins.find_top_k(memory, static_cast<std::uint64_t>(params.top_k));
  __syncthreads();
  if (threadIdx.x == 0) {
    const std::int32_t first = memory.top_k_bin >= 0 ? memory.top_k_bin : kSamplingBins;
    memory.list_bins[0] = first;
    memory.list_bins[1] = first;
  }
  __syncthreads();
  if (params.top_p < 1.0F) {
    bins.find_weight(memory, top_p_target(params.top_p, memory.weight_before), 0);
    bins.find_weight(memory, top_p_target(params.top_p, memory.weight_through), 1);
  }
  __syncthreads();
  if (threadIdx.x != 0) return;
  SamplingRowState& state = batch.workspace.states[row];
  state.weight_above_top_k_bin = memory.weight_before;
  state.weight_above_list = memory.list_weight;
  state.count_above_top_k_bin = memory.count_before;
  state.top_k_bin = memory.top_k_bin;
  state.first_list_bin = memory.list_bins[0];
  state.last_list_bin = memory.list_bins[1];
}

__device__ __forceinline__ void clear_bins(HistogramMemory& memory) {
  for (int b = threadIdx.x; b < kSamplingBins; b += kSamplingThreads) {
    memory.counts[b] = 0;
    memory.low[b] = 0;
    memory.high[b] = 0;
  }
}

// Adds this block's bins to the row's.
__device__ __forceinline__ void add_bins(std::uint32_t* row_counts, std::uint64_t* row_weights,
                                         const HistogramMemory& memory) {
  for (int b = threadIdx.x; b < kSamplingBins; b += kSamplingThreads) {
    const std::uint64_t weight = (static_cast<std::uint64_t>(memory.high[b]) << 32) + memory.low[b];
    if (memory.counts[b] != 0) atomicAdd(row_counts + b, memory.counts[b]);
    if (weight != 0) {
      atomicAdd(reinterpret_cast<unsigned long long*>(row_weights) + b,
                static_cast<unsigned long long>(weight));
    }
  }
}

// Puts this block's logits into its bins; returns the weight of those that are in none.
__device__ __forceinline__ std::uint64_t fill_bins(RowStream& stream,
                                                   const SamplingRowParams& params,
                                                   const SamplingRowState& state,
                                                   HistogramMemory& memory) {
  const LogitBins bins(state.max, params.temperature);
  const float max = state.max;
  const float inverse_temperature = params.inverse_temperature;
  const float bound = min_p_bound(params, max);
  const float lowest = fmaxf(state.threshold, bound);
  const bool has_rest = state.threshold > bound;
  const bool counts = params.top_k > 0;
  const bool weighs = params.top_p < 1.0F;
  std::uint64_t rest = 0;
  stream.for_batches(__int_as_float(0x7fc00000), [&](const LogitBatch& logits) {
    if (has_rest) {
#pragma unroll
      for (const float x : logits.values) {
        const std::uint64_t weight = softmax_weight(x, max, inverse_temperature);
        rest += x >= bound && x < lowest ? weight : 0;
      }
    }
    const auto is_binned = [&](float x, std::int32_t /*token*/) { return x >= lowest; };
    logits.for_bits(logits.mask(is_binned), [&](float x, std::int32_t /*token*/) {
      const std::int32_t bin = bins.bin(x);
      if (bin < 0) return;
      if (counts) atomicAdd(&memory.counts[bin], 1U);
      if (!weighs) return;
      const std::uint64_t weight = softmax_weight(x, max, inverse_temperature);
      if (weight != 0) add_weight(memory, bin, weight);
    });
  });
  return rest;
}

__global__ void __launch_bounds__(kSamplingThreads, kSamplingBlocks)
    histogram_kernel(const __grid_constant__ SamplingBatch batch, const SamplingRows rows,
                     const SamplingSplit split) {
  __shared__ HistogramMemory memory;
  wait_for_inputs();
  const std::int64_t row = row_index(rows);
  const SamplingWorkspace& workspace = batch.workspace;
  const SamplingRowParams& params = batch.rows[row];
  if (workspace.states[row].is_finite == 0) return;
  RowStream stream(row_view(batch, row, params.modified_row >= 0), blockIdx.x,
                   split.vectors_per_split);
  clear_bins(memory);
  __syncthreads();
  const std::uint64_t rest =
      block_sum(fill_bins(stream, params, workspace.states[row], memory), memory.warps);
  add_bins(workspace.histogram_counts + row * kSamplingBins,
           workspace.histogram_weights + row * kSamplingBins, memory);
  std::uint64_t* partials = workspace.partials + row * kSamplingMaxSplits;
  if (threadIdx.x == 0) partials[blockIdx.x] = rest;
  if (!is_last_block(workspace.block_counters + row, &memory.flag)) return;
  const std::uint64_t all_rest =
      block_sum(threadIdx.x < gridDim.x ? __ldcg(partials + threadIdx.x) : 0, memory.warps);
  finish_histogram(batch, row, all_rest, memory);
}

}  // namespace

void sampling_histogram(const Launch& launch_options, const SamplingBatch& batch,
                        const SamplingRows& rows) {
  if (rows.count == 0) return;
  // A block has its 12 KB of bins to clear and to add up.
  const SamplingSplit split =
      split_rows(rows.count, batch.vocab_size, batch.num_multiprocessors, 8 * kSamplingThreads);
  launch(launch_options, "sampling_histogram", histogram_kernel,
         dim3(split.num_splits, static_cast<unsigned>(rows.count)), dim3(kSamplingThreads),
         kSamplingStreamBytes, batch, rows, split);
}

}  // namespace llmrun::kernels
