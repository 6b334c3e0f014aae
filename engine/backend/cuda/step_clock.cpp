#include "engine/backend/cuda/step_clock.h"

#include <algorithm>

#include "kernels/cuda/check.h"

namespace llmrun {
namespace {

double seconds_between(const CudaEvent& begin, const CudaEvent& end) {
  float milliseconds = 0;
  kernels::check_cuda(cudaEventElapsedTime(&milliseconds, begin.get(), end.get()),
                      "cudaEventElapsedTime");
  return static_cast<double>(milliseconds) / 1000.0;
}

}  // namespace

void StepClock::begin_step(cudaStream_t stream, std::int32_t num_padding_rows) {
  ++num_steps_;
  Step& step = current();
  step.ticket = 0;
  step.replayed_graph = false;
  step.num_padding_rows = num_padding_rows;
  step.begin.record(stream);
  step.end.record(stream);
}

void StepClock::collect(std::uint64_t ticket) {
  const std::uint64_t oldest = num_steps_ > kNumSteps - 1 ? num_steps_ - (kNumSteps - 1) : 0;
  for (std::uint64_t i = num_steps_; i-- > oldest;) {
    const Step& step = at(i);
    if (step.ticket != ticket) continue;
    // The end may stand behind the copy that collect waited for.
    step.end.wait();
    last_.busy_seconds = seconds_between(step.begin, step.end);
    last_.idle_seconds = i == 0 ? 0.0 : std::max(0.0, seconds_between(at(i - 1).end, step.begin));
    last_.replayed_graph = step.replayed_graph;
    last_.num_padding_rows = step.num_padding_rows;
    return;
  }
}

}  // namespace llmrun
