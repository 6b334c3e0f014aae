// StepSummary: what the steps of a run say of it, taken up as they come, in bounded memory.
#pragma once

#include <cstdint>
#include <map>
#include <vector>

#include <nlohmann/json.hpp>

#include "engine/metrics/step_log.h"
#include "tools/report/run_timeline.h"

namespace llmrun {

class StepSummary {
 public:
  void add(const StepRecord& step);

  // Sequences that ran and waited and the KV cache in use, from `start_s` to `end_s` on the
  // engine's clock; nothing when there was no step.
  std::vector<TimelinePoint> timeline(double start_s, double end_s,
                                      std::int64_t num_kv_blocks) const;
  // Sequences in each decode step; steps that also compute prompts are left out.
  std::vector<SizeBin> decode_batches() const { return size_histogram(num_steps_of_); }

 private:
  // The mean of some steps that follow each other.
  struct Moment {
    double time_s = 0;  // of the first
    double running = 0;
    double waiting = 0;
    double kv_blocks_used = 0;
    std::int64_t num_steps = 0;

    void add(const Moment& other);
  };
  void halve();

  std::vector<Moment> moments_;      // all but the last of steps_a_moment_ steps
  std::int64_t steps_a_moment_ = 1;  // doubled whenever there are too many of them
  std::map<std::int32_t, std::int64_t> num_steps_of_;  // decode steps by their size
};

}  // namespace llmrun
