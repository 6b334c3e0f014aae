// Attention as one would write it first: a block of threads for each (token, query head).
#include <cfloat>

#include "engine/core/error.h"
#include "kernels/cuda/attention.h"
#include "kernels/cuda/element.cuh"

namespace llmrun::kernels {
namespace {

constexpr int kThreads = 256;
constexpr int kWarps = kThreads / 32;
constexpr int kLanesPerKey = 8;
constexpr int kMaxHeadDim = 1024;

struct PlainParams {
  PagedAttention args;
  const std::int32_t* query_start_loc;
  const std::int32_t* seq_lens;
  int num_sequences;
  int num_vectors;  // of a row
};

struct PlainShared {
  float query[kMaxHeadDim];
  float weight[kThreads];      // scores, then weights, of kThreads keys
  std::int64_t row[kThreads];  // their rows in the cache, in elements
  float partial[kThreads][9];  // sums of values of each thread; padded
  float reduced[kWarps];
};

template <typename T, int kVector>
struct alignas(sizeof(T) * kVector) Elements {
  T values[kVector];
};

// The last sequence that begins at or before `token`; those without tokens are passed over.
__device__ int find_sequence(const std::int32_t* query_start_loc, int num_sequences, int token) {
  int low = 0;
  int high = num_sequences - 1;
  while (low < high) {
    const int middle = (low + high + 1) / 2;
    if (query_start_loc[middle] <= token) {
      low = middle;
    } else {
      high = middle - 1;
    }
  }
  return low;
}

// Sum or maximum over the block; every thread gets it. Ends with the block synchronized.
template <bool kIsMax>
__device__ float reduce_block(float x, float* shared) {
  for (int offset = 16; offset > 0; offset /= 2) {
    const float other = __shfl_xor_sync(~0U, x, offset);
    x = kIsMax ? fmaxf(x, other) : x + other;
  }
  __syncthreads();
  if (threadIdx.x % 32 == 0) shared[threadIdx.x / 32] = x;
  __syncthreads();
  x = shared[0];
  for (int i = 1; i < kWarps; ++i) x = kIsMax ? fmaxf(x, shared[i]) : x + shared[i];
  return x;
}

// q . k of `count` keys to shared.weight, kLanesPerKey lanes for each.
template <typename T, int kVector>
__device__ void score_keys(const PlainParams& params, PlainShared& shared, int count) {
  const auto* key_cache = static_cast<const T*>(params.args.key_cache);
  const int lane = threadIdx.x % kLanesPerKey;
  for (int first = 0; first < count; first += kThreads / kLanesPerKey) {
    const int key = first + threadIdx.x / kLanesPerKey;
    const T* row = key_cache + shared.row[min(key, count - 1)];
    float dot = 0;
    for (int v = lane; v < params.num_vectors; v += kLanesPerKey) {
      const auto elements = reinterpret_cast<const Elements<T, kVector>*>(row)[v];
#pragma unroll
      for (int i = 0; i < kVector; ++i) {
        dot = fmaf(to_float(elements.values[i]), shared.query[v * kVector + i], dot);
      }
    }
    for (int offset = kLanesPerKey / 2; offset > 0; offset /= 2) {
      dot += __shfl_xor_sync(~0U, dot, offset);
    }
    if (lane == 0 && key < count) shared.weight[key] = dot;
  }
}

__device__ float adjust_score(const PagedAttention& args, float dot, float slope, int distance) {
  float score = dot * args.scale;
  if (args.logit_softcap > 0) score = args.logit_softcap * tanhf(score / args.logit_softcap);
  return score + slope * static_cast<float>(distance);
}

// Adds up the threads' sums of values and writes the row of out. Thread (group, vector) holds the
// sums of keys group, group + num_groups, ...
template <typename T, int kVector>
__device__ void write_row(const PlainParams& params, PlainShared& shared, const float* sums,
                          int num_groups, float total, T* out) {
  __syncthreads();
  for (int i = 0; i < kVector; ++i) shared.partial[threadIdx.x][i] = sums[i];
  __syncthreads();
  for (int d = threadIdx.x; d < params.args.shape.head_dim; d += kThreads) {
    float sum = 0;
    for (int group = 0; group < num_groups; ++group) {
      sum += shared.partial[group * params.num_vectors + d / kVector][d % kVector];
    }
    out[d] = from_float<T>(sum / total);
  }
}

// Grid (T, Hq).
template <typename T, int kVector>
__global__ void __launch_bounds__(kThreads) plain_attention_kernel(const PlainParams params) {
  wait_for_inputs();
  allow_next();
  __shared__ PlainShared shared;
  const PagedAttention& args = params.args;
  const AttentionShape& shape = args.shape;
  const int head = static_cast<int>(blockIdx.y);
  const int token = static_cast<int>(blockIdx.x);
  if (token >= params.query_start_loc[params.num_sequences]) return;
  const int sequence = find_sequence(params.query_start_loc, params.num_sequences, token);
  const int position = params.seq_lens[sequence] - params.query_start_loc[sequence + 1] + token;
  const int kv_head = head / (shape.num_query_heads / shape.num_kv_heads);
  const std::int32_t* table =
      args.block_tables + static_cast<std::int64_t>(sequence) * args.max_num_blocks;
  const std::int64_t qkv_row =
      static_cast<std::int64_t>(shape.num_query_heads + 2 * shape.num_kv_heads) * shape.head_dim;
  const T* query = static_cast<const T*>(args.qkv) + token * qkv_row +
                   static_cast<std::int64_t>(head) * shape.head_dim;
  for (int d = threadIdx.x; d < shape.head_dim; d += kThreads) shared.query[d] = to_float(query[d]);
  const float slope = args.alibi_slopes == nullptr ? 0.0F : args.alibi_slopes[head];

  const int num_groups = kThreads / params.num_vectors;
  const int group = static_cast<int>(threadIdx.x) / params.num_vectors;
  const int vector = static_cast<int>(threadIdx.x) % params.num_vectors;
  float sums[kVector] = {};
  float largest = -FLT_MAX;
  float total = 0;
  const int begin = args.sliding_window > 0 ? max(0, position - args.sliding_window + 1) : 0;
  for (int first = begin; first <= position; first += kThreads) {
    const int count = min(kThreads, position + 1 - first);
    const int key = first + static_cast<int>(threadIdx.x);
    __syncthreads();
    if (static_cast<int>(threadIdx.x) < count) {
      const std::int64_t block = table[key / shape.block_size];
      shared.row[threadIdx.x] =
          ((block * shape.num_kv_heads + kv_head) * shape.block_size + key % shape.block_size) *
          shape.head_dim;
    }
    __syncthreads();
    score_keys<T, kVector>(params, shared, count);
    __syncthreads();
    const bool is_valid = static_cast<int>(threadIdx.x) < count;
    const float score =
        is_valid ? adjust_score(args, shared.weight[threadIdx.x], slope, key - position) : -FLT_MAX;
    const float new_largest = fmaxf(largest, reduce_block<true>(score, shared.reduced));
    const float weight = is_valid ? __expf(score - new_largest) : 0.0F;
    shared.weight[threadIdx.x] = weight;
    const float rescale = __expf(largest - new_largest);
    total = total * rescale + reduce_block<false>(weight, shared.reduced);
    largest = new_largest;
    for (float& sum : sums) sum *= rescale;
    if (group < num_groups) {
      const auto* value_cache = static_cast<const T*>(args.value_cache);
#pragma unroll 4
      for (int k = group; k < count; k += num_groups) {
        const auto elements =
            reinterpret_cast<const Elements<T, kVector>*>(value_cache + shared.row[k])[vector];
#pragma unroll
        for (int i = 0; i < kVector; ++i) {
          sums[i] = fmaf(shared.weight[k], to_float(elements.values[i]), sums[i]);
        }
      }
    }
  }
  T* out = static_cast<T*>(args.out) +
           (static_cast<std::int64_t>(token) * shape.num_query_heads + head) * shape.head_dim;
  write_row<T, kVector>(params, shared, sums, num_groups, total, out);
}

template <typename T, int kVector>
void launch_plain(const Launch& options, PlainParams params, int num_tokens) {
  const AttentionShape& shape = params.args.shape;
  params.num_vectors = shape.head_dim / kVector;
  if (params.num_vectors > kThreads) {
    throw Error(ErrorKind::kInternal, "plain_attention: head_dim too large");
  }
  const dim3 grid(static_cast<unsigned>(num_tokens), static_cast<unsigned>(shape.num_query_heads));
  launch(options, "plain_attention", plain_attention_kernel<T, kVector>, grid, dim3(kThreads), 0,
         params);
}

}  // namespace

void plain_attention(const Launch& options, const PagedAttention& args,
                     const std::int32_t* query_start_loc, const std::int32_t* seq_lens,
                     int num_tokens, int num_sequences) {
  if (num_tokens == 0 || num_sequences == 0) return;
  const PlainParams params{args, query_start_loc, seq_lens, num_sequences, 0};
  dispatch_float_type(args.shape.dtype, [&](auto element) {
    using T = decltype(element);
    constexpr int kVector = 16 / sizeof(T);
    if (args.shape.head_dim % kVector == 0) {
      launch_plain<T, kVector>(options, params, num_tokens);
    } else {
      launch_plain<T, 1>(options, params, num_tokens);
    }
  });
}

}  // namespace llmrun::kernels
