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

  __device__ __forceinline__ void add(const LogitBatch& batch) {
    float greatest = batch.values[0];
#pragma unroll
    for (int i = 0; i < LogitBatch::kSize; ++i) {
      greatest = fmaxf(greatest, batch.values[i]);
      has_nan = has_nan || isnan(batch.values[i]);
    }
    if (!(greatest >= value)) return;
    std::int32_t first = 0;
#pragma unroll
    for (int i = LogitBatch::kSize - 1; i >= 0; --i) {
      if (batch.values[i] == greatest) first = batch.token(i);
    }
    // The ends of a row come last, whatever their tokens are.
    if (greatest > value || first < token) token = first;
    value = greatest;
  }
  __device__ __forceinline__ std::uint64_t key() const {
    return has_nan ? kNan : token_key(value, token);
  }
};

// A draw while the maximum is not known yet, by logit / T + noise. That differs from the score by a
// constant and by rounding, so it names the winner unless another token comes too close.
class EarlyDraw {
 public:
  explicit __device__ __forceinline__ EarlyDraw(const SamplingRowParams& params)
      : key_(params.key), inverse_temperature_(params.inverse_temperature) {}

  // All threads of a warp call it together.
  __device__ __forceinline__ void add(const LogitBatch& batch) {
    float bounds[LogitBatch::kSize];
#pragma unroll
    for (int i = 0; i < LogitBatch::kSize; ++i) {
      bounds[i] =
          __fmaf_rn(batch.values[i], inverse_temperature_, noise_bound(key_, batch.token(i)));
    }
    std::uint32_t unseen = 0xffffffffU;
    if (limit_ == minus_infinity()) {
      if (batch.values[0] > minus_infinity()) score(batch.values[0], batch.token(0));
      unseen = ~1U;
      share();
    }
    std::uint32_t possible = 0;
#pragma unroll
    for (int i = 0; i < LogitBatch::kSize; ++i) {
      if (bounds[i] >= limit_ && batch.values[i] > minus_infinity()) possible |= 1U << i;
    }
    batch.for_bits(possible & unseen, [&](float x, std::int32_t token) { score(x, token); });
    share();
  }

  // token_key of the winner, and the order_key of the greatest value among all others of this
  // thread, given the winner of more threads.
  __device__ __forceinline__ std::uint64_t winner() const {
    return token_key(best_, token_);
  }
  __device__ __forceinline__ std::uint32_t runner_up(std::uint64_t winner_of_all) const {
    return order_key(winner() == winner_of_all ? second_ : best_);
  }

  // Is the distance more than rounding can make of it? 2^-24 of each term, four terms, two tokens.
  __device__ static bool is_decided(float winner, float runner_up, float max,
                                    float inverse_temperature) {
    return winner - runner_up > 0x1p-22F * (fabsf(max * inverse_temperature) + 128.0F);
  }

 private:
  __device__ __forceinline__ void score(float x, std::int32_t token) {
    const float value = __fmaf_rn(x, inverse_temperature_, token_noise(key_, token));
    if (value > best_) {
      second_ = best_;
      best_ = value;
      token_ = token;
    } else {
      second_ = fmaxf(second_, value);
    }
  }
  // What is below the best of the warp by more than is_decided asks for need not be looked at.
  __device__ __forceinline__ void share() {
    const float best = value_of_key(__reduce_max_sync(0xffffffffU, order_key(best_)));
    limit_ = best - 0x1p-22F * (fabsf(best) + 192.0F);
  }

  RandomKey key_;
  float inverse_temperature_;
  float best_ = minus_infinity();
  float second_ = minus_infinity();
  float limit_ = minus_infinity();
  std::int32_t token_ = 0;
};

// The greatest logits of up to 256 parts of the row, one for each thread.
__device__ __forceinline__ float part_maximum(const float* group_maxima, int num_groups) {
  float greatest = minus_infinity();
  for (int g = static_cast<int>(threadIdx.x); g < num_groups; g += kSamplingThreads) {
    greatest = fmaxf(greatest, __ldcg(group_maxima + g));
  }
  return greatest;
}

