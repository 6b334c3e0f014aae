// What makes a run's figures worthless (INVALID) or doubtful (WARNING).
#include <algorithm>
#include <cstring>
#include <optional>
#include <set>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "engine/core/counted.h"
#include "engine/core/version.h"
#include "tools/throughput/telemetry_sampler.h"
#include "tools/throughput/throughput_report.h"

namespace llmrun {
namespace {

constexpr double kShortRunSeconds = 30;
constexpr double kUnstableVariation = 0.05;
constexpr double kClockVariation = 0.03;
constexpr double kColdHitPercent = 1;

class Checks {
 public:
  explicit Checks(std::string case_name) : case_name_(std::move(case_name)) {}

  // Records `failed` when the message is not empty, else that all is well.
  void add(const char* name, CheckStatus failed, std::string message) {
    const CheckStatus status = message.empty() ? CheckStatus::kOk : failed;
    checks_.push_back({case_name_, name, status, std::move(message)});
  }
  // The same of what not every device tells; nothing: this one does not.
  void add_measured(const char* name, CheckStatus failed, std::optional<std::string> message) {
    if (message) {
      add(name, failed, std::move(*message));
    } else {
      checks_.push_back({case_name_, name, CheckStatus::kNotMeasured, "the device does not tell"});
    }
  }
  std::vector<Check> take() { return std::move(checks_); }

