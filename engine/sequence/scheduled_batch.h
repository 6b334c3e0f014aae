// What one step computes: the noun that the scheduler and the runner share.
#pragma once

#include <cstdint>
#include <vector>

#include "engine/sequence/sequence.h"

namespace llmrun {

struct ScheduledSequence {
  Sequence* sequence = nullptr;     // not owned; lives until the step is retired
  std::int64_t first_position = 0;  // tokens [first_position, first_position + num_new_tokens)
  std::int32_t num_new_tokens = 0;  // >= 1 for a sequence that runs
  bool samples = false;             // this step closes the gap and chooses the next token
  // Tokens after these that only pad: a static batch computes every row at the length of its
  // longest prompt.
  std::int32_t num_padding_tokens = 0;
};

struct ScheduledBatch {
  std::uint64_t step = 0;  // ascending, from 1
  std::vector<ScheduledSequence> sequences;
  std::int32_t num_tokens = 0;  // sum of num_new_tokens
  std::int32_t num_padding_tokens =
      0;  // computed for nobody: rows of a static batch that ended, and padding
  std::int32_t num_preempted = 0;  // sequences preempted while this step was planned

  bool empty() const { return sequences.empty() && num_padding_tokens == 0; }
};

}  // namespace llmrun
