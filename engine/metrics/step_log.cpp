#include "engine/metrics/step_log.h"

namespace llmrun {

StepRecord describe_step(const ScheduledBatch& batch) {
  StepRecord record;
  record.step = batch.step;
  record.num_padding_tokens = batch.num_padding_tokens;
  for (const ScheduledSequence& scheduled : batch.sequences) {
    const std::int64_t past = scheduled.first_position;
    const std::int64_t count = scheduled.num_new_tokens;
    const bool is_decode = count == 1 && past >= scheduled.sequence->num_prompt_tokens();
    if (is_decode) {
      record.num_decode_sequences += 1;
      record.num_decode_context_tokens += past + 1;
    } else {
      record.num_prefill_tokens += scheduled.num_new_tokens;
      record.num_prefill_context_tokens += count * past + count * (count + 1) / 2;
      record.num_prefill_past_tokens += past;
    }
    record.num_sampled_rows += scheduled.samples ? 1 : 0;
    record.num_kv_tokens += past + count;
  }
  return record;
}

std::vector<double> step_seconds(const std::vector<StepRecord>& steps, double start_s) {
  std::vector<double> seconds;
  seconds.reserve(steps.size());
  for (const StepRecord& step : steps) {
    seconds.push_back(step.collected_s - start_s);
    start_s = step.collected_s;
  }
  return seconds;
}

}  // namespace llmrun
