// A row of logits as a block of kSamplingThreads threads reads its part of it, and the arithmetic
// that must give the CPU's bits.
#pragma once

#include <cfloat>
#include <cstddef>
#include <cstdint>

#include "kernels/cuda/sampling.h"

namespace llmrun::kernels {

inline constexpr int kSamplingUnroll = 4;  // 16-byte loads in flight a thread
inline constexpr int kSamplingBatch = kSamplingUnroll * kSamplingThreads;  // vectors, of a block
inline constexpr int kSamplingBlocks = 4;  // that a multiprocessor holds
inline constexpr int kSamplingStages = 2;  // batches in flight
// Dynamic shared memory of kernels that read rows by RowStream.
inline constexpr std::size_t kSamplingStreamBytes =
    std::size_t{16} * kSamplingStages * kSamplingBatch;

// How rows are divided among blocks.
struct SamplingSplit {
  unsigned num_splits;
  std::int32_t vectors_per_split;
  int groups_per_block;  // maxima that each block of a scan leaves: 8 or 32
};
// A block has at least `min_vectors` of 4 logits, unless the row has fewer.
SamplingSplit split_rows(std::int64_t num_rows, std::int64_t vocab_size, int num_multiprocessors,
                         std::int64_t min_vectors);

#ifdef __CUDACC__

__device__ __forceinline__ float minus_infinity() {
  return -__int_as_float(0x7f800000);
}

// Ascending with x; -0 and +0 have one key.
__device__ __forceinline__ std::uint32_t order_key(float x) {
  const std::uint32_t bits = __float_as_uint(__fadd_rn(x, 0.0F));
  return bits ^ (static_cast<std::uint32_t>(static_cast<std::int32_t>(bits) >> 31) | 0x80000000U);
}
__device__ __forceinline__ float value_of_key(std::uint32_t key) {
  return __uint_as_float((key & 0x80000000U) != 0 ? key ^ 0x80000000U : ~key);
}
// Ascending with x, then descending with the token.
__device__ __forceinline__ std::uint64_t token_key(float x, std::int32_t token) {
  return (static_cast<std::uint64_t>(order_key(x)) << 32) | ~static_cast<std::uint32_t>(token);
}
__device__ __forceinline__ float value_of_key(std::uint64_t key) {
  return value_of_key(static_cast<std::uint32_t>(key >> 32));
}
__device__ __forceinline__ std::int32_t token_of_key(std::uint64_t key) {
  return static_cast<std::int32_t>(~static_cast<std::uint32_t>(key));
}

// Rounds to the nearest integer, ties to even. 0 <= x <= 2^kSamplingWeightBits.
__device__ __forceinline__ std::uint64_t round_weight(float x) {
  const std::uint32_t bits = __float_as_uint(x);
  // From 2^23 on a float is an integer; below, adding 2^23 leaves the rounded one in the mantissa.
  if (x < 8388608.0F) return __float_as_uint(__fadd_rn(x, 8388608.0F)) - 0x4b000000U;
  return static_cast<std::uint64_t>((bits & 0x007fffffU) | 0x00800000U) << ((bits >> 23) - 150U);
}

// e^((x - max) / T) in units of 2^-kSamplingWeightBits: scaled_weight of
// kernels/cpu/sampling_impl.h.
__device__ __forceinline__ std::uint64_t softmax_weight(float x, float max,
                                                        float inverse_temperature) {
  const float z = fmaxf(__fmul_rn(__fsub_rn(x, max), inverse_temperature), -64.0F);
  const float magic = 12582912.0F;
  const float shifted = __fmaf_rn(z, 1.44269504F, magic);
  const float n = __fsub_rn(shifted, magic);
  float r = __fmaf_rn(n, -0.693145752F, z);
  r = __fmaf_rn(n, -1.42860677e-6F, r);
  float p = 0.0013814597623422742F;
  p = __fmaf_rn(p, r, 0.008368716575205326F);
  p = __fmaf_rn(p, r, 0.04166838899254799F);
  p = __fmaf_rn(p, r, 0.1666652113199234F);
  p = __fmaf_rn(p, r, 0.4999999403953552F);
  p = __fmaf_rn(p, __fmul_rn(r, r), r);
  // The low bits of `shifted` are n.
  const int exponent =
      static_cast<int>((__float_as_uint(shifted) << 23) + ((kSamplingWeightBits + 127U) << 23));
  return round_weight(__fmul_rn(__fadd_rn(p, 1.0F), __int_as_float(exponent)));
}

// What the nucleus must reach: the formula of top_p_bound.
__device__ __forceinline__ std::uint64_t top_p_target(float top_p, std::uint64_t total) {
  const double target = ceil(__dmul_rn(static_cast<double>(top_p), __ull2double_rn(total)));
  const auto rounded = static_cast<std::uint64_t>(target);
  return rounded < 1 ? 1 : rounded;
}

__device__ __forceinline__ float min_p_bound(const SamplingRowParams& params, float max) {
  return __double2float_rn(__dadd_rn(static_cast<double>(max), params.min_p_margin));
}

__device__ __forceinline__ float token_noise(RandomKey key, std::int32_t token) {
  return gumbel_variate(random_bits(key, static_cast<std::uint32_t>(token)));
}

// What token_noise does not exceed, for much less work: -log v, with v rounded down to 23 bits;
// 1e-3 covers all rounding.
__device__ __forceinline__ float noise_bound(RandomKey key, std::int32_t token) {
  const std::uint32_t random = random_bits(key, static_cast<std::uint32_t>(token));
  const float v = __fsub_rn(__uint_as_float((random >> 9) | 0x3f800000U), 1.0F);
  float log2_v = 0;
  asm("lg2.approx.ftz.f32 %0, %1;" : "=f"(log2_v) : "f"(v));
  return __fmaf_rn(log2_v, -0.693147181F, 1e-3F);
}

// token_score of kernels/cpu/sampling.h, and the greatest score so far.
struct TokenScorer {
  float max;
  float inverse_temperature;
  RandomKey key;
  float best_score;
  std::uint64_t best;  // token_key of a score