// A value that at least k logits of the row are not below: the k-th greatest of the maxima of its
// parts. -infinity when there are fewer.
__device__ float kth_maximum(ScanMemory& memory, float part_max, std::int32_t k) {
  __syncthreads();
  memory.maxima[threadIdx.x] = part_max;
  __syncthreads();
  int num_before = 0;
#pragma unroll 8
  for (int i = 0; i < kSamplingThreads; ++i) {
    const float other = memory.maxima[i];
    if (other > part_max || (other == part_max && i < static_cast<int>(threadIdx.x))) ++num_before;
  }
  __syncthreads();
  if (num_before == k - 1) memory.maxima[0] = part_max;
  __syncthreads();
  return k <= kSamplingThreads ? memory.maxima[0] : minus_infinity();
}

// lowest_in_nucleus of engine/backend/cpu/sampling_bounds.cpp, from the weight of some of the
// tokens: what is below weighs less than the nucleus leaves out, all of it together.
__device__ float lowest_in_nucleus(ScanMemory& memory, const SamplingRowParams& params, float max,
                                   float part_max, std::int64_t vocab_size) {
  const bool counts = part_max >= min_p_bound(params, max) && part_max > minus_infinity();
  const std::uint64_t weight = block_sum(
      counts ? softmax_weight(part_max, max, params.inverse_temperature) : 0, memory.warps);
  const double left_out = (1.0 - static_cast<double>(params.top_p)) * __ull2double_rn(weight);
  const double allowance = (left_out - 1.0) / static_cast<double>(vocab_size) - 0.5;
  if (allowance <= 0.0) return minus_infinity();
  const double z = log(0.98 * ldexp(allowance, -kSamplingWeightBits));
  const double logit = static_cast<double>(max) + z * static_cast<double>(params.temperature);
  return __double2float_rd(logit);
}

struct ScanResult {
  std::uint64_t peak;
  std::uint64_t winner;     // of an early draw
  std::uint64_t runner_up;  // its order_key
};

// The draw by the exact scores, where the early draw was too close to call: one row in 10^4.
__device__ __noinline__ std::int32_t draw_again(const SamplingBatch& batch, std::int64_t row,
                                                bool modified, ScanMemory& memory) {
  const RowView view = row_view(batch, row, modified);
  TokenScorer scorer(batch.rows[row], batch.workspace.states[row]);
  for (std::int32_t token = static_cast<std::int32_t>(threadIdx.x); token < view.vocab_size;
       token += kSamplingThreads) {
    const float x = view.logits[token];
    if (x > minus_infinity() && scorer.may_win(x, token)) scorer.offer(x, token);
  }
  return token_of_key(block_max(scorer.best, memory.warps));
}

// Bounds that later passes start from.
__device__ void leave_thresholds(const SamplingBatch& batch, std::int64_t row, bool modified,
                                 float max, ScanMemory& memory, int num_groups) {
  const SamplingRowParams& params = batch.rows[row];
  SamplingRowState& state = batch.workspace.states[row];
  const bool is_chosen_from = modified || params.modified_row < 0;
  const bool needs_top_k = is_chosen_from && params.kind == SamplingKind::kTopK;
  const bool needs_top_p = is_chosen_from && params.kind == SamplingKind::kFiltered;
  const bool needs_logprobs = !modified && params.num_logprobs > 0;
  if (!needs_top_k && !needs_top_p && !needs_logprobs) return;
  const float part_max =
      part_maximum(batch.workspace.group_maxima + row * kSamplingMaxGroups, num_groups);
  if (needs_top_k) {
    const float threshold = kth_maximum(memory, part_max, params.top_k);
    if (threadIdx.x == 0) state.threshold = threshold;
  }
  if (needs_top_p) {
    float threshold = minus_infinity();
    if (params.top_k == 0) {
      threshold = lowest_in_nucleus(memory, params, max, part_max, batch.vocab_size);
    }
    if (threadIdx.x == 0) state.threshold = threshold;
  }
  if (needs_logprobs) {
    const float threshold = kth_maximum(memory, part_max, params.num_logprobs);
    if (threadIdx.x == 0) state.raw_threshold = threshold;
  }
}

