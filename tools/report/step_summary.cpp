#include "tools/report/step_summary.h"

#include <algorithm>

namespace llmrun {
namespace {

constexpr std::size_t kMaxMoments = 32 * kMaxTimelinePoints;

}  // namespace

void StepSummary::Moment::add(const Moment& other) {
  const auto before = static_cast<double>(num_steps);
  const auto more = static_cast<double>(other.num_steps);
  const auto mean = [&](double a, double b) { return (a * before + b * more) / (before + more); };
  if (num_steps == 0) time_s = other.time_s;
  running = mean(running, other.running);
  waiting = mean(waiting, other.waiting);
  kv_blocks_used = mean(kv_blocks_used, other.kv_blocks_used);
  num_steps += other.num_steps;
}

void StepSummary::add(const StepRecord& step) {
  if (step.num_decode_sequences > 0 && !step.has_prefill()) {
    num_steps_of_[step.num_decode_sequences] += 1;
  }
  if (moments_.empty() || moments_.back().num_steps == steps_a_moment_) {
    if (moments_.size() == kMaxMoments) halve();
    moments_.emplace_back();
  }
  moments_.back().add({.time_s = step.submitted_s,
                       .running = static_cast<double>(step.num_running_sequences),
                       .waiting = static_cast<double>(step.num_waiting_sequences),
                       .kv_blocks_used = static_cast<double>(step.kv_blocks_used),
                       .num_steps = 1});
}

void StepSummary::halve() {
  for (std::size_t i = 0; i < moments_.size() / 2; ++i) {
    Moment both = moments_[2 * i];
    both.add(moments_[2 * i + 1]);
    moments_[i] = both;
  }
  moments_.resize(moments_.size() / 2);
  steps_a_moment_ *= 2;
}

std::vector<TimelinePoint> StepSummary::timeline(double start_s, double end_s,
                                                 std::int64_t num_kv_blocks) const {
  std::vector<TimelinePoint> points;
  const auto num_blocks = static_cast<double>(std::max<std::int64_t>(num_kv_blocks, 1));
  for (const Moment& moment : moments_) {
    points.push_back({.time_s = moment.time_s - start_s,
                      .running = moment.running,
                      .waiting = moment.waiting,
                      .kv_used_percent = 100 * moment.kv_blocks_used / num_blocks});
  }
  if (!points.empty()) points.push_back({.time_s = end_s - start_s});
  return thinned_timeline(points);
}

}  // namespace llmrun