  // The most likely token is a good first guess: most others cannot reach its score.
  __device__ __forceinline__ TokenScorer(const SamplingRowParams& params,
                                         const SamplingRowState& state)
      : max(state.max), inverse_temperature(params.inverse_temperature), key(params.key) {
    best_score = score(state.max, state.argmax);
    best = token_key(best_score, state.argmax);
  }
  __device__ __forceinline__ float score(float x, std::int32_t token) const {
    return __fmaf_rn(__fsub_rn(x, max), inverse_temperature, token_noise(key, token));
  }
  __device__ __forceinline__ bool may_win(float x, std::int32_t token) const {
    return __fmaf_rn(__fsub_rn(x, max), inverse_temperature, noise_bound(key, token)) >= best_score;
  }
  __device__ __forceinline__ void offer(float x, std::int32_t token) {
    const float value = score(x, token);
    if (!(value >= best_score)) return;
    best_score = value;
    const std::uint64_t offered = token_key(value, token);
    if (offered > best) best = offered;
  }
};

// 16 logits of a thread: kSamplingUnroll vectors of 4, kSamplingThreads vectors apart.
struct LogitBatch {
  static constexpr int kSize = 4 * kSamplingUnroll;
  std::int32_t first_token;
  float values[kSize];
  const float* copies;  // of `values` that are logits, in shared memory

  __device__ __forceinline__ std::int32_t token(int i) const {
    return first_token + (i / 4) * 4 * kSamplingThreads + i % 4;
  }
  __device__ __forceinline__ void set(int vector, float4 x) {
    values[4 * vector] = x.x;
    values[4 * vector + 1] = x.y;
    values[4 * vector + 2] = x.z;
    values[4 * vector + 3] = x.w;
  }
  // Bit i: condition(value i, its token).
  template <typename Condition>
  __device__ __forceinline__ std::uint32_t mask(Condition condition) const {
    std::uint32_t bits = 0;
#pragma unroll
    for (int i = 0; i < kSize; ++i) {
      if (condition(values[i], token(i))) bits |= 1U << i;
    }
    return bits;
  }
  // Calls visit(x, token) for each bit. Few are set: one copy of the code serves all.
  template <typename Visit>
  __device__ __forceinline__ void for_bits(std::uint32_t bits, Visit visit) const {
    while (bits != 0) {
      const int i = __ffs(static_cast<int>(bits)) - 1;
      visit(copies[(i / 4) * 4 * kSamplingThreads + i % 4], token(i));
      bits &= bits - 1;
    }
  }
};

// A row of logits: up to 3 logits to the first address that is a multiple of 16, vectors of 4, and
// up to 3 that are left. The first and the last are its ends.
struct RowView {
  const float* logits;
  std::int32_t vocab_size;
  std::int32_t num_head;
  std::int32_t num_vectors;

