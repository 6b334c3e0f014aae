// How long one call of an operation takes.
//
// Calls rotate over copies of what they read, so that the caches are as cold as in a model, where
// each layer has its own weights.
#pragma once

#include <cstdint>
#include <functional>

#include "engine/backend/backend.h"

namespace llmrun {

struct Timing {
  double median_s = 0;
  double best_s = 0;
};

// Calls the operation on copy `copy` within the step `batch`.
using Call = std::function<void(const ForwardBatch& batch, std::int64_t copy)>;

// For a backend whose operations are complete when they return: call by call by the host's clock,
// after one call for each copy as warm-up.
Timing time_calls(Backend& backend, const StepInputs& step, std::int64_t num_copies, double seconds,
                  const Call& call);

// For a backend that queues its work: many calls are one step, as the layers of a model are, and
// the device's own clock tells how long the step took. A decode step is recorded as a graph and
// replayed; the next step is queued while one runs, so that the device waits for nobody. Calls
// that follow each other may overlap as far as the backend lets them. `shortest_call_s`: the least
// that a call may take, by which their number is chosen. prepare() must have been called since
// another operation was timed: graphs are kept by the size of their step.
Timing time_steps(Backend& backend, const StepInputs& step, std::int64_t num_copies, double seconds,
                  double shortest_call_s, const Call& call);

}  // namespace llmrun
