#include <algorithm>

#include "kernels/cuda/step_inputs.h"

namespace llmrun::kernels {
namespace {

constexpr unsigned kThreads = 256;

template <typename T>
__device__ __forceinline__ void copy(T* out, const T* source, std::int64_t count,
                                     std::int64_t first, std::int64_t stride) {
  for (std::int64_t i = first; i < count; i += stride) out[i] = source[i];
}

__global__ void spread_kernel(StepArrays spread, StepArrays packed, StepCounts counts,
                              const std::int32_t* feedback_tokens) {
  const std::int64_t first = static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  const std::int64_t stride = static_cast<std::int64_t>(gridDim.x) * blockDim.x;
  for (std::int64_t i = first; i < counts.num_tokens; i += stride) {
    const std::int32_t id = packed.token_ids[i];
    spread.token_ids[i] = id < 0 ? feedback_tokens[-1 - id] : id;
    spread.positions[i] = packed.positions[i];
    spread.slot_mapping[i] = packed.slot_mapping[i];
  }
  copy(spread.query_start_loc, packed.query_start_loc, counts.num_sequences + 1, first, stride);
  copy(spread.seq_lens, packed.seq_lens, counts.num_sequences, first, stride);
  copy(spread.logits_indices, packed.logits_indices, counts.num_logits_rows, first, stride);
  copy(spread.attention_plan, packed.attention_plan, counts.num_plan_words, first, stride);
  const std::int64_t num_entries = counts.num_sequences * counts.num_blocks;
  for (std::int64_t i = first; i < num_entries; i += stride) {
    const std::int64_t row = i / counts.num_blocks;
    spread.block_tables[row * counts.max_num_blocks + i % counts.num_blocks] =
        packed.block_tables[i];
  }
}

}  // namespace

void spread_step_inputs(const Launch& launch_options, const StepArrays& spread,
                        const StepArrays& packed, const StepCounts& counts,
                        const std::int32_t* feedback_tokens) {
  const std::int64_t work = std::max({counts.num_tokens, counts.num_sequences * counts.num_blocks,
                                      counts.num_plan_words, counts.num_sequences + 1});
  const auto num_blocks =
      static_cast<unsigned>(std::clamp<std::int64_t>((work + kThreads - 1) / kThreads, 1, 512));
  launch(launch_options, "spread_step_inputs", spread_kernel, dim3(num_blocks), dim3(kThreads), 0,
         spread, packed, counts, feedback_tokens);
}

}  // namespace llmrun::kernels
