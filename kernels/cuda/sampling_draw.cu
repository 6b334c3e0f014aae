#include "kernels/cuda/sampling.h"
#include "kernels/cuda/sampling_bins.cuh"
#include "kernels/cuda/sampling_block.cuh"
#include "kernels/cuda/sampling_row.cuh"

namespace llmrun::kernels {
namespace {

constexpr int kNumCached = 1024;

struct DrawMemory {
  SelectMemory select;
  std::uint64_t warps[kSamplingWarps];
  float logits[kNumCached];  // of a short list
  std::int32_t tokens[kNumCached];
  std::uint32_t flag;
};

// What becomes of a token when the row is read: drawn at once, put on the list, or left out.
struct Sieve {
  SamplingKind kind;
  float bound;      // of min_p
  float threshold;  // of kTopK
  LogitBins bins;
  std::int32_t top_k_bin;
  std::int32_t first_list_bin;
  std::int32_t last_list_bin;

  __device__ Sieve(const SamplingRowParams& params, const SamplingRowState& state)
      : kind(params.kind),
        bound(min_p_bound(params, state.max)),
        threshold(fmaxf(fmaxf(state.threshold, bound), -FLT_MAX)),
        bins(state.max, params.temperature),
        top_k_bin(state.top_k_bin),
        first_list_bin(state.first_list_bin),
        last_list_bin(state.last_list_bin) {}

  __device__ __forceinline__ bool is_listed_bin(std::int32_t bin) const {
    return bin >= 0 && (bin == top_k_bin || (bin >= first_list_bin && bin <= last_list_bin));
  }
  __device__ __forceinline__ bool is_listed(float x) const {
    if (kind == SamplingKind::kTopK) return x >= threshold;
    return x >= bound && is_listed_bin(bins.bin(x));
  }
  __device__ __forceinline__ bool is_in_top_k_bin(float x) const {
    return kind == SamplingKind::kTopK || bins.bin(x) == top_k_bin;
  }
};

// The tokens of a row that its sieve lists: in shared memory when they are few, in the row's list,
// or to be found in the row again when that was too short.
class Candidates {
 public:
  __device__ Candidates(const SamplingBatch& batch, std::int64_t row, const RowView& view,
                        const Sieve& sieve, DrawMemory& memory)
      : view_(view), sieve_(sieve), memory_(memory) {
    list_ = batch.workspace.lists + row * kSamplingListSize;
    num_listed_ = __ldcg(batch.workspace.list_counts + row);
    __syncthreads();
    if (threadIdx.x == 0) batch.workspace.list_counts[row] = 0;
    if (num_listed_ > kNumCached) return;
    for (unsigned i = threadIdx.x; i < num_listed_; i += kSamplingThreads) {
      const std::int32_t token = __ldcg(list_ + i);
      memory.tokens[i] = token;
      memory.logits[i] = view.logits[token];
    }
    __syncthreads();
  }

  __device__ std::int64_t count() const {
    return num_listed_ <= kSamplingListSize ? num_listed_ : view_.vocab_size;
  }
  // False where there is none.
  __device__ __forceinline__ bool get(std::int64_t i, float& x, std::int32_t& token) const {
    if (num_listed_ <= kNumCached) {
      token = memory_.tokens[i];
      x = memory_.logits[i];
      return true;
    }
    if (num_listed_ <= kSamplingListSize) {
      token = __ldcg(list_ + i);
      x = view_.logits[token];
      return true;
    }
    token = static_cast<std::int32_t>(i);
    x = view_.logits[i];
    return sieve_.is_listed(x);
  }

