// Brings a step's inputs to the GPU: one copy from page-locked memory, then one kernel that spreads
// them to fixed places. The host may fill the next step's inputs while earlier ones are on their
// way.
#pragma once

#include <array>
#include <cstdint>
#include <span>

#include <cuda_runtime_api.h>

#include "engine/backend/backend.h"
#include "engine/backend/cuda/cuda_memory.h"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/step_inputs.h"

namespace llmrun {

class StepStaging {
 public:
  struct Limits {
    std::int64_t max_num_tokens = 0;
    std::int64_t max_num_sequences = 0;
    std::int64_t max_num_blocks = 0;  // of one sequence
    std::int64_t max_plan_words = 0;
  };
  StepStaging(kernels::Launch launch, const Limits& limits);
  static std::size_t num_bytes(const Limits& limits);

  // Queues the copy. The inputs may be padded by the caller (pad_step_inputs). `plan`: the
  // attention's work list. The tensors of the result are the fixed places.
  ForwardBatch upload(const StepInputs& inputs, std::span<const std::int32_t> plan,
                      const std::int32_t* feedback_tokens);

  const std::int32_t* plan() const { return spread_.attention_plan; }
  std::int32_t max_num_sequences() const {
    return static_cast<std::int32_t>(limits_.max_num_sequences);
  }

 private:
  static constexpr int kNumSlots = 3;
  struct Slot {
    explicit Slot(std::size_t num_bytes) : memory(num_bytes) {}
    PinnedBuffer memory;
    CudaEvent is_copied;
  };

  kernels::Launch launch_;
  Limits limits_;
  CudaBuffer packed_;  // the copy as it arrives
  CudaBuffer arrays_;  // the fixed places
  kernels::StepArrays spread_{};
  std::array<Slot, kNumSlots> slots_;
  std::size_t next_slot_ = 0;
};

// Appends sequences of one token at position 0 of the reserved block, each with a row of logits,
// until there are `num_sequences`.
void pad_step_inputs(StepInputs& inputs, std::int32_t num_sequences);

}  // namespace llmrun
