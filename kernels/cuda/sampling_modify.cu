// Masks, biases and penalties, in the order of engine/backend/sampling_batch.h.
#include <algorithm>

#include "kernels/cuda/sampling.h"
#include "kernels/cuda/sampling_row.cuh"

namespace llmrun::kernels {
namespace {

// PenaltyState::apply for one token.
__device__ __forceinline__ float penalize(const SamplingRowParams& params, std::uint32_t state,
                                          float logit) {
  if (state == 0) return logit;
  logit = logit > 0.0F ? __fdiv_rn(logit, params.repetition_penalty)
                       : __fmul_rn(logit, params.repetition_penalty);
  const auto count = static_cast<std::int32_t>(state & ~kSamplingInPrompt);
  if (count == 0) return logit;
  logit = __fmaf_rn(-params.frequency_penalty, static_cast<float>(count), logit);
  return __fsub_rn(logit, params.presence_penalty);
}

// Logits [first, first + 4) of a row; few rows are not aligned to 16 bytes.
__device__ __forceinline__ float4 load_logits(const float* row, std::int32_t first) {
  if (reinterpret_cast<std::uintptr_t>(row) % 16 == 0) {
    return *reinterpret_cast<const float4*>(row + first);
  }
  return make_float4(row[first], row[first + 1], row[first + 2], row[first + 3]);
}

__global__ void __launch_bounds__(kSamplingThreads)
    copy_kernel(const SamplingBatch batch, const SamplingRows rows) {
  wait_for_inputs();
  const std::int64_t row = row_index(rows);
  const SamplingRowParams& params = batch.rows[row];
  const float* logits = batch.logits + row * batch.row_stride;
  float* out =
      batch.workspace.modified_logits + params.modified_row * batch.workspace.modified_stride;
  const auto changed = [&](float x, std::uint32_t state) {
    return penalize(params, state, params.has_allow_list != 0 ? minus_infinity() : x);
  };
  const std::uint32_t* state = params.penalty_state;
  const auto size = static_cast<std::int32_t>(batch.vocab_size);
  const auto thread = static_cast<std::int32_t>(blockIdx.x * kSamplingThreads + threadIdx.x);
  const auto stride = static_cast<std::int32_t>(gridDim.x * kSamplingThreads);
#pragma unroll 2
  for (std::int32_t v = thread; v < size / 4; v += stride) {
    const float4 x = load_logits(logits, 4 * v);
    uint4 seen = make_uint4(0, 0, 0, 0);
    if (state != nullptr) seen = *reinterpret_cast<const uint4*>(state + 4 * v);
    *reinterpret_cast<float4*>(out + 4 * v) = make_float4(
        changed(x.x, seen.x), changed(x.y, seen.y), changed(x.z, seen.z), changed(x.w, seen.w));
  }
  const std::int32_t left = size / 4 * 4 + thread;
  if (left < size) out[left] = changed(logits[left], state != nullptr ? state[left] : 0);
}

// Tokens that edits name, from the row as the model gave it. One thread makes all edits of a token.
__global__ void __launch_bounds__(kSamplingThreads)
    edit_kernel(const SamplingBatch batch, const SamplingRows rows) {
  wait_for_inputs();
  const std::int64_t row = row_index(rows);
  const SamplingRowParams& params = batch.rows[row];
  float* out =
      batch.workspace.modified_logits + params.modified_row * batch.workspace.modified_stride;
  const SamplingEdit* edits = batch.edits + params.edits_begin;
  for (int i = threadIdx.x; i < params.num_edits; i += kSamplingThreads) {
    const std::int32_t token = edits[i].token;
    if (i > 0 && edits[i - 1].token == token) continue;
    float x = batch.logits[row * batch.row_stride + token];
    if (params.has_allow_list != 0 && edits[i].kind != SamplingEdit::kAllow) x = minus_infinity();
    for (int e = i; e < params.num_edits && edits[e].token == token; ++e) {
      if (edits[e].kind == SamplingEdit::kBan) x = minus_infinity();
      if (edits[e].kind == SamplingEdit::kBias) x = __fadd_rn(x, edits[e].bias);
    }
    if (params.penalty_state != nullptr) x = penalize(params, params.penalty_state[token], x);
    out[token] = x;
  }
}

__global__ void count_kernel(std::uint32_t* state, const std::int32_t* tokens,
                             std::int64_t num_prompt, std::int64_t num_tokens) {
  const std::int64_t stride = static_cast<std::int64_t>(gridDim.x) * blockDim.x;
  for (std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
       i < num_tokens; i += stride) {
    if (i < num_prompt) {
      atomicOr(state + tokens[i], kSamplingInPrompt);
    } else {
      atomicAdd(state + tokens[i], 1U);
    }
  }
}

}  // namespace

void sampling_modify(const Launch& launch_options, const SamplingBatch& batch,
                     const SamplingRows& rows, bool any_edits) {
  if (rows.count == 0) return;
  const SamplingSplit split =
      split_rows(rows.count, batch.vocab_size, batch.num_multiprocessors, kSamplingThreads);
  launch(launch_options, "sampling_modify", copy_kernel,
         dim3(split.num_splits, static_cast<unsigned>(rows.count)), dim3(kSamplingThreads), 0,
         batch, rows);
  if (!any_edits) return;
  launch(launch_options, "sampling_edits", edit_kernel, dim3(1, static_cast<unsigned>(rows.count)),
         dim3(kSamplingThreads), 0, batch, rows);
}

void sampling_count_tokens(const Launch& launch_options, std::uint32_t* penalty_state,
                           const std::int32_t* tokens, std::int64_t num_prompt,
                           std::int64_t num_tokens) {
  if (num_tokens == 0) return;
  const std::int64_t num_blocks =
      std::min<std::int64_t>((num_tokens + kSamplingThreads - 1) / kSamplingThreads, 128);
  launch(launch_options, "sampling_count_tokens", count_kernel,
         dim3(static_cast<unsigned>(num_blocks)), dim3(kSamplingThreads), 0, penalty_state, tokens,
         num_prompt, num_tokens);
}

}  // namespace llmrun::kernels
