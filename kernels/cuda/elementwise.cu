#include <algorithm>

#include "kernels/cuda/element.cuh"
#include "kernels/cuda/elementwise.h"

namespace llmrun::kernels {
namespace {

constexpr int kWarpSize = 32;

__device__ __forceinline__ float warp_sum(float value) {
#pragma unroll
  for (int offset = kWarpSize / 2; offset > 0; offset /= 2) {
    value += __shfl_xor_sync(0xffffffffU, value, offset);
  }
  return value;
}

// One row a block of threads.
template <typename T>
__global__ void gather_rows_kernel(T* out, const T* table, const std::int32_t* rows,
                                   std::int64_t row_size) {
  wait_for_inputs();
  allow_next();
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

constexpr int kNormThreads = 256;
constexpr int kNormVectors = 8;  // 16-byte pieces of a row that a thread keeps in registers

// One row a block. The row is read once: it stays in registers between the sum and the scaling.
template <typename T>
__global__ void __launch_bounds__(kNormThreads)
    rms_norm_kernel(T* out, const T* x, const float* weight, float eps, std::int64_t hidden_size) {
  constexpr int kSize = Vec16<T>::kSize;
  __shared__ float partial[kNormThreads / kWarpSize];
  wait_for_inputs();
  allow_next();
  const Vec16<T>* source =
      reinterpret_cast<const Vec16<T>*>(x + static_cast<std::int64_t>(blockIdx.x) * hidden_size);
  Vec16<T>* target =
      reinterpret_cast<Vec16<T>*>(out + static_cast<std::int64_t>(blockIdx.x) * hidden_size);
  const auto num_vectors = static_cast<int>(hidden_size / kSize);
  Vec16<T> row[kNormVectors];
  float sum = 0.0F;
#pragma unroll
  for (int j = 0; j < kNormVectors; ++j) {
    const int i = static_cast<int>(threadIdx.x) + j * kNormThreads;
    if (i >= num_vectors) break;
    row[j] = source[i];
#pragma unroll
    for (int e = 0; e < kSize; ++e) {
      const float value = to_float(row[j].values[e]);
      sum += value * value;
    }
  }
  sum = warp_sum(sum);
  if (threadIdx.x % kWarpSize == 0) partial[threadIdx.x / kWarpSize] = sum;
  __syncthreads();
  float total = 0.0F;
#pragma unroll
  for (int w = 0; w < kNormThreads / kWarpSize; ++w) total += partial[w];
  const float scale = rsqrtf(total / static_cast<float>(hidden_size) + eps);
#pragma unroll
  for (int j = 0; j < kNormVectors; ++j) {
    const int i = static_cast<int>(threadIdx.x) + j * kNormThreads;
    if (i >= num_vectors) break;
    Vec16<T> result;
#pragma unroll
    for (int e = 0; e < kSize; ++e) {
      result.values[e] = from_float<T>(to_float(row[j].values[e]) * scale * weight[i * kSize + e]);
    }
    target[i] = result;
  }
}

// Any size: rows that are not whole vectors, or longer than the registers of a block hold.
template <typename T>
__global__ void __launch_bounds__(kNormThreads)
    rms_norm_any_size_kernel(T* out, const T* x, const float* weight, float eps,
                             std::int64_t hidden_size) {
  __shared__ float partial[kNormThreads / kWarpSize];
  wait_for_inputs();
  allow_next();
  const T* source = x + static_cast<std::int64_t>(blockIdx.x) * hidden_size;
  T* target = out + static_cast<std::int64_t>(blockIdx.x) * hidden_size;
  float sum = 0.0F;
  for (std::int64_t i = threadIdx.x; i < hidden_size; i += kNormThreads) {
    const float value = to_float(source[i]);
    sum += value * value;
  }
  sum = warp_sum(sum);
  if (threadIdx.x % kWarpSize == 0) partial[threadIdx.x / kWarpSize] = sum;
  __syncthreads();
  float total = 0.0F;
  for (int w = 0; w < kNormThreads / kWarpSize; ++w) total += partial[w];
  const float scale = rsqrtf(total / static_cast<float>(hidden_size) + eps);
  for (std::int64_t i = threadIdx.x; i < hidden_size; i += kNormThreads) {
    target[i] = from_float<T>(to_float(source[i]) * scale * weight[i]);
  }
}

__device__ __forceinline__ float silu(float x) {
  return x / (1.0F + __expf(-x));
}

// 8 outputs a thread.
template <typename T>
__global__ void silu_mul_kernel(T* out, const T* gate_up, std::int64_t num_groups) {
  wait_for_inputs();
  allow_next();
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
      result.values[e] = from_float<T>(silu(to_float(gate.values[e])) * to_float(up.values[e]));
    }
    target[part] = result;
  }
}

// One token a block in x; heads strided over y * warps; a warp a head.
template <typename T, typename Kv>
__global__ void rope_and_store_kernel(RopeAndStore args) {
  wait_for_inputs();
  allow_next();
  const std::int64_t token = blockIdx.x;
  const auto num_warps = static_cast<std::int64_t>(blockDim.x) / kWarpSize;
  const auto lane = static_cast<std::int64_t>(threadIdx.x) % kWarpSize;
  const std::int64_t num_heads = args.num_query_heads + 2 * args.num_kv_heads;
  const std::int64_t head =
      static_cast<std::int64_t>(blockIdx.y) * num_warps + threadIdx.x / kWarpSize;
  if (head >= num_heads) return;
  const std::int64_t head_dim = args.head_dim;
  T* source = static_cast<T*>(args.qkv) + (token * num_heads + head) * head_dim;
  const bool is_value = head >= args.num_query_heads + args.num_kv_heads;
  const bool is_query = head < args.num_query_heads;
  const std::int64_t rotary_dim = args.cos_sin == nullptr || is_value ? 0 : args.rotary_dim;
  if (is_query && rotary_dim == 0) return;

  Kv* cached = nullptr;
  if (!is_query) {
    const std::int64_t slot = args.slot_mapping[token];
    const std::int64_t kv_head = head - args.num_query_heads - (is_value ? args.num_kv_heads : 0);
    void* cache = is_value ? args.value_cache : args.key_cache;
    cached = static_cast<Kv*>(cache) +
             ((slot / args.block_size * args.num_kv_heads + kv_head) * args.block_size +
              slot % args.block_size) *
                 head_dim;
  }
  const std::int64_t half = rotary_dim / 2;
  const float* cosines =
      rotary_dim == 0 ? nullptr : args.cos_sin + args.positions[token] * rotary_dim;
  for (std::int64_t i = lane; i < half; i += kWarpSize) {
    const float c = cosines[i];
    const float s = cosines[half + i];
    const float low = to_float(source[i]);
    const float high = to_float(source[i + half]);
    const float new_low = low * c - high * s;
    const float new_high = high * c + low * s;
    if (is_query) {
      source[i] = from_float<T>(new_low);
      source[i + half] = from_float<T>(new_high);
    } else {
      cached[i] = from_float<Kv>(new_low);
      cached[i + half] = from_float<Kv>(new_high);
    }
  }
  if (is_query) return;
  for (std::int64_t i = rotary_dim + lane; i < head_dim; i += kWarpSize) {
    cached[i] = from_float<Kv>(to_float(source[i]));
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
    launch(launch_options, "rms_norm", fits ? rms_norm_kernel<T> : rms_norm_any_size_kernel<T>,
           dim3(static_cast<unsigned>(num_tokens)), dim3(kNormThreads), 0, static_cast<T*>(out),
           static_cast<const T*>(x), weight, eps, hidden_size);
  });
}

void silu_mul(const Launch& launch_options, void* out, const void* gate_up, std::int64_t num_tokens,
              std::int64_t intermediate_size, DType dtype) {
  const std::int64_t num_groups = num_tokens * intermediate_size / 8;
  if (num_groups == 0) return;
  constexpr unsigned kThreads = 256;
  dispatch_float_type(dtype, [&](auto type) {
    using T = decltype(type);
    launch(launch_options, "silu_mul", silu_mul_kernel<T>,
           dim3(static_cast<unsigned>((num_groups + kThreads - 1) / kThreads)), dim3(kThreads), 0,
           static_cast<T*>(out), static_cast<const T*>(gate_up), num_groups);
  });
}

void rope_and_store_kv(const Launch& launch_options, const RopeAndStore& args) {
  if (args.num_tokens == 0) return;
  constexpr unsigned kWarps = 8;
  const auto num_heads = static_cast<unsigned>(args.num_query_heads + 2 * args.num_kv_heads);
  const dim3 grid(static_cast<unsigned>(args.num_tokens), (num_heads + kWarps - 1) / kWarps);
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