 private:
  std::string case_name_;
  std::vector<Check> checks_;
};

std::string failed_requests(const CaseMeasurement& measurement) {
  std::int64_t count = 0;
  std::string first;
  for (const RunMeasurement& run : measurement.runs) {
    for (const RequestMeasurement& request : run.requests) {
      if (request.error.empty()) continue;
      if (++count == 1) first = request.error;
    }
  }
  return count == 0 ? ""
                    : fmt::format("{} failed, the first: {}", counted(count, "request"), first);
}

std::string short_outputs(const CaseMeasurement& measurement, const Workload& workload) {
  std::int64_t count = 0;
  for (const RunMeasurement& run : measurement.runs) {
    for (std::size_t i = 0; i < run.requests.size(); ++i) {
      const bool failed = !run.requests[i].error.empty();
      if (!failed && std::ssize(run.requests[i].token_ids) != workload.requests[i].output_len) {
        ++count;
      }
    }
  }
  return count == 0 ? ""
                    : counted(count, "output does", "outputs do") +
                          " not have the number of tokens asked for";
}

// The engine's own count against the tokens that were handed out, with a time for each.
std::string wrong_counts(const CaseMeasurement& measurement) {
  for (const RunMeasurement& run : measurement.runs) {
    std::int64_t num_tokens = 0;
    std::int64_t num_times = 0;
    for (const RequestMeasurement& request : run.requests) {
      num_tokens += std::ssize(request.token_ids);
      num_times += std::ssize(request.token_times_s);
    }
    if (run.stats.num_output_tokens != num_tokens || num_times != num_tokens) {
      return fmt::format("the engine counted {}, {} handed out, {} with a time",
                         counted(run.stats.num_output_tokens, "output token"),
                         counted(num_tokens, "was", "were"), num_times);
    }
  }
  return "";
}

std::string short_run(const CaseReport& report) {
  const double seconds = report.metric("elapsed_s").mean();
  if (seconds >= kShortRunSeconds) return "";
  return fmt::format("a run took {:.2f} s; below {:.0f} s start and tail weigh much", seconds,
                     kShortRunSeconds);
}

std::string unstable(const CaseReport& report) {
  const Metric& rate = report.metric("requests_per_s");
  if (rate.statistics.count < 2) return "one repeat: no interval";
  if (rate.statistics.coefficient_of_variation <= kUnstableVariation) return "";
  return fmt::format("requests/s varied by {:.1f} % (coefficient of variation; limit {:.0f} %)",
                     100 * rate.statistics.coefficient_of_variation, 100 * kUnstableVariation);
}

std::string different_outputs(const CaseMeasurement& measurement, const CaseReport& report) {
  for (const RunMeasurement& run : measurement.runs) {
    std::vector<std::vector<TokenId>> ids;
    for (const RequestMeasurement& request : run.requests) ids.push_back(request.token_ids);
    if (output_digest(ids) != report.output_digest) {
      return "repeats gave different outputs for equal seeds";
    }
  }
  return "";
}

std::string prefix_hits(const CaseReport& report, const Workload& workload) {
  const Metric& hits = report.metric("prefix_hit_percent");
  if (!hits.is_measured() || hits.mean() <= kColdHitPercent) return "";
  if (workload.dataset == "prefix_repetition") return "";
  return fmt::format("{:.1f} % of prompt tokens came from the prefix cache", hits.mean());
}

// Reasons that mean the device could not do what it was made for; a power cap is how it is set up.
bool is_fault(const std::string& reason) {
  return reason.find("thermal") != std::string::npos ||
         reason.find("hardware") != std::string::npos;
}

std::set<std::string> throttle_reasons(const CaseMeasurement& measurement, bool faults) {
  std::set<std::string> reasons;
  for (const RunMeasurement& run : measurement.runs) {
    for (const DeviceTelemetry& reading : run.telemetry_during()) {
      for (const std::string& reason : reading.throttle_reasons) {
        if (is_fault(reason) == faults) reasons.insert(reason);
      }
    }
  }
  return reasons;
}

// Whether any reading of the device fulfils `tells`.
template <typename Tells>
bool any_reading(const CaseMeasurement& measurement, Tells tells) {
  return std::any_of(measurement.runs.begin(), measurement.runs.end(), [&](const auto& run) {
    return std::any_of(run.telemetry.begin(), run.telemetry.end(), tells);
  });
}

// The lowest clock of the runs, as a share of the device's highest.
std::optional<double> least_clock_share(const CaseMeasurement& measurement) {
  std::optional<double> least;
  for (const RunMeasurement& run : measurement.runs) {
    for (const DeviceTelemetry& reading : run.telemetry_during()) {
      if (!reading.clock_mhz || reading.max_clock_mhz.value_or(0) <= 0) continue;
      const double share = static_cast<double>(*reading.clock_mhz) / *reading.max_clock_mhz;
      least = std::min(least.value_or(share), share);
    }
  }
  return least;
}

std::optional<std::string> throttling(const CaseMeasurement& measurement) {
  if (!any_reading(measurement, has_sensors)) return std::nullopt;
  const std::set<std::string> reasons = throttle_reasons(measurement, true);
  return reasons.empty() ? "" : fmt::format("clocks were held back: {}", fmt::join(reasons, ", "));
}

// Devices say that a cap is active also when it holds back nothing.
std::optional<std::string> power_cap(const CaseMeasurement& measurement) {
  if (!any_reading(measurement, has_sensors)) return std::nullopt;
  const std::set<std::string> reasons = throttle_reasons(measurement, false);
  const std::optional<double> share = least_clock_share(measurement);
  if (reasons.empty() || share > 1 - kClockVariation) return "";
  const std::string clock = share ? fmt::format(" to {:.0f} % of the highest", 100 * *share) : "";
  return fmt::format("clocks were held back{}: {}", clock, fmt::join(reasons, ", "));
}

std::optional<std::string> other_processes(const CaseMeasurement& measurement) {
  const auto tells = [](const DeviceTelemetry& reading) {
    return reading.num_other_processes.has_value();
  };
  if (!any_reading(measurement, tells)) return std::nullopt;
  std::int32_t most = 0;
  for (const RunMeasurement& run : measurement.runs) {
    for (const DeviceTelemetry& reading : run.telemetry) {
      most = std::max(most, reading.num_other_processes.value_or(0));
    }
  }
  return most == 0 ? "" : counted(most, "other process", "other processes") + " used the device";
}

std::optional<std::string> varied_clocks(const CaseReport& report) {
  const Metric& low = report.metric("min_clock_mhz");
  const Metric& high = report.metric("max_clock_mhz");
  if (!low.is_measured()) return std::nullopt;
  const double least = *std::min_element(low.samples.begin(), low.samples.end());
  const double most = *std::max_element(high.samples.begin(), high.samples.end());
  if (most - least <= kClockVariation * most) return "";
  return fmt::format("the clock varied from {:.0f} to {:.0f} MHz", least, most);
}

std::string sliding_window(const ReportContext& context) {
  const auto& windows = context.model.sliding_windows;
  const bool exceeded = std::any_of(windows.begin(), windows.end(), [&](std::int32_t window) {
    return window > 0 && window < context.workload.longest();
  });
  return exceeded ? "limits count whole contexts, though layers see only a sliding window" : "";
}

}  // namespace

std::vector<Check> check_case(const CaseMeasurement& measurement, const CaseReport& report,
                              const ReportContext& context) {
  const Workload& workload = context.workload;
  Checks checks(report.name);
  checks.add("failed_requests", CheckStatus::kInvalid, failed_requests(measurement));
  checks.add("short_outputs", CheckStatus::kInvalid, short_outputs(measurement, workload));
  checks.add("token_counts", CheckStatus::kInvalid, wrong_counts(measurement));
  checks.add_measured("other_processes", CheckStatus::kInvalid, other_processes(measurement));
  checks.add_measured("throttling", CheckStatus::kInvalid, throttling(measurement));
  checks.add_measured("power_cap", CheckStatus::kWarning, power_cap(measurement));
  checks.add_measured("clock_variation", CheckStatus::kWarning, varied_clocks(report));
  checks.add("run_length", CheckStatus::kWarning, short_run(report));
  checks.add("stability", CheckStatus::kWarning, unstable(report));
  checks.add("warm_up", CheckStatus::kWarning, report.num_warm_up_requests > 0 ? "" : "no warm-up");
  checks.add("repeated_outputs", CheckStatus::kWarning, different_outputs(measurement, report));
  checks.add("prefix_hits", CheckStatus::kWarning, prefix_hits(report, workload));
  checks.add("sliding_window", CheckStatus::kWarning, sliding_window(context));
  checks.add("build_type", CheckStatus::kWarning,
             std::strcmp(kBuildType, "Release") == 0
                 ? ""
                 : fmt::format("a {} build is no measure of speed", kBuildType));
  return checks.take();
}

}  // namespace llmrun
