// StepProgress: whether the steps of an engine get on. Who makes the steps tells when one begins
// and ends; any thread may look. What follows from one that takes too long is the matter of who
// looks.
#pragma once

#include <atomic>
#include <cstdint>

namespace llmrun {

class StepProgress {
 public:
  struct State {
    std::int64_t num_ended = 0;
    double seconds = 0;      // since the step under way began; 0: none is
    std::uint64_t work = 0;  // changes within a step, where the device tells (Backend::progress())
  };

  // Nothing changes when a step is under way already.
  void begin();
  // Nothing changes when none is.
  void end();
  State state() const;

 private:
  std::atomic<std::int64_t> num_ended_ = 0;
  std::atomic<std::int64_t> began_ns_ = 0;  // on the steady clock; 0: none is under way
};

// --stall-timeout of every command that has it.
inline constexpr double kStallTimeoutSeconds = 60.0;

// How long the step under way may take: `timeout_s` (0: any time), and ten times as long for the
// first, in which much happens that happens once.
double step_limit_s(const StepProgress::State& state, double timeout_s);

}  // namespace llmrun