 private:
  const RowView& view_;
  const Sieve& sieve_;
  DrawMemory& memory_;
  const std::int32_t* list_;
  std::uint32_t num_listed_;
};

// The bound of min_p, top_k and top_p on a row whose candidates are known.
__device__ float exact_bound(const SamplingRowParams& params, const SamplingRowState& state,
                             const Sieve& sieve, const Candidates& candidates, DrawMemory& memory) {
  const bool is_binned = params.kind == SamplingKind::kFiltered;
  float bound = sieve.bound;
  if (params.top_k > 0 && (!is_binned || state.top_k_bin >= 0)) {
    const Selection selection = select_reaching(
        memory.select, candidates.count(), is_binned ? state.count_above_top_k_bin : 0,
        static_cast<std::uint64_t>(params.top_k),
        [&](std::int64_t i, std::uint32_t& key, std::uint64_t& weight) {
          float x = 0;
          std::int32_t token = 0;
          if (!candidates.get(i, x, token) || !sieve.is_in_top_k_bin(x)) return false;
          key = order_key(x);
          weight = 1;
          return true;
        });
    if (selection.found) bound = fmaxf(bound, value_of_key(selection.key));
  }
  if (!(params.top_p < 1.0F)) return bound;
  const auto weight_of = [&](float x) {
    return softmax_weight(x, state.max, params.inverse_temperature);
  };
  std::uint64_t total = 0;
  for (std::int64_t i = threadIdx.x; i < candidates.count(); i += kSamplingThreads) {
    float x = 0;
    std::int32_t token = 0;
    if (!candidates.get(i, x, token) || !(x >= bound) || !sieve.is_in_top_k_bin(x)) continue;
    total += weight_of(x);
  }
  total = block_sum(total, memory.warps) + (is_binned ? state.weight_above_top_k_bin : 0);
  const Selection selection =
      select_reaching(memory.select, candidates.count(), is_binned ? state.weight_above_list : 0,
                      top_p_target(params.top_p, total),
                      [&](std::int64_t i, std::uint32_t& key, std::uint64_t& weight) {
                        float x = 0;
                        std::int32_t token = 0;
                        if (!candidates.get(i, x, token) || !(x >= bound)) return false;
                        key = order_key(x);
                        weight = weight_of(x);
                        return true;
                      });
  return selection.found ? fmaxf(bound, value_of_key(selection.key)) : bound;
}

// Draws among the candidates; `best` is that of all others.
__device__ std::uint64_t draw_candidates(const SamplingBatch& batch, std::int64_t row,
                                         const RowView& view, const Sieve& sieve,
                                         const TokenScorer& scorer, std::uint64_t best,
                                         DrawMemory& memory) {
  const Candidates candidates(batch, row, view, sieve, memory);
  const float bound =
      exact_bound(batch.rows[row], batch.workspace.states[row], sieve, candidates, memory);
  float best_score = value_of_key(best);
  for (std::int64_t i = threadIdx.x; i < candidates.count(); i += kSamplingThreads) {
    float x = 0;
    std::int32_t token = 0;
    if (candidates.get(i, x, token) && x >= bound) scorer.offer(x, token, best_score, best);
  }
  return block_max(best, memory.warps);
}

__global__ void __launch_bounds__(kSamplingThreads)
    draw_kernel(const SamplingBatch batch, const SamplingRows rows, const SamplingSplit split) {
  __shared__ DrawMemory memory;
  wait_for_inputs();
  const std::int64_t row = row_index(rows);
  const SamplingWorkspace& workspace = batch.workspace;
  const SamplingRowParams& params = batch.rows[row];
  const SamplingRowState& state = workspace.states[row];
  if (state.is_finite == 0) return;
  const RowView view = row_view(batch, row, params.modified_row >= 0);
  const Sieve sieve(params, state);
  const TokenScorer scorer{state.max, params.inverse_temperature, params.key};
  // The most likely token is a good first guess: most others cannot reach its score.
  float best_score = scorer.score(state.max, state.argmax);
  std::uint64_t best = token_key(best_score, state.argmax);
  const auto list = [&](std::int32_t token) {
    const std::uint32_t place = atomicAdd(workspace.list_counts + row, 1U);
    if (place < kSamplingListSize) workspace.lists[row * kSamplingListSize + place] = token;
  };
  if (sieve.kind == SamplingKind::kDraw) {
    const float bound = fmaxf(sieve.bound, -FLT_MAX);
    view.for_tokens(blockIdx.x, split.vectors_per_split, [&](std::int32_t token, float x) {
      if (x >= bound) scorer.offer(x, token, best_score, best);
    });
  } else if (sieve.kind == SamplingKind::kTopK) {
    view.for_tokens(blockIdx.x, split.vectors_per_split, [&](std::int32_t token, float x) {
      if (x >= sieve.threshold) list(token);
    });
  } else {
    view.for_tokens(blockIdx.x, split.vectors_per_split, [&](std::int32_t token, float x) {
      const std::int32_t bin = sieve.bins.bin(x);
      if (bin < 0 || !(x >= sieve.bound)) return;
      if (sieve.is_listed_bin(bin)) {
        list(token);
      } else if (bin < sieve.first_list_bin) {
        scorer.offer(x, token, best_score, best);
      }
    });
  }
  best = block_max(best, memory.warps);
  if (gridDim.x > 1) {
    std::uint64_t* partials = workspace.partials + row * kSamplingMaxSplits;
    if (threadIdx.x == 0) partials[blockIdx.x] = best;
    if (!is_last_block(workspace.block_counters + row, &memory.flag)) return;
    best = block_max(threadIdx.x < gridDim.x ? __ldcg(partials + threadIdx.x) : 0, memory.warps);
  }
  if (sieve.kind != SamplingKind::kDraw) {
    best = draw_candidates(batch, row, view, sieve, scorer, best, memory);
  }
  if (threadIdx.x == 0) finish_row(batch, row, token_of_key(best));
}

}  // namespace

void sampling_draw(const Launch& launch_options, const SamplingBatch& batch,
                   const SamplingRows& rows) {
  if (rows.count == 0) return;
  const SamplingSplit split =
      split_rows(rows.count, batch.vocab_size, batch.num_multiprocessors, kSamplingThreads);
  launch(launch_options, "sampling_draw", draw_kernel,
         dim3(split.num_splits, static_cast<unsigned>(rows.count)), dim3(kSamplingThreads), 0,
         batch, rows, split);
}

}  // namespace llmrun::kernels
