#include "tools/report/step_summary.h"

#include <doctest/doctest.h>

namespace llmrun {
namespace {

StepRecord step_at(double time_s, std::int32_t num_decode_sequences, std::int32_t num_prefill = 0) {
  StepRecord step;
  step.submitted_s = time_s;
  step.num_decode_sequences = num_decode_sequences;
  step.num_prefill_tokens = num_prefill;
  step.num_running_sequences = num_decode_sequences;
  step.num_waiting_sequences = 7;
  step.kv_blocks_used = 25;
  return step;
}

}  // namespace

TEST_CASE("a summary of few steps has them all") {
  StepSummary summary;
  CHECK(summary.timeline(0, 1, 100).empty());
  CHECK(summary.decode_batches().empty());
  summary.add(step_at(10, 0, 64));
  summary.add(step_at(11, 3, 16));  // decodes beside a prompt: no decode step
  summary.add(step_at(12, 4));
  summary.add(step_at(13, 4));
  const std::vector<TimelinePoint> timeline = summary.timeline(10, 15, 100);
  REQUIRE(timeline.size() == 5);
  CHECK(timeline[1].time_s == 1);
  CHECK(timeline[1].running == 3);
  CHECK(timeline[1].waiting == 7);
  CHECK(timeline[1].kv_used_percent == 25);
  CHECK(timeline.back().time_s == 5);
  CHECK(timeline.back().running == 0);
  REQUIRE(summary.decode_batches().size() == 1);
  CHECK(summary.decode_batches().front().first == 4);
  CHECK(summary.decode_batches().front().num_steps == 2);
}

TEST_CASE("a summary of many steps keeps their means and counts them all") {
  StepSummary summary;
  constexpr int kSteps = 100'000;
  for (int i = 0; i < kSteps; ++i) summary.add(step_at(i, i < kSteps / 2 ? 10 : 20));
  const std::vector<TimelinePoint> timeline = summary.timeline(0, kSteps, 100);
  CHECK(timeline.size() == kMaxTimelinePoints);
  for (const TimelinePoint& point : timeline) {
    if (point.time_s == kSteps) continue;
    const bool is_middle = point.time_s > 0.48 * kSteps && point.time_s < 0.51 * kSteps;
    if (!is_middle) CHECK(point.running == (point.time_s < 0.5 * kSteps ? 10 : 20));
    CHECK(point.kv_used_percent == doctest::Approx(25));
  }
  std::int64_t num_steps = 0;
  for (const SizeBin& bin : summary.decode_batches()) num_steps += bin.num_steps;
  CHECK(num_steps == kSteps);
}

}  // namespace llmrun
