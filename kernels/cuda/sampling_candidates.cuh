// The tokens of a row among which the bound of top_k and top_p is looked for: what puts a token
// there, and the exact selection among them.
#pragma once

#include <cfloat>
#include <cstdint>

#include "kernels/cuda/sampling.h"
#include "kernels/cuda/sampling_bins.cuh"
#include "kernels/cuda/sampling_block.cuh"
#include "kernels/cuda/sampling_row.cuh"

namespace llmrun::kernels {

inline constexpr std::uint32_t kSamplingCachedTokens = 1024;

struct CandidateMemory {
  SelectMemory select;
  std::uint64_t warps[kSamplingWarps];
  float logits[kSamplingCachedTokens];  // of a short list
  std::int32_t tokens[kSamplingCachedTokens];
  std::uint32_t num_listed;
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
        bound(fmaxf(min_p_bound(params, state.max), -FLT_MAX)),
        threshold(fmaxf(state.threshold, bound)),
        bins(state.max, params.temperature),
        top_k_bin(state.top_k_bin),
        first_list_bin(state.first_list_bin),
        last_list_bin(state.last_list_bin) {}

  // Does any logit of a group with this maximum matter?
  __device__ __forceinline__ bool may_matter(float group_max) const {
    if (kind == SamplingKind::kTopK) return group_max >= threshold;
    if (kind == SamplingKind::kMinP) return group_max >= bound;
    // The last bin with tokens that are listed or drawn.
    const std::int32_t last = max(max(first_list_bin - 1, last_list_bin), top_k_bin);
    const std::int32_t bin = bins.bin(group_max);
    return bin >= 0 && bin <= last && group_max >= bound;
  }
  __device__ __forceinline__ bool is_listed_bin(std::int32_t bin) const {
    return bin >= 0 && (bin == top_k_bin || (bin >= first_list_bin && bin <= last_list_bin));
  }
  __device__ __forceinline__ bool is_listed(float x) const {
    if (kind == SamplingKind::kTopK) return x >= threshold;
    return x >= bound && is_listed_bin(bins.bin(x));
  }
  __device__ __forceinline__ bool is_surely_kept(float x) const {
    const std::int32_t bin = bins.bin(x);
    return x >= bound && bin >= 0 && bin < first_list_bin;
  }
  __device__ __forceinline__ bool is_in_top_k_bin(float x) const {
    return kind == SamplingKind::kTopK || bins.bin(x) == top_k_bin;
  }
};

// The tokens of a row that its sieve lists: in shared memory when they are few, in the row's list,
// or to be found in the row again when that was too short.
class Candidates {
 public:
  // A list whose first tokens are in shared memory already.
  __device__ Candidates(const std::int32_t* list, std::uint32_t num_listed, const RowView& view,
                        const Sieve& sieve, const CandidateMemory& memory)
      : view_(view), sieve_(sieve), memory_(memory), list_(list), num_listed_(num_listed) {}

  __device__ std::int64_t count() const {
    return num_listed_ <= kSamplingListSize ? num_listed_ : view_.vocab_size;
  }
  // False where there is none.
  __device__ __forceinline__ bool get(std::int64_t i, float& x, std::int32_t& token) const {
    if (num_listed_ <= kSamplingCachedTokens) {
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
  const CandidateMemory& memory_;
  const std::int32_t* list_;
  std::uint32_t num_listed_;
};

// The bound of min_p, top_k and top_p on a row whose candidates are known.
__device__ inline float exact_bound(const SamplingRowParams& params, const SamplingRowState& state,
                                    const Sieve& sieve, const Candidates& candidates,
                                    CandidateMemory& memory) {
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

// Draws among the candidates: each thread among its own, after the bound is known to all.
__device__ __forceinline__ void draw_candidates(const SamplingRowParams& params,
                                                const SamplingRowState& state, const Sieve& sieve,
                                                const Candidates& candidates, TokenScorer& scorer,
                                                CandidateMemory& memory) {
  const float bound = exact_bound(params, state, sieve, candidates, memory);
  for (std::int64_t i = threadIdx.x; i < candidates.count(); i += kSamplingThreads) {
    float x = 0;
    std::int32_t token = 0;
    if (candidates.get(i, x, token) && x >= bound) scorer.offer(x, token);
  }
}

}  // namespace llmrun::kernels