__device__ void finish_scan(const SamplingBatch& batch, std::int64_t row, bool modified,
                            const ScanResult& result, ScanMemory& memory, int num_groups) {
  const SamplingRowParams& params = batch.rows[row];
  SamplingRowState& state = batch.workspace.states[row];
  const float max = value_of_key(result.peak);
  const bool is_finite = result.peak != kNan && isfinite(max);
  const bool is_chosen_from = modified || params.modified_row < 0;
  if (threadIdx.x == 0) {
    if (!modified) state.raw_max = max;
    state.max = max;
    state.argmax = token_of_key(result.peak);
    state.is_finite = is_finite ? 1 : 0;
  }
  if (is_finite) leave_thresholds(batch, row, modified, max, memory, num_groups);
  std::int32_t token = -1;
  if (is_finite) {
    if (params.kind == SamplingKind::kReport) {
      token = params.target_token;
    } else if (!is_chosen_from) {
      return;
    } else if (params.kind == SamplingKind::kGreedy) {
      token = token_of_key(result.peak);
    } else if (params.kind == SamplingKind::kDraw) {
      const float winner = value_of_key(result.winner);
      const float runner_up = value_of_key(static_cast<std::uint32_t>(result.runner_up));
      token = token_of_key(result.winner);
      if (!EarlyDraw::is_decided(winner, runner_up, max, params.inverse_temperature)) {
        __syncthreads();  // the maximum is in the row's state
        token = draw_again(batch, row, modified, memory);
      }
    } else {
      return;
    }
  }
  if (threadIdx.x == 0) finish_row(batch, row, token);
}

// Maxima of 8 threads or of 32.
__device__ __forceinline__ void write_group_maxima(float* group_maxima, float value,
                                                   int groups_per_block) {
  const int group_size = kSamplingThreads / groups_per_block;
  for (int step = 1; step < group_size; step *= 2) {
    value = fmaxf(value, __shfl_xor_sync(0xffffffffU, value, step));
  }
  if (threadIdx.x % group_size == 0) {
    group_maxima[blockIdx.x * groups_per_block + threadIdx.x / group_size] = value;
  }
}

__global__ void __launch_bounds__(kSamplingThreads, kSamplingBlocks)
    scan_kernel(const __grid_constant__ SamplingBatch batch, const SamplingRows rows,
                const SamplingSplit split, const bool modified) {
  __shared__ ScanMemory memory;
  wait_for_inputs();
  const std::int64_t row = row_index(rows);
  const SamplingWorkspace& workspace = batch.workspace;
  // A row that has failed is done.
  if (modified && workspace.states[row].is_finite == 0) return;
  RowStream stream(row_view(batch, row, modified), blockIdx.x, split.vectors_per_split);
  const SamplingRowParams& params = batch.rows[row];
  const bool draws = params.kind == SamplingKind::kDraw && (modified || params.modified_row < 0);
  Peak peak;
  EarlyDraw draw(params);
  if (draws) {
    stream.for_batches(minus_infinity(), [&](const LogitBatch& logits) {
      peak.add(logits);
      draw.add(logits);
    });
  } else {
    stream.for_batches(minus_infinity(), [&](const LogitBatch& logits) { peak.add(logits); });
  }
  write_group_maxima(workspace.group_maxima + row * kSamplingMaxGroups, peak.value,
                     split.groups_per_block);
  ScanResult result{block_max(peak.key(), memory.warps), 0, 0};
  if (draws) {
    result.winner = block_max(draw.winner(), memory.warps);
    result.runner_up = block_max(draw.runner_up(result.winner), memory.warps);
  }
  if (gridDim.x > 1) {
    std::uint64_t* peaks = workspace.partials + row * kSamplingMaxSplits;
    std::uint64_t* winners = workspace.draw_partials + row * kSamplingMaxSplits;
    std::uint32_t* runners_up = workspace.partial_counts + row * kSamplingMaxSplits;
    if (threadIdx.x == 0) {
      peaks[blockIdx.x] = result.peak;
      winners[blockIdx.x] = result.winner;
      runners_up[blockIdx.x] = static_cast<std::uint32_t>(result.runner_up);
    }
    if (!is_last_block(workspace.block_counters + row, &memory.flag)) return;
    const bool mine = threadIdx.x < gridDim.x;
    result.peak = block_max(mine ? __ldcg(peaks + threadIdx.x) : 0, memory.warps);
    if (draws) {
      const std::uint64_t winner = mine ? __ldcg(winners + threadIdx.x) : 0;
      result.winner = block_max(winner, memory.warps);
      std::uint64_t other = 0;
      if (mine) {
        other = winner == result.winner ? __ldcg(runners_up + threadIdx.x) : winner >> 32;
      }
      result.runner_up = block_max(other, memory.warps);
    }
  } else {
    __syncthreads();
  }
  finish_scan(batch, row, modified, result, memory, gridDim.x * split.groups_per_block);
}

}  // namespace

