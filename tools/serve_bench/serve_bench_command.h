// The run of `llmrun serve-bench` from options to report: one load after another on its targets.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <boost/asio/io_context.hpp>

#include "tools/progress.h"
#include "tools/serve_bench/bench_targets.h"
#include "tools/serve_bench/load_plan.h"
#include "tools/serve_bench/load_run.h"
#include "tools/serve_bench/serve_bench.h"
#include "tools/serve_bench/serving_report.h"
#include "tools/signals.h"

namespace llmrun {

class ServeBenchCommand {
 public:
  // Checks the options. Throws Error(kUsage).
  ServeBenchCommand(const ServeBenchOptions& options, std::string command_line);

  // Ends early when a signal comes: with what was measured until then. Throws Error.
  const ServingReport& run();
  // The signal that ended it early; 0: none.
  int first_signal() const { return signals_.first_signal(); }

 private:
  void log(std::string_view line);
  bool is_stopped() const { return signals_.stop_request() != StopRequest::kNone; }

  void measure(BenchTargets& targets);
  void describe(const TargetDescription& target);
  // As many as the options ask for, and as each of `rates` needs for --duration.
  void make_requests(BenchTargets& targets, std::uint64_t seed, std::span<const double> rates);
  void warm_up(BenchTargets& targets);
  void refuse_if_all_failed(const LoadMeasurement& measurement) const;

  void run_all(BenchTargets& targets);
  // Returns nothing when a signal came before anything was answered.
  const ServingPoint* run_point(BenchTargets& targets, std::size_t mode, double rate,
                                std::int32_t concurrency);
  LoadOptions load_options(double rate, std::int32_t concurrency, std::size_t num_requests) const;
  std::size_t num_requests_for(double rate) const;
  void save(const ServingPoint& point, const LoadMeasurement& measurement,
            const std::vector<BenchRequest>& requests) const;
  void search(BenchTargets& targets);
  bool try_rate(BenchTargets& targets, double rate);

  const ServeBenchOptions& options_;
  SignalWatcher signals_;
  Progress progress_;
  LoadPlan plan_;
  boost::asio::io_context context_{1};
  Workload workload_;
  std::vector<double> trace_arrivals_;  // empty: no trace
  ServingReport report_;
};

}  // namespace llmrun
