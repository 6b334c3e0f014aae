#include "engine/core/random.h"
#include "kernels/cuda/element.cuh"
#include "kernels/cuda/weights.h"

namespace llmrun::kernels {
namespace {

constexpr unsigned kThreads = 256;
constexpr std::int64_t kInterleave = 8;

dim3 grid_of(std::int64_t num_threads) {
  constexpr std::int64_t kMaxBlocks = 1 << 16;  // the kernels stride over the rest
  const std::int64_t num_blocks = (num_threads + kThreads - 1) / kThreads;
  return dim3(static_cast<unsigned>(num_blocks < kMaxBlocks ? num_blocks : kMaxBlocks));
}

__device__ __forceinline__ std::int64_t first_index() {
  return static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
}
__device__ __forceinline__ std::int64_t stride() {
  return static_cast<std::int64_t>(gridDim.x) * blockDim.x;
}

template <typename Out, typename In>
__global__ void convert_kernel(Out* out, const In* source, std::int64_t num_elements) {
  for (std::int64_t i = first_index(); i < num_elements; i += stride()) {
    out[i] = from_float<Out>(to_float(source[i]));
  }
}

template <typename Out, typename In>
__global__ void interleave_kernel(Out* out, const In* source, std::int64_t first_row,
                                  std::int64_t num_elements, std::int64_t num_columns, int half) {
  for (std::int64_t i = first_index(); i < num_elements; i += stride()) {
    const std::int64_t row = first_row + i / num_columns;
    const std::int64_t column = i % num_columns;
    const std::int64_t out_row =
        row / kInterleave * 2 * kInterleave + half * kInterleave + row % kInterleave;
    out[out_row * num_columns + column] = from_float<Out>(to_float(source[i]));
  }
}

// Two numbers a thread.
template <typename T>
__global__ void fill_normal_kernel(T* out, std::int64_t num_elements, float stddev,
                                   std::uint64_t seed) {
  const std::int64_t num_pairs = (num_elements + 1) / 2;
  for (std::int64_t pair = first_index(); pair < num_pairs; pair += stride()) {
    const std::uint64_t bits = mix64(mix64(seed) + static_cast<std::uint64_t>(pair));
    const float u = (static_cast<float>(bits >> 40) + 0.5F) * 0x1p-24F;
    const float angle = static_cast<float>((bits >> 8) & 0xffffffU) * 0x1p-23F;  // in units of pi
    const float radius = stddev * sqrtf(-2.0F * logf(u));
    float sine;
    float cosine;
    sincospif(angle, &sine, &cosine);
    out[2 * pair] = from_float<T>(radius * cosine);
    if (2 * pair + 1 < num_elements) out[2 * pair + 1] = from_float<T>(radius * sine);
  }
}

// Calls f(Out{}, In{}).
template <typename F>
void dispatch_pair(DType out_dtype, DType source_dtype, F&& f) {
  dispatch_float_type(out_dtype, [&](auto out_type) {
    dispatch_float_type(source_dtype, [&](auto in_type) { f(out_type, in_type); });
  });
}

}  // namespace

void convert_elements(const Launch& launch_options, void* out, DType out_dtype, const void* source,
                      DType source_dtype, std::int64_t num_elements) {
  if (num_elements == 0) return;
  dispatch_pair(out_dtype, source_dtype, [&](auto out_type, auto in_type) {
    using Out = decltype(out_type);
    using In = decltype(in_type);
    launch(launch_options, "convert_elements", convert_kernel<Out, In>, grid_of(num_elements),
           dim3(kThreads), 0, static_cast<Out*>(out), static_cast<const In*>(source), num_elements);
  });
}

void interleave_rows(const Launch& launch_options, void* out, DType out_dtype, const void* source,
                     DType source_dtype, std::int64_t first_row, std::int64_t num_rows,
                     std::int64_t num_columns, int half) {
  if (num_rows == 0) return;
  dispatch_pair(out_dtype, source_dtype, [&](auto out_type, auto in_type) {
    using Out = decltype(out_type);
    using In = decltype(in_type);
    launch(launch_options, "interleave_rows", interleave_kernel<Out, In>,
           grid_of(num_rows * num_columns), dim3(kThreads), 0, static_cast<Out*>(out),
           static_cast<const In*>(source), first_row, num_rows * num_columns, num_columns, half);
  });
}

void fill_normal(const Launch& launch_options, void* out, DType dtype, std::int64_t num_elements,
                 float stddev, std::uint64_t seed) {
  if (num_elements == 0) return;
  dispatch_float_type(dtype, [&](auto type) {
    using T = decltype(type);
    launch(launch_options, "fill_normal", fill_normal_kernel<T>, grid_of((num_elements + 1) / 2),
           dim3(kThreads), 0, static_cast<T*>(out), num_elements, stddev, seed);
  });
}

}  // namespace llmrun::kernels
