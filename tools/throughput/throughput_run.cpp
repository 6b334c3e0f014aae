#include "tools/throughput/throughput_run.h"

#include <algorithm>
#include <chrono>
#include <unordered_map>
#include <utility>

#include "engine/core/random.h"
#include "tools/throughput/telemetry_sampler.h"
#include "tools/workload/workload_sources.h"

namespace llmrun {
namespace {

constexpr std::chrono::milliseconds kTelemetryInterval(100);
constexpr double kProgressInterval = 0.1;  // seconds between looks at the engine's counters

// Makes the requests before the clock starts.
std::vector<EngineRequest> make_requests(const Workload& workload, const RunOptions& options) {
  std::vector<EngineRequest> requests;
  requests.reserve(workload.requests.size());
  for (std::size_t i = 0; i < workload.requests.size(); ++i) {
    EngineRequest request;
    request.prompt_token_ids = workload.requests[i].prompt_token_ids;
    request.params = options.sampling;
    request.params.max_tokens = workload.requests[i].output_len;
    request.params.seed = derive_seed(options.seed, i);
    request.key = i;
    requests.push_back(std::move(request));
  }
  return requests;
}

ProgressSnapshot snapshot(const EngineStats& stats, std::size_t num_requests) {
  return {.num_done = stats.num_requests_finished,
          .num_failed = stats.num_requests_failed,
          .num_total = static_cast<std::int64_t>(num_requests),
          .num_running = stats.num_sequences_running,
          .num_waiting = stats.num_sequences_waiting,
          .prompt_tokens = stats.num_batched_tokens - stats.num_output_tokens,
          .output_tokens = stats.num_output_tokens,
          .kv_use = stats.kv_usage()};
}

// Steps that the workload takes at least, and some for prompts in pieces; room for the records.
std::size_t expected_steps(const Workload& workload) {
  return static_cast<std::size_t>(workload.num_output_tokens() + workload.num_prompt_tokens()) /
             16 +
         4096;
}

RequestMeasurement to_measurement(RequestOutput output, double start_s) {
  RequestMeasurement request;
  request.error = output.error.message;
  request.first_scheduled_s = output.timings.first_scheduled - start_s;
  if (output.outputs.empty()) return request;
  CompletionOutput& completion = output.outputs.front();
  request.token_ids = std::move(completion.token_ids);
  request.token_times_s = std::move(completion.token_times_s);
  for (double& time : request.token_times_s) time -= start_s;
  return request;
}

// Batches shrink at the end of a run. The next smaller one, no further away than the sizes are from
// each other for which the CUDA backend records graphs: of each of them a batch occurs.
std::size_t smaller_batch(std::size_t size) {
  if (size <= 8) return (size + 1) / 2;
  return std::max<std::size_t>(size - std::max<std::size_t>(size / 16, 8), 8);
}

// Makes a run take `share` longer, busy as slower steps would be. Waits are saved up: an engine
// that plans ahead would hide short ones behind the step that is under way.
class PlantedSlowdown {
 public:
  PlantedSlowdown(const LlmEngine& engine, double share) : engine_(engine), share_(share) {}

  void add_step(double start_s) {
    constexpr double kLeastWait = 0.1;
    owed_s_ += share_ * (engine_.now() - start_s);
    if (owed_s_ > kLeastWait) wait();
  }
  void wait() {
    const double end_s = engine_.now() + std::exchange(owed_s_, 0.0);
    while (engine_.now() < end_s) continue;
  }

 private:
  const LlmEngine& engine_;
  double share_;
  double owed_s_ = 0;
};

}  // namespace

RunMeasurement run_workload(LlmEngine& engine, const Workload& workload, const RunOptions& options,
                            Progress& progress) {
  RunMeasurement run;
  run.steps.reserve(expected_steps(workload));
  run.requests.resize(workload.requests.size());
  std::vector<EngineRequest> requests = make_requests(workload, options);
  std::unordered_map<RequestId, std::size_t> index_of;
  index_of.reserve(requests.size());
  std::vector<RequestOutput> outputs;
  outputs.reserve(requests.size());

  engine.reset_prefix_cache();
  engine.record_steps([&run](const StepRecord& step) { run.steps.push_back(step); });
  engine.record_token_times(true);
  const EngineStats before = engine.stats();
  TelemetrySampler telemetry([&engine] { return engine.telemetry(); }, kTelemetryInterval);

  run.start_s = engine.now();
  for (std::size_t i = 0; i < requests.size(); ++i) {
    index_of.emplace(engine.add_request(std::move(requests[i])), i);
  }
  double next_progress_s = 0;
  PlantedSlowdown slowdown(engine, options.slowdown);
  const auto take = [&] {
    for (RequestOutput& output : engine.take_outputs()) outputs.push_back(std::move(output));
  };
  while (engine.has_unfinished()) {
    if (!run.was_stopped && options.should_stop && options.should_stop()) {
      run.was_stopped = true;
      engine.abort_all();
    }
    const double step_start_s = engine.now();
    engine.step();
    take();
    slowdown.add_step(step_start_s);
    if (const double now_s = engine.now(); now_s >= next_progress_s) {
      progress.update(snapshot(engine.stats().since(before), index_of.size()), now_s);
      next_progress_s = now_s + kProgressInterval;
    }
  }
  slowdown.wait();
  take();  // requests that were refused at once
  run.elapsed_s = engine.now() - run.start_s;

  run.telemetry = telemetry.stop();
  run.stats = engine.stats().since(before);
  engine.record_steps({});
  engine.record_token_times(false);
  progress.finish();
  for (RequestOutput& output : outputs) {
    const std::size_t index = index_of.at(output.id);
    run.requests[index] = to_measurement(std::move(output), run.start_s);
  }
  return run;
}

Workload warm_up_workload(const Workload& workload, std::int64_t num_requests,
                          std::int64_t vocab_size) {
  Workload warm_up;
  warm_up.seed = derive_seed(workload.seed, 0x7761726d7570);  // "warmup": a seed of its own
  const auto count =
      static_cast<std::size_t>(std::min<std::int64_t>(num_requests, std::ssize(workload.requests)));
  // Each step decodes a batch and ends those of its requests that the next does not hold.
  std::vector<std::int32_t> output_lens(count);
  std::size_t batch = count;
  std::int32_t step = 2;  // the first token is the prompt's
  for (std::size_t i = count; i-- > 0;) {
    if (i < smaller_batch(batch) && batch > 1) {
      batch = smaller_batch(batch);
      ++step;
    }
    output_lens[i] = step;
  }
  for (std::size_t i = 0; i < count; ++i) {
    const WorkloadRequest& original = workload.requests[i];
    warm_up.requests.push_back(
        {random_token_ids(warm_up.seed, i, std::ssize(original.prompt_token_ids), vocab_size),
         std::clamp(output_lens[i], 1, std::max(original.output_len, 1)),
         static_cast<std::int64_t>(i)});
  }
  return warm_up;
}

}  // namespace llmrun
