#include <cmath>
#include <cstring>

#include <fmt/format.h>

#include "engine/core/counted.h"
#include "engine/core/version.h"
#include "tools/serve_bench/serving_report.h"

namespace llmrun {
namespace {

constexpr double kLeastRateShare = 0.98;
constexpr double kShortRunSeconds = 30;
constexpr double kLeastSteadyShare = 0.5;

class Checks {
 public:
  // Records `failed` when the message is not empty, else that all is well.
  void add(const char* name, CheckStatus failed, std::string message) {
    const CheckStatus status = message.empty() ? CheckStatus::kOk : failed;
    checks_.push_back({"", name, status, std::move(message)});
  }
  std::vector<Check> take() { return std::move(checks_); }

 private:
  std::vector<Check> checks_;
};

std::string slow_client(const ServingPoint& point) {
  const ServingMetrics& metrics = point.metrics;
  // Where concurrency is bounded, being late is the target's doing.
  if (metrics.scheduled_rate <= 0 || point.max_concurrency > 0) return "";
  if (metrics.sent_rate >= kLeastRateShare * metrics.scheduled_rate) return "";
  return fmt::format("{:.2f} requests/s were sent, {:.2f} were scheduled", metrics.sent_rate,
                     metrics.scheduled_rate);
}

std::string unsure_percentiles(const ServingMetrics& metrics) {
  std::string names;
  for (const PercentileEstimate& one : metrics.latency("ttft").percentiles) {
    if (!std::isinf(one.high)) continue;
    names += fmt::format("{}P{:g}", names.empty() ? "" : ", ", one.percentile);
  }
  return names.empty()
             ? ""
             : fmt::format("{} too few for {}",
                           counted(metrics.num_completed, "request is", "requests are"), names);
}

}  // namespace

std::vector<Check> check_serving(const ServingPoint& point, bool ignores_eos, bool is_closed_loop) {
  const ServingMetrics& metrics = point.metrics;
  Checks checks;
  checks.add("failed_requests", CheckStatus::kInvalid,
             metrics.num_failed == 0
                 ? ""
                 : fmt::format("{} of {} failed", metrics.num_failed,
                               counted(metrics.num_failed + metrics.num_completed, "request")));
  checks.add("short_outputs", CheckStatus::kInvalid,
             !ignores_eos || metrics.num_short_outputs == 0
                 ? ""
                 : counted(metrics.num_short_outputs, "output has", "outputs have") +
                       " fewer tokens than asked for");
  checks.add("prompt_tokens", CheckStatus::kWarning,
             metrics.num_other_prompt_counts == 0
                 ? ""
                 : fmt::format("of {} the server counts other prompt tokens than were sent",
                               counted(metrics.num_other_prompt_counts, "request")));
  checks.add("achieved_rate", CheckStatus::kInvalid, is_closed_loop ? "" : slow_client(point));
  checks.add("run_length", CheckStatus::kWarning,
             metrics.duration_s >= kShortRunSeconds
                 ? ""
                 : fmt::format("the run took {:.2f} s; below {:.0f} s start and tail weigh much",
                               metrics.duration_s, kShortRunSeconds));
  checks.add("steady_window", CheckStatus::kWarning,
             metrics.steady.share_of_run >= kLeastSteadyShare
                 ? ""
                 : fmt::format("the load was steady for {:.0f} % of the run",
                               100 * metrics.steady.share_of_run));
  checks.add("percentiles", CheckStatus::kWarning, unsure_percentiles(metrics));
  checks.add("build_type", CheckStatus::kWarning,
             std::strcmp(kBuildType, "Release") == 0
                 ? ""
                 : fmt::format("a {} build is no measure of speed", kBuildType));
  return checks.take();
}

}  // namespace llmrun
