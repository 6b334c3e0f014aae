// The element types and head sizes that the tiled attention kernels are compiled for.
#pragma once

#include <type_traits>
#include <utility>

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include "engine/core/error.h"
#include "kernels/cuda/attention.h"

namespace llmrun::kernels {

template <typename T, typename F>
void dispatch_head_dim(int head_dim, F&& f) {
  switch (head_dim) {
    case 64: f(T{}, std::integral_constant<int, 64>{}); return;
    case 80: f(T{}, std::integral_constant<int, 80>{}); return;
    case 96: f(T{}, std::integral_constant<int, 96>{}); return;
    case 128: f(T{}, std::integral_constant<int, 128>{}); return;
    case 256: f(T{}, std::integral_constant<int, 256>{}); return;
    default: throw Error(ErrorKind::kInternal, "tiled attention: head size");
  }
}

// Calls f(element type's value, integral_constant of the head size).
template <typename F>
void dispatch_tiled(const AttentionShape& shape, F&& f) {
  if (!has_tiled_attention(shape)) throw Error(ErrorKind::kInternal, "tiled attention: shape");
  if (shape.dtype == DType::kBf16) {
    dispatch_head_dim<__nv_bfloat16>(shape.head_dim, std::forward<F>(f));
  } else {
    dispatch_head_dim<__half>(shape.head_dim, std::forward<F>(f));
  }
}

// Decode's half of prepare_tiled_attention.
int prepare_decode_attention(const AttentionShape& shape);

}  // namespace llmrun::kernels
