// Operations of models beyond the Llama form: layer norm, head norms, activations, experts.
#include <algorithm>

#include "kernels/cuda/activation.cuh"
#include "kernels/cuda/element.cuh"
#include "kernels/cuda/elementwise.h"
#include "kernels/cuda/reduce.cuh"

namespace llmrun::kernels {
namespace {

constexpr unsigned kThreads = 256;

// One row a block. The mean first, then the deviations from it.
template <typename T>
__global__ void __launch_bounds__(kNormThreads)
    layer_norm_kernel(T* out, const T* x, const float* weight, const float* bias, float eps,
                      std::int64_t hidden_size) {
  allow_next();
  wait_for_inputs();
  const T* source = x + static_cast<std::int64_t>(blockIdx.x) * hidden_size;
  T* target = out + static_cast<std::int64_t>(blockIdx.x) * hidden_size;
  float sum = 0.0F;
  for (std::int64_t i = threadIdx.x; i < hidden_size; i += blockDim.x) sum += to_float(source[i]);
  const float mean = block_sum(sum) / static_cast<float>(hidden_size);
  __syncthreads();  // the sums share their memory
  float squares = 0.0F;
  for (std::int64_t i = threadIdx.x; i < hidden_size; i += blockDim.x) {
    const float deviation = to_float(source[i]) - mean;
    squares += deviation * deviation;
  }
  const float scale = rsqrtf(block_sum(squares) / static_cast<float>(hidden_size) + eps);
  for (std::int64_t i = threadIdx.x; i < hidden_size; i += blockDim.x) {
    const float normed = (to_float(source[i]) - mean) * scale * weight[i];
    target[i] = from_float<T>(bias == nullptr ? normed : normed + bias[i]);
  }
}

// One head a warp.
template <typename T>
__global__ void norm_heads_kernel(HeadNorm args) {
  allow_next();
  wait_for_inputs();
  const std::int64_t warp =
      (static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x) / kWarpSize;
  if (warp >= args.num_tokens * args.num_heads) return;
  const std::int64_t token = warp / args.num_heads;
  const std::int64_t head = args.first_head + warp % args.num_heads;
  T* values = static_cast<T*>(args.rows) + token * args.row_size + head * args.head_dim;
  const int lane = static_cast<int>(threadIdx.x) % kWarpSize;
  float sum = 0.0F;
  for (std::int64_t i = lane; i < args.head_dim; i += kWarpSize) {
    const float value = to_float(values[i]);
    sum += value * value;
  }
  const float scale = rsqrtf(warp_sum(sum) / static_cast<float>(args.head_dim) + args.eps);
  for (std::int64_t i = lane; i < args.head_dim; i += kWarpSize) {
    values[i] = from_float<T>(to_float(values[i]) * scale * args.weight[i]);
  }
}

// x[i] = f(x[i], i)
template <typename T, typename F>
__global__ void map_kernel(T* x, std::int64_t num_elements, F f) {
  allow_next();
  wait_for_inputs();
  const std::int64_t stride = static_cast<std::int64_t>(gridDim.x) * blockDim.x;
  for (std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
       i < num_elements; i += stride) {
    x[i] = from_float<T>(f(to_float(x[i]), i));
  }
}

struct Activate {
  Activation activation;
  __device__ float operator()(float x, std::int64_t) const { return activated(x, activation); }
};

template <typename T>
struct Add {
  const T* x;
  __device__ float operator()(float value, std::int64_t i) const { return value + to_float(x[i]); }
};

template <typename T>
struct AddRow {
  const T* table;
  const std::int32_t* rows;
  std::int64_t row_size;
  __device__ float operator()(float value, std::int64_t i) const {
    return value + to_float(table[rows[i / row_size] * row_size + i % row_size]);
  }
};

struct Scale {
  float factor;
  __device__ float operator()(float x, std::int64_t) const { return x * factor; }
};

struct ScaleRow {
  const float* factors;
  std::int64_t stride;
  std::int64_t row_size;
  __device__ float operator()(float x, std::int64_t i) const {
    const float factor = factors[i / row_size * stride];
    return factor == 0.0F ? 0.0F : x * factor;  // what nobody chose may be infinite
  }
};

struct SoftCap {
  float cap;
  __device__ float operator()(float x, std::int64_t) const { return cap * tanhf(x / cap); }
};

template <typename T, typename F>
void map(const Launch& launch_options, const char* name, void* x, std::int64_t num_elements, F f) {
  if (num_elements == 0) return;
  constexpr std::int64_t kMaxBlocks = 1 << 16;
  const std::int64_t num_blocks = std::min((num_elements + kThreads - 1) / kThreads, kMaxBlocks);
  launch(launch_options, name, map_kernel<T, F>, dim3(static_cast<unsigned>(num_blocks)),
         dim3(kThreads), 0, static_cast<T*>(x), num_elements, f);
}

// One token a warp. Takes the greatest `top_k` times; a taken one is marked in the lanes'
// registers.
__global__ void route_kernel(float* logits, std::int64_t num_tokens, int num_experts, int top_k) {
  allow_next();
  wait_for_inputs();
  constexpr int kPerLane = 1024 / kWarpSize;
  const std::int64_t token =
      (static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x) / kWarpSize;
  if (token >= num_tokens) return;
  const int lane = static_cast<int>(threadIdx.x) % kWarpSize;
  float* row = logits + token * num_experts;
  unsigned taken = 0;  // bit j: expert lane + 32 j
  float greatest = 0.0F;
  float sum = 0.0F;
  for (int k = 0; k < top_k; ++k) {
    float best = -INFINITY;
    int best_expert = num_experts;
    for (int j = 0; j < kPerLane; ++j) {
      const int expert = lane + kWarpSize * j;
      if (expert >= num_experts) break;
      if ((taken >> j & 1U) != 0) continue;
      if (best_expert == num_experts || row[expert] > best) {
        best = row[expert];
        best_expert = expert;
      }
    }
    for (int offset = kWarpSize / 2; offset > 0; offset /= 2) {
      const float other = __shfl_xor_sync(0xffffffffU, best, offset);
      const int other_expert = __shfl_xor_sync(0xffffffffU, best_expert, offset);
      if (other > best || (other == best && other_expert < best_expert)) {
        best = other;
        best_expert = other_expert;
      }
    }
    if (k == 0) greatest = best;
    sum += __expf(best - greatest);
    if (best_expert % kWarpSize == lane) taken |= 1U << (best_expert / kWarpSize);
  }
  for (int j = 0; j < kPerLane; ++j) {
    const int expert = lane + kWarpSize * j;
    if (expert >= num_experts) break;
    row[expert] = (taken >> j & 1U) != 0 ? __expf(row[expert] - greatest) / sum : 0.0F;
  }
}

}  // namespace

void layer_norm(const Launch& launch_options, void* out, const void* x, const float* weight,
                const float* bias, float eps, std::int64_t num_tokens, std::int64_t hidden_size,
                DType dtype) {
  if (num_tokens == 0) return;
  const auto threads = static_cast<unsigned>(std::clamp<std::int64_t>(
      (hidden_size + kWarpSize - 1) / kWarpSize * kWarpSize, kWarpSize, kNormThreads));
  dispatch_float_type(dtype, [&](auto type) {
    using T = decltype(type);
    launch(launch_options, "layer_norm", layer_norm_kernel<T>,
           dim3(static_cast<unsigned>(num_tokens)), dim3(threads), 0, static_cast<T*>(out),
           static_cast<const T*>(x), weight, bias, eps, hidden_size);
  });
}

void norm_heads(const Launch& launch_options, const HeadNorm& args) {
  const std::int64_t num_warps = args.num_tokens * args.num_heads;
  if (num_warps == 0) return;
  constexpr std::int64_t kWarps = kThreads / kWarpSize;
  dispatch_float_type(args.dtype, [&](auto type) {
    using T = decltype(type);
    launch(launch_options, "norm_heads", norm_heads_kernel<T>,
           dim3(static_cast<unsigned>((num_warps + kWarps - 1) / kWarps)), dim3(kThreads), 0, args);
  });
}

void activate(const Launch& launch_options, void* x, std::int64_t num_elements,
              Activation activation, DType dtype) {
  dispatch_float_type(dtype, [&](auto type) {
    map<decltype(type)>(launch_options, "activate", x, num_elements, Activate{activation});
  });
}

void add(const Launch& launch_options, void* out, const void* x, std::int64_t num_elements,
         DType dtype) {
  dispatch_float_type(dtype, [&](auto type) {
    using T = decltype(type);
    map<T>(launch_options, "add", out, num_elements, Add<T>{static_cast<const T*>(x)});
  });
}

void add_rows(const Launch& launch_options, void* out, const void* table, const std::int32_t* rows,
              std::int64_t num_tokens, std::int64_t row_size, DType dtype) {
  dispatch_float_type(dtype, [&](auto type) {
    using T = decltype(type);
    map<T>(launch_options, "add_rows", out, num_tokens * row_size,
           AddRow<T>{static_cast<const T*>(table), rows, row_size});
  });
}

void scale(const Launch& launch_options, void* x, std::int64_t num_elements, float factor,
           DType dtype) {
  dispatch_float_type(dtype, [&](auto type) {
    map<decltype(type)>(launch_options, "scale", x, num_elements, Scale{factor});
  });
}

void scale_rows(const Launch& launch_options, void* x, const float* factors, std::int64_t stride,
                std::int64_t num_tokens, std::int64_t row_size, DType dtype) {
  dispatch_float_type(dtype, [&](auto type) {
    map<decltype(type)>(launch_options, "scale_rows", x, num_tokens * row_size,
                        ScaleRow{factors, stride, row_size});
  });
}

void soft_cap(const Launch& launch_options, float* x, std::int64_t num_elements, float cap) {
  map<float>(launch_options, "soft_cap", x, num_elements, SoftCap{cap});
}

void route_to_experts(const Launch& launch_options, float* logits, std::int64_t num_tokens,
                      std::int64_t num_experts, int top_k) {
  if (num_tokens == 0) return;
  constexpr std::int64_t kWarps = kThreads / kWarpSize;
  launch(launch_options, "route_to_experts", route_kernel,
         dim3(static_cast<unsigned>((num_tokens + kWarps - 1) / kWarps)), dim3(kThreads), 0, logits,
         num_tokens, static_cast<int>(num_experts), top_k);
}

}  // namespace llmrun::kernels
