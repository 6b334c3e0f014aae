#include <algorithm>

#include "kernels/cuda/activation.cuh"
#include "kernels/cuda/element.cuh"
#include "kernels/cuda/elementwise.h"
#include "kernels/cuda/reduce.cuh"

namespace llmrun::kernels {
namespace {

// One row a block of threads.
template <typename T>
__global__ void gather_rows_kernel(T* out, const T* table, const std::int32_t* rows,
                                   std::int64_t row_size) {
  allow_next();
  wait_for_inputs();
  const T* source = table + static_cast<std::int64_t>(rows[blockIdx.x]) * row_size;
  T* target = out + static_cast<std::int64_t>(blockIdx.x) * row_size;
  constexpr int kSize = Vec16<T>::kSize;
  if (row_size % kSize == 0) {
    for (std::int64_t i = threadIdx.x; i < row_size / kSize; i += blockDim.x) {
      reinterpret_cast<Vec16<T>*>(target)[i] = reinterpret_cast<const Vec16<T>*>(source)[i];
    }
  } else {
    for (std::int64_t i = threadIdx.x; i < row_size; i += blockDim.x) target[i] = source[i];
  }
}

constexpr int kNormVectors = 4;  // 16-byte pieces of a row that a thread keeps in registers

// One row a block. The row is read once: it stays in registers between the sum and the scaling. The
// weights of a thread's first vector, mostly its only one, are read before the kernel in front has
// ended: they were last used a step ago, and the memory is slow to answer while the next product's
// weights flow.
template <typename T>
__global__ void __launch_bounds__(kNormThreads)
    rms_norm_kernel(T* out, const T* x, const float* weight, float eps, std::int64_t hidden_size) {
  constexpr int kSize = Vec16<T>::kSize;
  constexpr int kWeightVectors = kSize / 4;
  allow_next();
  const auto num_vectors = static_cast<int>(hidden_size / kSize);
  const auto load_weights = [&](float4(&weights)[kWeightVectors], int i) {
#pragma unroll
    for (int w = 0; w < kWeightVectors; ++w) {
      weights[w] = reinterpret_cast<const float4*>(weight)[i * kWeightVectors + w];
    }
  };
  float4 weights[kWeightVectors] = {};
  if (static_cast<int>(threadIdx.x) < num_vectors) {
    load_weights(weights, static_cast<int>(threadIdx.x));
  }
  wait_for_inputs();
  const Vec16<T>* source =
      reinterpret_cast<const Vec16<T>*>(x + static_cast<std::int64_t>(blockIdx.x) * hidden_size);
  Vec16<T>* target =
      reinterpret_cast<Vec16<T>*>(out + static_cast<std::int64_t>(blockIdx.x) * hidden_size);
  Vec16<T> row[kNormVectors];
  float sum = 0.0F;
#pragma unroll
  for (int j = 0; j < kNormVectors; ++j) {
    const int i = static_cast<int>(threadIdx.x + static_cast<unsigned>(j) * blockDim.x);
    if (i >= num_vectors) break;
    row[j] = source[i];
#pragma unroll
    for (int e = 0; e < kSize; ++e) {
      const float value = to_float(row[j].values[e]);
      sum += value * value;
    }
  }
  const float scale = rsqrtf(block_sum(sum) / static_cast<float>(hidden_size) + eps);
#pragma unroll
  for (int j = 0; j < kNormVectors; ++j) {
    const int i = static_cast<int>(threadIdx.x + static_cast<unsigned>(j) * blockDim.x);
    if (i >= num_vectors) break;
    if (j > 0) load_weights(weights, i);
    Vec16<T> result;
#pragma unroll
    for (int e = 0; e < kSize; ++e) {
      const float factor = reinterpret_cast<const float*>(weights)[e];
      result.values[e] = from_float<T>(to_float(row[j].values[e]) * scale * factor);
    }
    target[i] = result;
  }
}

// Any size: rows that are not whole vectors, or longer than the registers of a block hold.
template <typename T>
__global__ void __launch_bounds__(kNormThreads)
    rms_norm_any_size_kernel(T* out, const T* x, const float* weight, float eps,
                             std::int64_t hidden_size) {
  allow_next();
  wait_for_inputs();
  const T* source = x + static_cast<std::int64_t>(blockIdx.x) * hidden_size;
  T* target = out + static_cast<std::int64_t>(blockIdx.x) * hidden_size;
  float sum = 0.0F;
  for (std::int64_t i = threadIdx.x; i < hidden_size; i += blockDim.x) {
    const float value = to_float(source[i]);
    sum += value * value;
  }
  const float scale = rsqrtf(block_sum(sum) / static_cast<float>(hidden_size) + eps);
  for (std::int64_t i = threadIdx.x; i < hidden_size; i += blockDim.x) {
    target[i] = from_float<T>(to_float(source[i]) * scale * weight[i]);
  }
}

// 8 outputs a thread.
template <typename T>
__global__ void gate_mul_kernel(T* out, const T* gate_up, std::int64_t num_groups,
                                Activation activation) {
  allow_next();
  wait_for_inputs();
  const std::int64_t group = static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (group >= num_groups) return;
  constexpr int kGroup = 8;
  constexpr int kSize = Vec16<T>::kSize;
  const auto* source = reinterpret_cast<const Vec16<T>*>(gate_up + group * 2 * kGroup);
  auto* target = reinterpret_cast<Vec16<T>*>(out + group * kGroup);
#pragma unroll
  for (int part = 0; part < kGroup / kSize; ++part) {
    const Vec16<T> gate = source[part];
    const Vec16<T> up = source[kGroup / kSize + part];
    Vec16<T> result;
#pragma unroll
    for (int e = 0; e < kSize; ++e) {
      result.values[e] =
          from_float<T>(activated(to_float(gate.values[e]), activation) * to_float(up.values[e]));
    }
    target[part] = result;
  }
}

// Where a head of keys or values of a token is stored.
template <typename Kv>
__device__ __forceinline__ Kv* cached_head(void* cache, const RopeAndStore& args, std::int64_t slot,
                                           std::int64_t kv_head) {
  return static_cast<Kv*>(cache) +
         ((slot / args.block_size * args.num_kv_heads + kv_head) * args.block_size +
          slot % args.block_size) *
             args.head_dim;
}

template <typename T>
struct alignas(2 * sizeof(T)) Pair {
  T x;
  T y;
};

// One token a block in x; its heads go round the warps of all blocks in y. A lane rotates two
// neighbouring pairs at a time. Even rotary_dim / 2 and head_dim. Slots, positions and a lane's
// first angles, mostly its only ones, are read before the kernel in front has ended.
template <typename T, typename Kv>
__global__ void rope_and_store_kernel(RopeAndStore args) {
  allow_next();
  const std::int64_t token = blockIdx.x;
  const auto warps_per_block = static_cast<int>(blockDim.x) / kWarpSize;
  const int num_warps = warps_per_block * static_cast<int>(gridDim.y);
  const int first_head =
      static_cast<int>(blockIdx.y) * warps_per_block + static_cast<int>(threadIdx.x) / kWarpSize;
  const int lane = static_cast<int>(threadIdx.x) % kWarpSize;
  const auto num_query_heads = static_cast<int>(args.num_query_heads);
  const auto num_kv_heads = static_cast<int>(args.num_kv_heads);
  const int num_heads = num_query_heads + 2 * num_kv_heads;
  const auto head_dim = static_cast<int>(args.head_dim);
  const bool rotates = args.cos_sin != nullptr;
  const int half = rotates ? static_cast<int>(args.rotary_dim) / 2 : 0;
  const std::int64_t slot = args.slot_mapping[token];
  const float* cosines = rotates ? args.cos_sin + args.positions[token] * args.rotary_dim : nullptr;
  T* row = static_cast<T*>(args.qkv) + token * num_heads * head_dim;
  const auto load_pair = [](const float* pair) { return *reinterpret_cast<const float2*>(pair); };
  float2 first_cosines{};
  float2 first_sines{};
  if (2 * lane < half) {
    first_cosines = load_pair(cosines + 2 * lane);
    first_sines = load_pair(cosines + half + 2 * lane);
  }
  wait_for_inputs();

  for (int head = first_head; head < num_heads; head += num_warps) {
    T* source = row + head * head_dim;
    const bool is_query = head < num_query_heads;
    const bool is_value = head >= num_query_heads + num_kv_heads;
    const int kv_head = head - num_query_heads - (is_value ? num_kv_heads : 0);
    Kv* cached = is_query ? nullptr
                          : cached_head<Kv>(is_value ? args.value_cache : args.key_cache, args,
                                            slot, kv_head);
    const int rotated_half = is_value ? 0 : half;
    for (int i = 2 * lane; i < rotated_half; i += 2 * kWarpSize) {
      const bool is_first = i == 2 * lane;
      const float2 c = is_first ? first_cosines : load_pair(cosines + i);
      const float2 s = is_first ? first_sines : load_pair(cosines + half + i);
      const auto low = *reinterpret_cast<const Pair<T>*>(source + i);
      const auto high = *reinterpret_cast<const Pair<T>*>(source + i + half);
      const float2 new_low = {to_float(low.x) * c.x - to_float(high.x) * s.x,
                              to_float(low.y) * c.y - to_float(high.y) * s.y};
      const float2 new_high = {to_float(high.x) * c.x + to_float(low.x) * s.x,
                               to_float(high.y) * c.y + to_float(low.y) * s.y};
      if (is_query) {
        *reinterpret_cast<Pair<T>*>(source + i) = {from_float<T>(new_low.x),
                                                   from_float<T>(new_low.y)};
        *reinterpret_cast<Pair<T>*>(source + i + half) = {from_float<T>(new_high.x),
                                                          from_float<T>(new_high.y)};
      } else {
        *reinterpret_cast<Pair<Kv>*>(cached + i) = {from_float<Kv>(new_low.x),
                                                    from_float<Kv>(new_low.y)};
        *reinterpret_cast<Pair<Kv>*>(cached + i + half) = {from_float<Kv>(new_high.x),
                                                           from_float<Kv>(new_high.y)};
      }
    }
    if (is_query) continue;
    for (int i = 2 * (rotated_half + lane); i < head_dim; i += 2 * kWarpSize) {
      const auto values = *reinterpret_cast<const Pair<T>*>(source + i);
      *reinterpret_cast<Pair<Kv>*>(cached + i) = {from_float<Kv>(to_float(values.x)),
                                                  from_float<Kv>(to_float(values.y))};
    }
  }
}

}  // namespace

void gather_rows(const Launch& launch_options, void* out, const void* table,
                 const std::int32_t* rows, std::int64_t num_tokens, std::int64_t row_size,
                 DType dtype) {
  if (num_tokens == 0) return;
  dispatch_float_type(dtype, [&](auto type) {
    using T = decltype(type);
    const std::int64_t num_vectors = (row_size + Vec16<T>::kSize - 1) / Vec16<T>::kSize;
    const auto threads = static_cast<unsigned>(
        std::clamp<std::int64_t>((num_vectors + kWarpSize - 1) / kWarpSize * kWarpSize, 32, 512));
    launch(launch_options, "gather_rows", gather_rows_kernel<T>,
           dim3(static_cast<unsigned>(num_tokens)), dim3(threads), 0, static_cast<T*>(out),
           static_cast<const T*>(table), rows, row_size);
  });
}

void rms_norm(const Launch& launch_options, void* out, const void* x, const float* weight,
              float eps, std::int64_t num_tokens, std::int64_t hidden_size, DType dtype) {
  if (num_tokens == 0) return;
  dispatch_float_type(dtype, [&](auto type) {
    using T = decltype(type);
    constexpr std::int64_t kLargest = kNormThreads * kNormVectors * Vec16<T>::kSize;
    const bool fits = hidden_size % Vec16<T>::kSize == 0 && hidden_size <= kLargest;
    // As many threads as a row has vectors, or an equal share of them.
    const std::int64_t num_vectors = (hidden_size + Vec16<T>::kSize - 1) / Vec16<T>::kSize;
    const std::int64_t num_passes = (num_vectors + kNormThreads - 1) / kNormThreads;
    const std::int64_t share = (num_vectors + num_passes - 1) / num_passes;
    const auto threads = static_cast<unsigned>((share + kWarpSize - 1) / kWarpSize * kWarpSize);
    launch(launch_options, "rms_norm", fits ? rms_norm_kernel<T> : rms_norm_any_size_kernel<T>,
           dim3(static_cast<unsigned>(num_tokens)), dim3(threads), 0, static_cast<T*>(out),
           static_cast<const T*>(x), weight, eps, hidden_size);
  });
}

void gate_mul(const Launch& launch_options, void* out, const void* gate_up, std::int64_t num_tokens,
              std::int64_t intermediate_size, Activation activation, DType dtype) {
  const std::int64_t num_groups = num_tokens * intermediate_size / 8;
  if (num_groups == 0) return;
  constexpr unsigned kThreads = 256;
  dispatch_float_type(dtype, [&](auto type) {
    using T = decltype(type);
    launch(launch_options, "gate_mul", gate_mul_kernel<T>,
           dim3(static_cast<unsigned>((num_groups + kThreads - 1) / kThreads)), dim3(kThreads), 0,
           static_cast<T*>(out), static_cast<const T*>(gate_up), num_groups, activation);
  });
}

void rope_and_store_kv(const Launch& launch_options, const RopeAndStore& args) {
  if (args.num_tokens == 0) return;
  constexpr unsigned kWarps = 8;
  const auto num_heads = static_cast<unsigned>(args.num_query_heads + 2 * args.num_kv_heads);
  // Few tokens are spread over more blocks; of many, each block reads its angles once.
  constexpr std::int64_t kFewTokens = 256;
  const unsigned blocks_per_token =
      args.num_tokens <= kFewTokens ? (num_heads + kWarps - 1) / kWarps : 1;
  const dim3 grid(static_cast<unsigned>(args.num_tokens), blocks_per_token);
  dispatch_float_type(args.dtype, [&](auto type) {
    using T = decltype(type);
    dispatch_float_type(args.kv_dtype, [&](auto kv_type) {
      using Kv = decltype(kv_type);
      launch(launch_options, "rope_and_store_kv", rope_and_store_kernel<T, Kv>, grid,
             dim3(kWarps * kWarpSize), 0, args);
    });
  });
}

}  // namespace llmrun::kernels
