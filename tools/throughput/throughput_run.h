// Runs a workload on one engine and keeps what happened: outputs, times, steps, sensors. Judges
// nothing; that is the report's matter (tools/throughput/throughput_report.h).
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "engine/engine_factory.h"
#include "tools/engine_cases.h"
#include "tools/progress.h"
#include "tools/workload/workload.h"

namespace llmrun {

// Times in seconds since the run started, when all requests arrive.
struct RequestMeasurement {
  std::vector<TokenId> token_ids;
  std::vector<double> token_times_s;  // when each was on the host
  double first_scheduled_s = 0;
  std::string error;  // empty: it did not fail
};

struct RunMeasurement {
  double elapsed_s = 0;                      // from the first request's arrival to the last output
  bool was_stopped = false;                  // given up: it is no measure of anything
  std::vector<RequestMeasurement> requests;  // in the workload's order
  std::vector<StepRecord> steps;
  double start_s = 0;                      // on the clock of `steps`
  EngineStats stats;                       // of this run
  std::vector<DeviceTelemetry> telemetry;  // at least one entry; only one without sensors

  // The readings from while the run went on: all but the first, which is from before it, if there
  // are enough.
  std::span<const DeviceTelemetry> telemetry_during() const {
    return std::span(telemetry).subspan(telemetry.size() > 2 ? 1 : 0);
  }
};

struct CaseMeasurement {
  EngineCase definition;
  EngineDescription description;
  double load_s = 0;  // until the engine was ready for its first request
  double warm_up_s = 0;
  std::int64_t num_warm_up_requests = 0;
  std::vector<RunMeasurement> runs;
};

struct RunOptions {
  SamplingParams sampling;  // of every request, but for its seed and length
  std::uint64_t seed = 0;
  double slowdown = 0;  // the run is made to take this share longer; to test what looks for drops
  std::function<bool()> should_stop = nullptr;  // asked at each step; then the run is given up
};

// Sends all requests at once and steps the engine until all are answered. The prefix cache is empty
// at the start.
RunMeasurement run_workload(LlmEngine& engine, const Workload& workload, const RunOptions& options,
                            Progress& progress);

// The requests to warm an engine up with: the lengths of `workload`'s prompts, other ids, and
// outputs that end one after another, so that every graph of a decode step is recorded that the
// workload can need.
Workload warm_up_workload(const Workload& workload, std::int64_t num_requests,
                          std::int64_t vocab_size);

}  // namespace llmrun