  __device__ __forceinline__ RowView(const float* row, std::int64_t size)
      : logits(row), vocab_size(static_cast<std::int32_t>(size)) {
    const auto word = static_cast<std::int32_t>((reinterpret_cast<std::uintptr_t>(row) >> 2) & 3);
    num_head = min((4 - word) & 3, vocab_size);
    num_vectors = (vocab_size - num_head) / 4;
  }
  __device__ __forceinline__ const float4* vectors() const {
    return reinterpret_cast<const float4*>(logits + num_head);
  }
  __device__ __forceinline__ std::int32_t num_ends() const { return vocab_size - 4 * num_vectors; }
  __device__ __forceinline__ std::int32_t end_token(std::int32_t i) const {
    return i < num_head ? i : 4 * num_vectors + i;
  }
};

// A thread's way through its part of a row. Asynchronous copies to shared memory, which only this
// thread reads, keep kSamplingStages batches in flight from the moment it is made.
class RowStream {
 public:
  __device__ __forceinline__ RowStream(const RowView& view, unsigned split,
                                       std::int32_t vectors_per_split)
      : view_(view),
        begin_(static_cast<std::int32_t>(split) * vectors_per_split),
        end_(min(begin_ + vectors_per_split, view.num_vectors)),
        has_ends_(split == 0 && view.num_ends() > 0) {
#pragma unroll
    for (int stage = 0; stage < kSamplingStages; ++stage) {
      fetch(stage, begin_ + stage * kSamplingBatch);
    }
  }

  // Calls visit(LogitBatch) until all is seen, the ends of the row last; all threads of a block
  // make as many calls. Where there is no logit the value is `fill`.
  template <typename Visit>
  __device__ __forceinline__ void for_batches(float fill, Visit visit) {
    int stage = 0;
    for (std::int32_t base = begin_; base < end_ || has_ends_; base += kSamplingBatch) {
      asm volatile("cp.async.wait_group %0;" ::"n"(kSamplingStages - 1) : "memory");
      LogitBatch batch;
      batch.copies = reinterpret_cast<const float*>(slot(stage, 0));
      if (base < end_) {
        const std::int32_t vector = base + thread();
        batch.first_token = view_.num_head + 4 * vector;
#pragma unroll
        for (int u = 0; u < kSamplingUnroll; ++u) {
          float4 x = make_float4(fill, fill, fill, fill);
          if (vector + u * kSamplingThreads < end_) x = *slot(stage, u);
          batch.set(u, x);
        }
      } else {
        has_ends_ = false;
        batch.first_token = view_.end_token(thread());
#pragma unroll
        for (float& value : batch.values) value = fill;
        if (thread() < view_.num_ends()) {
          batch.values[0] = view_.logits[batch.first_token];
          slot(stage, 0)->x = batch.values[0];
        }
      }
      visit(batch);
      fetch(stage, base + kSamplingStages * kSamplingBatch);
      stage = (stage + 1) % kSamplingStages;
    }
    asm volatile("cp.async.wait_group 0;" ::: "memory");
  }

 private:
  static __device__ __forceinline__ std::int32_t thread() {
    return static_cast<std::int32_t>(threadIdx.x);
  }
  static __device__ __forceinline__ float4* slot(int stage, int u) {
    extern __shared__ float4 sampling_stream[];
    return sampling_stream + (stage * kSamplingUnroll + u) * kSamplingThreads + thread();
  }
  __device__ __forceinline__ void fetch(int stage, std::int32_t base) const {
    const std::int32_t vector = base + thread();
#pragma unroll
    for (int u = 0; u < kSamplingUnroll; ++u) {
      if (vector + u * kSamplingThreads >= end_) continue;
      const auto to = static_cast<std::uint32_t>(__cvta_generic_to_shared(slot(stage, u)));
      asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(to),
                   "l"(view_.vectors() + vector + u * kSamplingThreads)
                   : "memory");
    }
    asm volatile("cp.async.commit_group;" ::: "memory");
  }

  RowView view_;
  std::int32_t begin_;
  std::int32_t end_;
  bool has_ends_;
};

__device__ __forceinline__ std::int64_t row_index(const SamplingRows& rows) {
  return rows.indices != nullptr ? rows.indices[blockIdx.y] : blockIdx.y;
}

__device__ __forceinline__ RowView row_view(const SamplingBatch& batch, std::int64_t row,
                                            bool modified) {
  const SamplingWorkspace& workspace = batch.workspace;
  return RowView(modified ? workspace.modified_logits +
                                batch.rows[row].modified_row * workspace.modified_stride
                          : batch.logits + row * batch.row_stride,
                 batch.vocab_size);
}

// The row's token, by one thread. -1: the row failed.
__device__ __forceinline__ void finish_row(const SamplingBatch& batch, std::int64_t row,
                                           std::int32_t token) {
  const SamplingRowParams& params = batch.rows[row];
  SamplingRowState& state = batch.workspace.states[row];
  state.is_finite = token >= 0 ? 1 : 0;
  state.token = token;
  batch.results[row].token = token;
  if (params.kind == SamplingKind::kReport) return;
  // A row that failed may be planned already for the next step, whose result nobody keeps.
  const std::int32_t feedback = max(token, 0);
  batch.workspace.feedback_tokens[params.slot] = feedback;
  if (params.penalty_state != nullptr) ++params.penalty_state[feedback];
}

#endif

}  // namespace llmrun::kernels
