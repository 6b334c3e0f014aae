// Scheduler: decides what the next step computes. Owns who runs, who waits and who gives way; owns
// no sequence and runs nothing. Single-threaded.
//
// The caller's loop, with `steps_ahead` steps in flight at most:
//   batch = schedule();  submit(batch);  ...  tokens = collect(oldest batch);
//   retire(oldest batch);  resolve_pending / finish its sequences.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "engine/sequence/scheduled_batch.h"

namespace llmrun {

struct SchedulerStats {
  std::int32_t num_running = 0;
  std::int32_t num_waiting = 0;
  std::int64_t num_preemptions = 0;
  std::int64_t num_recomputed_tokens = 0;  // computed before, lost by preemption, computed again
};

class Scheduler {
 public:
  virtual ~Scheduler() = default;

  // Takes a waiting sequence, which must outlive finish(). Order of calls is order of arrival.
  // REQUIRES: can_ever_fit(its prompt + max_output_tokens), and an id above those of all before it.
  virtual void add(Sequence& sequence) = 0;

  // Whether a sequence that grows to `num_tokens` tokens could run if it were alone.
  virtual bool can_ever_fit(std::int64_t num_tokens) const = 0;

  // Plans a step. Empty when nothing can be planned before a step in flight is retired, or nothing
  // is left.
  virtual ScheduledBatch schedule() = 0;

  // The step's keys and values are written and its tokens are on the host: its blocks may be shared
  // through the prefix cache, and blocks that only waited for it return to the pool.
  // Steps are retired in the order they were scheduled.
  virtual void retire(const ScheduledBatch& batch) = 0;

  // The sequence has ended or is cancelled, whatever its state; idempotent. Its blocks return to
  // the pool once no step in flight names them. Its status becomes kFinished; the caller may
  // destroy it when num_steps_in_flight is 0.
  virtual void finish(Sequence& sequence) = 0;

  virtual bool has_unfinished() const = 0;
  virtual SchedulerStats stats() const = 0;

  // The first thing that is wrong with queues, slots, tables and blocks, or nothing. O(all), for
  // checks when idle and for tests.
  virtual std::optional<std::string> check_integrity() const = 0;
};

}  // namespace llmrun
