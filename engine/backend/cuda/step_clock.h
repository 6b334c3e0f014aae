// When the GPU worked on each step: events around its work, read when the step is collected.
#pragma once

#include <array>
#include <cstdint>
#include <memory>

#include <cuda_runtime_api.h>

#include "engine/backend/cuda/cuda_memory.h"
#include "engine/backend/device_report.h"

namespace llmrun {

class StepClock {
 public:
  // `num_padding_rows`: for the report.
  void begin_step(cudaStream_t stream, std::int32_t num_padding_rows);
  void mark_replayed() { current().replayed_graph = true; }
  // May be called again: the last call counts.
  void end_step(cudaStream_t stream) { current().end.record(stream); }
  // The step is collected with this ticket, or a later one of the same step.
  void set_ticket(std::uint64_t ticket) { current().ticket = ticket; }
  // Reads the step whose ticket this is; its work is done.
  void collect(std::uint64_t ticket);
  const StepTiming& last() const { return last_; }

 private:
  struct Step {
    CudaEvent begin{true};
    CudaEvent end{true};
    std::uint64_t ticket = 0;  // 0: none
    bool replayed_graph = false;
    std::int32_t num_padding_rows = 0;
  };
  static constexpr std::size_t kNumSteps = 8;  // more than are ever in flight

  Step& at(std::uint64_t step) { return steps_[step % kNumSteps]; }
  Step& current() { return at(num_steps_ - 1); }

  std::array<Step, kNumSteps> steps_;
  std::uint64_t num_steps_ = 0;
  StepTiming last_;
};

}  // namespace llmrun
