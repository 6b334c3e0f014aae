// A row of logits as a block of kSamplingThreads threads reads its part of it, and the arithmetic
// that must give the CPU's bits.
#pragma once

#include <cfloat>
#include <cstdint>

#include "kernels/cuda/sampling.h"

namespace llmrun::kernels {

inline constexpr int kSamplingUnroll = 4;  // 16-byte loads in flight a thread

// How rows are divided among blocks.
struct SamplingSplit {
  unsigned num_splits;
  std::int64_t vectors_per_split;
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

// e^((x - max) / T) in units of 2^-kSamplingWeightBits: scaled_weight of
// kernels/cpu/sampling_impl.h.
__device__ __forceinline__ std::uint64_t softmax_weight(float x, float max,
                                                        float inverse_temperature) {
  const float z = fmaxf(__fmul_rn(__fsub_rn(x, max), inverse_temperature), -64.0F);
  const float magic = 12582912.0F;
  const float n = __fsub_rn(__fmaf_rn(z, 1.44269504F, magic), magic);
  float r = __fmaf_rn(n, -0.693145752F, z);
  r = __fmaf_rn(n, -1.42860677e-6F, r);
  float p = 0.0013814597623422742F;
  p = __fmaf_rn(p, r, 0.008368716575205326F);
  p = __fmaf_rn(p, r, 0.04166838899254799F);
  p = __fmaf_rn(p, r, 0.1666652113199234F);
  p = __fmaf_rn(p, r, 0.4999999403953552F);
  p = __fmaf_rn(p, __fmul_rn(r, r), r);
  const int exponent = (static_cast<int>(n) + kSamplingWeightBits + 127) << 23;
  return __float2ull_rn(__fmul_rn(__fadd_rn(p, 1.0F), __int_as_float(exponent)));
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

// token_score of kernels/cpu/sampling.h.
struct TokenScorer {
  float max;
  float inverse_temperature;
  RandomKey key;

  __device__ __forceinline__ float score(float x, std::int32_t token) const {
    const float noise = gumbel_variate(random_bits(key, static_cast<std::uint32_t>(token)));
    return __fmaf_rn(__fsub_rn(x, max), inverse_temperature, noise);
  }

  // Raises `best`, a token_key of a score, when this token's is greater. The bounds are those of
  // kernels/cpu/sampling_impl.h: few tokens need their score computed.
  __device__ __forceinline__ void offer(float x, std::int32_t token, float& best_score,
                                        std::uint64_t& best) const {
    const float below_max = __fsub_rn(x, max);
    if (!(__fmaf_rn(below_max, inverse_temperature, kMaxGumbel) >= best_score)) return;
    const std::uint32_t random = random_bits(key, static_cast<std::uint32_t>(token));
    const float v = static_cast<float>(static_cast<std::int32_t>(random >> 1));
    const float v_bits = static_cast<float>(__float_as_int(v));
    constexpr float kLn2 = 0.693147181F;
    const float noise_bound = __fmaf_rn(v_bits, -kLn2 * 0x1p-23F, kLn2 * (31.0F + 127.0F) + 1e-3F);
    if (!(__fmaf_rn(below_max, inverse_temperature, noise_bound) >= best_score)) return;
    const float value = __fmaf_rn(below_max, inverse_temperature, gumbel_variate(random));
    if (!(value >= best_score)) return;
    const std::uint64_t offered = token_key(value, token);
    if (offered > best) {
      best = offered;
      best_score = value;
    }
  }
};

// 4 logits of a row, 16-byte aligned but at its ends; lanes outside the row hold -infinity.
struct RowView {
  const float* logits;
  std::int64_t vocab_size;
  std::int32_t shift;  // lanes of vector 0 that lie before the row

  __device__ __forceinline__ RowView(const float* row, std::int64_t size)
      : logits(row),
        vocab_size(size),
        shift(static_cast<std::int32_t>((reinterpret_cast<std::uintptr_t>(row) >> 2) & 3)) {}

  __device__ __forceinline__ std::int64_t num_vectors() const {
    return (vocab_size + shift + 3) / 4;
  }
  __device__ __forceinline__ std::int32_t first_token(std::int64_t vector) const {
    return static_cast<std::int32_t>(4 * vector) - shift;
  }
  __device__ __forceinline__ bool contains(std::int32_t token) const {
    return token >= 0 && token < vocab_size;
  }
  __device__ __forceinline__ float4 load(std::int64_t vector) const {
    const std::int64_t first = 4 * vector - shift;
    if (first >= 0 && first + 4 <= vocab_size) {
      return *reinterpret_cast<const float4*>(logits + first);
    }
    const auto lane = [&](std::int64_t i) {
      return first + i >= 0 && first + i < vocab_size ? logits[first + i] : minus_infinity();
    };
    return make_float4(lane(0), lane(1), lane(2), lane(3));
  }
  // Calls visit(first token, float4) for this thread's vectors of block `split`.
  template <typename Visit>
  __device__ __forceinline__ void for_vectors(unsigned split, std::int64_t vectors_per_split,
                                              Visit visit) const {
    const std::int64_t begin = split * vectors_per_split;
    const std::int64_t end = min(begin + vectors_per_split, num_vectors());
    std::int64_t j = begin + threadIdx.x;
    for (; j + (kSamplingUnroll - 1) * kSamplingThreads < end;
         j += kSamplingUnroll * kSamplingThreads) {
      float4 values[kSamplingUnroll];
#pragma unroll
      for (int u = 0; u < kSamplingUnroll; ++u) values[u] = load(j + u * kSamplingThreads);
#pragma unroll
      for (int u = 0; u < kSamplingUnroll; ++u) {
        visit(first_token(j + u * kSamplingThreads), values[u]);
      }
    }
    for (; j < end; j += kSamplingThreads) visit(first_token(j), load(j));
  }
  // The same, one logit at a time: visit(token, x).
  template <typename Visit>
  __device__ __forceinline__ void for_tokens(unsigned split, std::int64_t vectors_per_split,
                                             Visit visit) const {
    for_vectors(split, vectors_per_split, [&](std::int32_t first, float4 values) {
      visit(first, values.x);
      visit(first + 1, values.y);
      visit(first + 2, values.z);
      visit(first + 3, values.w);
    });
  }
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
