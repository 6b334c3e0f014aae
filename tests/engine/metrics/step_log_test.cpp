#include "engine/metrics/step_log.h"

#include <doctest/doctest.h>

#include "engine/metrics/engine_stats.h"

namespace llmrun {

TEST_CASE("a step is described by its plan") {
  Sequence prompt(
      {.id = 1, .prompt_token_ids = std::vector<TokenId>(10, 1), .max_output_tokens = 5});
  Sequence running(
      {.id = 2, .prompt_token_ids = std::vector<TokenId>(7, 1), .max_output_tokens = 5});
  ScheduledBatch batch;
  batch.step = 12;
  batch.num_padding_tokens = 3;
  batch.sequences = {
      {.sequence = &prompt, .first_position = 4, .num_new_tokens = 3},
      {.sequence = &running, .first_position = 8, .num_new_tokens = 1, .samples = true}};
  const StepRecord record = describe_step(batch);
  CHECK(record.step == 12);
  CHECK(record.num_prefill_tokens == 3);
  CHECK(record.num_prefill_context_tokens == 5 + 6 + 7);
  CHECK(record.num_prefill_past_tokens == 4);
  CHECK(record.num_decode_sequences == 1);
  CHECK(record.num_decode_context_tokens == 9);
  CHECK(record.num_sampled_rows == 1);
  CHECK(record.num_padding_tokens == 3);
  CHECK(record.num_tokens() == 4);
  CHECK(record.num_kv_tokens == 7 + 9);
}

TEST_CASE("the last token of a prompt alone is prefill") {
  Sequence prompt(
      {.id = 1, .prompt_token_ids = std::vector<TokenId>(10, 1), .max_output_tokens = 5});
  ScheduledBatch batch;
  batch.sequences = {
      {.sequence = &prompt, .first_position = 9, .num_new_tokens = 1, .samples = true}};
  CHECK(describe_step(batch).num_prefill_tokens == 1);
  CHECK(describe_step(batch).num_decode_sequences == 0);
}

TEST_CASE("step times add up to the run's") {
  std::vector<StepRecord> steps(3);
  steps[0].collected_s = 2.5;
  steps[1].collected_s = 3.0;
  steps[2].collected_s = 4.0;
  CHECK(step_seconds(steps, 2.0) == std::vector<double>{0.5, 0.5, 1.0});
}

TEST_CASE("statistics since a moment") {
  EngineStats before;
  before.num_steps = 4;
  before.kv_blocks_used = 9;
  EngineStats now = before;
  now.num_steps = 10;
  now.kv_blocks_used = 2;
  CHECK(now.since(before).num_steps == 6);
  CHECK(now.since(before).kv_blocks_used == 2);
}

}  // namespace llmrun
