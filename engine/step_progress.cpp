#include "engine/step_progress.h"

#include <algorithm>
#include <chrono>
#include <limits>

namespace llmrun {
namespace {

constexpr double kFirstStepFactor = 10;

std::int64_t steady_ns() {
  return std::chrono::nanoseconds(std::chrono::steady_clock::now().time_since_epoch()).count();
}

}  // namespace

void StepProgress::begin() {
  if (began_ns_ == 0) began_ns_ = steady_ns();
}

void StepProgress::end() {
  if (began_ns_.exchange(0) != 0) ++num_ended_;
}

StepProgress::State StepProgress::state() const {
  State state{.num_ended = num_ended_};
  if (const std::int64_t began_ns = began_ns_; began_ns != 0) {
    state.seconds = std::max(1e-9 * static_cast<double>(steady_ns() - began_ns), 1e-9);
  }
  return state;
}

double step_limit_s(const StepProgress::State& state, double timeout_s) {
  if (timeout_s <= 0) return std::numeric_limits<double>::infinity();
  return state.num_ended == 0 ? kFirstStepFactor * timeout_s : timeout_s;
}

}  // namespace llmrun
