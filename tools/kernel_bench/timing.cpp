#include "tools/kernel_bench/timing.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <vector>

namespace llmrun {
namespace {

using Clock = std::chrono::steady_clock;

constexpr std::size_t kFewestTimes = 5;

// A step of this length makes what happens between steps, the copy of its inputs and the start of
// a graph, less than a hundredth.
constexpr double kStepSeconds = 5e-3;
// No kernel is shorter; bounds the number of calls in a graph.
constexpr double kShortestCallSeconds = 3e-6;

double elapsed(Clock::time_point since) {
  return std::chrono::duration<double>(Clock::now() - since).count();
}

Timing summarise(std::vector<double>& times) {
  const auto middle = times.begin() + static_cast<std::ptrdiff_t>(times.size() / 2);
  std::nth_element(times.begin(), middle, times.end());
  return {.median_s = *middle, .best_s = *std::min_element(times.begin(), times.end())};
}

}  // namespace

Timing time_calls(Backend& backend, const StepInputs& step, std::int64_t num_copies, double seconds,
                  const Call& call) {
  const ForwardBatch batch = backend.upload(step);
  for (std::int64_t i = 0; i < num_copies; ++i) call(batch, i);
  std::vector<double> times;
  const Clock::time_point start = Clock::now();
  for (std::int64_t i = 0; times.size() < kFewestTimes || elapsed(start) < seconds; ++i) {
    const Clock::time_point begin = Clock::now();
    call(batch, i % num_copies);
    times.push_back(elapsed(begin));
  }
  return summarise(times);
}

Timing time_steps(Backend& backend, const StepInputs& step, std::int64_t num_copies, double seconds,
                  double shortest_call_s, const Call& call) {
  const double wanted_calls = kStepSeconds / std::max(shortest_call_s, kShortestCallSeconds);
  const auto rounds =
      static_cast<std::int64_t>(std::ceil(wanted_calls / static_cast<double>(num_copies)));
  const std::int64_t num_calls = rounds * num_copies;
  const auto submit = [&] {
    const ForwardBatch batch = backend.upload(step);
    backend.execute(batch, [&] {
      for (std::int64_t i = 0; i < num_calls; ++i) call(batch, i % num_copies);
    });
    // No rows: the ticket only tells when the step is done.
    return backend.sample(Tensor(nullptr, DType::kF32, {0, 1}), {}, 1);
  };
  // The first loads kernels and records the graph, the second is the first replay.
  for (int i = 0; i < 2; ++i) backend.collect(submit());
  std::vector<double> times;
  const Clock::time_point start = Clock::now();
  std::uint64_t running = submit();
  while (times.size() < kFewestTimes || elapsed(start) < seconds) {
    const std::uint64_t next = submit();
    backend.collect(running);
    times.push_back(backend.last_step_timing().busy_seconds / static_cast<double>(num_calls));
    running = next;
  }
  backend.collect(running);
  return summarise(times);
}

}  // namespace llmrun
