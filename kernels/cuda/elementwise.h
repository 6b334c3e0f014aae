// The small operations of a decoder on a GPU. All tensors are contiguous, row-major, of one float
// type `dtype` unless said otherwise; arithmetic is in float. Each is bound by the memory it moves,
// at decode by the launch itself. Shape letters: engine/backend/step_inputs.h.
#pragma once

#include <cstdint>

#include "engine/core/activation.h"
#include "engine/core/dtype.h"
#include "kernels/cuda/launch.h"

namespace llmrun::kernels {

// out[t] = table[rows[t]].  out [T, H], table [V, H], rows [T]. Moves 2 T H elements.
void gather_rows(const Launch& launch, void* out, const void* table, const std::int32_t* rows,
                 std::int64_t num_tokens, std::int64_t row_size, DType dtype);

// out[t] = x[t] / sqrt(mean(x[t]^2) + eps) * weight.  out, x [T, H], weight [H] f32. out may be x.
// The sum's order depends on H only. Moves 2 T H elements.
void rms_norm(const Launch& launch, void* out, const void* x, const float* weight, float eps,
              std::int64_t num_tokens, std::int64_t hidden_size, DType dtype);

// out[t] = (x[t] - mean) / sqrt(variance + eps) * weight + bias, likewise. bias may be null.
void layer_norm(const Launch& launch, void* out, const void* x, const float* weight,
                const float* bias, float eps, std::int64_t num_tokens, std::int64_t hidden_size,
                DType dtype);

// rms_norm of heads [first_head, first_head + num_heads) of each row, each by itself, in place.
//   rows [T, row_size], weight [head_dim] f32
struct HeadNorm {
  void* rows;
  std::int64_t num_tokens;
  std::int64_t row_size;
  std::int64_t first_head;
  std::int64_t num_heads;
  std::int64_t head_dim;
  const float* weight;
  float eps;
  DType dtype;
};
void norm_heads(const Launch& launch, const HeadNorm& args);

// out[t][i] = activation(gate) * up.  out [T, I]; gate_up [T, 2 I] in groups of 16 columns: 8 of
// the gate, then 8 of up (the order of kSiluMul weights). I % 8 == 0. Moves 3 T I elements.
void gate_mul(const Launch& launch, void* out, const void* gate_up, std::int64_t num_tokens,
              std::int64_t intermediate_size, Activation activation, DType dtype);

// x[i] = activation(x[i])
void activate(const Launch& launch, void* x, std::int64_t num_elements, Activation activation,
              DType dtype);
// out[i] += x[i]
void add(const Launch& launch, void* out, const void* x, std::int64_t num_elements, DType dtype);
// out[t] += table[rows[t]].  out [T, H], table [N, H], rows [T]
void add_rows(const Launch& launch, void* out, const void* table, const std::int32_t* rows,
              std::int64_t num_tokens, std::int64_t row_size, DType dtype);
// x[i] *= factor
void scale(const Launch& launch, void* x, std::int64_t num_elements, float factor, DType dtype);
// x[t] *= factors[t * stride].  x [T, I]
void scale_rows(const Launch& launch, void* x, const float* factors, std::int64_t stride,
                std::int64_t num_tokens, std::int64_t row_size, DType dtype);
// x[i] = cap * tanh(x[i] / cap), f32
void soft_cap(const Launch& launch, float* x, std::int64_t num_elements, float cap);
// Of each row of logits [T, experts] f32 the softmax over its `top_k` greatest, 0 for the others,
// in place; of equals the lower index. experts <= 1024.
void route_to_experts(const Launch& launch, float* logits, std::int64_t num_tokens,
                      std::int64_t num_experts, int top_k);

struct RopeAndStore {
  void* qkv;             // [T, (Hq + 2 Hkv) D]; q is rotated in place
  void* key_cache;       // [num_blocks, Hkv, block_size, D] of kv_dtype
  void* value_cache;     // likewise
  const float* cos_sin;  // [max_positions, rotary_dim]: cosines of rotary_dim / 2 angles, then
                         // sines; null: no rotation
  const std::int32_t* positions;     // [T]
  const std::int64_t* slot_mapping;  // [T]
  std::int64_t num_tokens;
  std::int64_t num_query_heads;
  std::int64_t num_kv_heads;
  std::int64_t head_dim;    // % 2 == 0
  std::int64_t rotary_dim;  // % 4 == 0, <= head_dim
  std::int64_t block_size;
  DType dtype;
  DType kv_dtype;
};
// Rotates q in place and writes rotated k, and v, to the cache. Moves about 2 T (Hq + 2 Hkv) D
// elements.
void rope_and_store_kv(const Launch& launch, const RopeAndStore& args);

}  // namespace llmrun::kernels
