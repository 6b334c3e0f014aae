// What LlmEngine records of its steps and tokens.
#include <doctest/doctest.h>

#include "tests/engine/top/test_engine.h"

namespace llmrun {
namespace {

using testing::make_prompt;
using testing::TestEngine;
using testing::TestEngineOptions;

std::vector<EngineRequest> make_requests() {
  std::vector<EngineRequest> requests;
  for (std::uint64_t i = 0; i < 12; ++i) {
    EngineRequest request;
    request.prompt_token_ids = make_prompt(i, 5 + 9 * i);
    request.params.ignore_eos = true;
    request.params.max_tokens = static_cast<std::int32_t>(3 + i);
    requests.push_back(std::move(request));
  }
  return requests;
}

void check_records(const TestEngineOptions& options) {
  TestEngine engine(options);
  std::vector<StepRecord> steps;
  engine->record_steps([&steps](const StepRecord& step) { steps.push_back(step); });
  engine->record_token_times(true);
  const EngineStats before = engine->stats();
  const double start_s = engine->now();
  const std::vector<RequestOutput> outputs = engine.run(make_requests());
  const double end_s = engine->now();
  const EngineStats stats = engine->stats().since(before);
  engine->record_steps({});
  engine->record_token_times(false);

  REQUIRE(std::ssize(steps) == stats.num_steps);
  std::int64_t num_tokens = 0, num_padding_tokens = 0, num_sampled = 0;
  double last_s = start_s;
  for (const StepRecord& step : steps) {
    num_tokens += step.num_tokens();
    num_padding_tokens += step.num_padding_tokens;
    num_sampled += step.num_sampled_rows;
    CHECK(step.submitted_s >= start_s);
    CHECK(step.collected_s > step.submitted_s);
    CHECK(step.collected_s > last_s);
    CHECK(step.kv_blocks_used > 0);
    last_s = step.collected_s;
  }
  CHECK(last_s <= end_s);
  CHECK(num_tokens == stats.num_batched_tokens);
  CHECK(num_padding_tokens == stats.num_padding_tokens);
  CHECK(num_sampled >= stats.num_output_tokens);
  for (const RequestOutput& output : outputs) {
    const CompletionOutput& completion = output.outputs.at(0);
    REQUIRE(completion.token_times_s.size() == completion.token_ids.size());
    CHECK(completion.token_times_s.front() == output.timings.first_token);
    CHECK(std::is_sorted(completion.token_times_s.begin(), completion.token_times_s.end()));
  }
}

}  // namespace

TEST_CASE("every step and token is recorded once") {
  SUBCASE("continuous") {
    check_records({});
  }
  SUBCASE("one step ahead") {
    check_records({.steps_ahead = 1, .late_backend = true});
  }
  SUBCASE("static") {
    check_records({.is_static = true, .block_size = 200, .num_blocks = 8});
  }
  SUBCASE("with preemption") {
    check_records({.num_blocks = 20});
  }
}

TEST_CASE("nothing is recorded unless asked for, and a second run has a log of its own") {
  TestEngine engine({});
  CHECK(engine.run(make_requests()).front().outputs.at(0).token_times_s.empty());
  for (int run = 0; run < 2; ++run) {
    std::vector<StepRecord> steps;
    engine->record_steps([&steps](const StepRecord& step) { steps.push_back(step); });
    engine.run(make_requests());
    engine->record_steps({});
    CHECK(!steps.empty());
    CHECK(steps.back().collected_s > 0);
  }
  CHECK(engine.run(make_requests()).front().outputs.at(0).token_times_s.empty());
}

TEST_CASE("a prefix cache that was reset is cold") {
  TestEngine engine({.prefix_caching = true});
  engine.run(make_requests());
  const EngineStats before = engine->stats();
  engine->reset_prefix_cache();
  engine.run(make_requests());
  CHECK(engine->stats().since(before).prefix_hit_tokens == 0);
  engine.run(make_requests());
  CHECK(engine->stats().since(before).prefix_hit_tokens > 0);
}

TEST_CASE("the device's limits") {
  TestEngine engine({});
  const DeviceLimits limits = engine->measure_limits(DType::kBf16);
  CHECK(limits.read_bytes_per_second > 1e6);
  CHECK(limits.multiply_flops_per_second > 1e6);
  CHECK(limits.multiply_dtype == "bfloat16");
  CHECK(engine->measure_limits(DType::kF32).multiply_dtype == "float32");
}

}  // namespace llmrun