namespace {

// Blocks of a row that are so few that all rows fit on the device at once have at most this many
// vectors; blocks of a device that is filled several times, half as many.
constexpr std::int64_t kMaxVectors = 64 * kSamplingThreads;

// For more rows than fit: the division whose last round of blocks is fullest.
std::int64_t fullest_rounds(std::int64_t num_rows, std::int64_t num_vectors,
                            std::int64_t num_resident) {
  std::int64_t best = 0;
  double best_share = 0;
  for (std::int64_t size = kMaxVectors / 2; size >= kMaxVectors / 4; size -= kSamplingBatch) {
    const std::int64_t splits = (num_vectors + size - 1) / size;
    const std::int64_t blocks = num_rows * splits;
    const std::int64_t rounds = (blocks + num_resident - 1) / num_resident;
    const double share = static_cast<double>(blocks) / static_cast<double>(rounds * num_resident);
    if (share > best_share + 0.02) {
      best = splits;
      best_share = share;
    }
  }
  return best;
}

}  // namespace

SamplingSplit split_rows(std::int64_t num_rows, std::int64_t vocab_size, int num_multiprocessors,
                         std::int64_t min_vectors) {
  const std::int64_t num_vectors = std::max<std::int64_t>(vocab_size / 4, 1);
  const std::int64_t num_resident = std::int64_t{kSamplingBlocks} * num_multiprocessors;
  const auto pieces = [&](std::int64_t size) { return (num_vectors + size - 1) / size; };
  std::int64_t splits = num_resident / num_rows;
  if (splits < pieces(kMaxVectors)) splits = fullest_rounds(num_rows, num_vectors, num_resident);
  splits = std::clamp<std::int64_t>(
      splits, 1, std::min<std::int64_t>(pieces(min_vectors), kSamplingMaxSplits));
  const std::int64_t size = (num_vectors + splits - 1) / splits;
  const std::int64_t unit = size > kSamplingBatch ? kSamplingBatch : kSamplingThreads;
  const std::int64_t whole = (size + unit - 1) / unit * unit;
  splits = pieces(whole);
  return {static_cast<unsigned>(splits), static_cast<std::int32_t>(whole),
          splits >= kSamplingWarps * 4 ? kSamplingWarps : kSamplingThreads / 8};
}

std::int32_t sampling_max_listed_top_k(std::int64_t num_rows, std::int64_t vocab_size,
                                       int num_multiprocessors) {
  if (vocab_size <= kSamplingListSize) return kSamplingListSize;
  const SamplingSplit split =
      split_rows(num_rows, vocab_size, num_multiprocessors, kSamplingThreads);
  const int num_groups = static_cast<int>(split.num_splits) * split.groups_per_block;
  return std::min(kSamplingMaxListedTopK, num_groups);
}

void sampling_scan(const Launch& launch_options, const SamplingBatch& batch,
                   const SamplingRows& rows, bool modified) {
  if (rows.count == 0) return;
  const SamplingSplit split =
      split_rows(rows.count, batch.vocab_size, batch.num_multiprocessors, kSamplingThreads);
  launch(launch_options, "sampling_scan", scan_kernel,
         dim3(split.num_splits, static_cast<unsigned>(rows.count)), dim3(kSamplingThreads),
         kSamplingStreamBytes, batch, rows, split, modified);
}

}  // namespace llmrun::kernels
