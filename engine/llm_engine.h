// LlmEngine: requests in, outputs out. One step is four verbs: schedule, run, sample, finish.
//
// Owns the backend, the model, the KV cache's bookkeeping, the scheduler and every request. One
// thread; no locks. The host plans one step ahead of the device where the device works by itself
// (steps_ahead 1): a step's tokens are then read while the next step runs, and a sequence that
// ended costs one wasted row.
#pragma once

#include <chrono>
#include <cstdint>
#include <deque>
#include <memory>
#include <unordered_map>
#include <vector>

#include "engine/backend/backend.h"
#include "engine/engine.h"
#include "engine/kv_cache/kv_cache_manager.h"
#include "engine/metrics/engine_stats.h"
#include "engine/metrics/step_log.h"
#include "engine/models/causal_lm.h"
#include "engine/request_state.h"
#include "engine/runner/model_runner.h"
#include "engine/scheduler/scheduler.h"
#include "engine/sequence/request.h"
#include "engine/step_progress.h"
#include "engine/tokenizer/tokenizer.h"

namespace llmrun {

class LlmEngine final : public Engine {
 public:
  struct Options {
    std::int32_t max_model_len = 0;
    std::int32_t steps_ahead = 0;
    std::uint64_t seed = 0;
    std::vector<TokenId> eos_token_ids;  // any of them ends a sequence
    std::int64_t vocab_size = 0;         // ids that may occur in prompts and outputs
    std::int32_t max_logprobs = SamplingLimits{}.max_logprobs;
  };
  // What the engine is made of; engine/engine_factory.h puts it together.
  struct Parts {
    std::unique_ptr<Backend> backend;
    std::unique_ptr<CausalLm> model;
    std::unique_ptr<ModelRunner> runner;
    std::unique_ptr<KvCacheManager> kv_cache;
    std::unique_ptr<Scheduler> scheduler;
    std::shared_ptr<const Tokenizer> tokenizer;  // null: outputs are token ids only
  };

  LlmEngine(Parts parts, const Options& options);
  ~LlmEngine() override;

  RequestId add_request(EngineRequest request) override;
  void abort(RequestId id) override;
  void abort_all() override;
  bool has_unfinished() const override { return !requests_.empty() || !in_flight_.empty(); }
  // Plans a step, submits it, and finishes the oldest step in flight.
  void step() override;
  std::vector<TokenDelta> take_deltas() override;
  std::vector<RequestOutput> take_outputs() override;

  // From now on `listener` hears of every step once its tokens are on the host; an empty one ends
  // that. It is called within step(). REQUIRES: no unfinished request.
  void record_steps(StepListener listener);
  // Whether outputs tell when each of their tokens came, from now on. REQUIRES: no unfinished
  // request.
  void record_token_times(bool enabled);
  // Forgets what the prefix cache holds. REQUIRES: no unfinished request.
  void reset_prefix_cache();
  // How fast the device can be with the weights' type, in about a second. REQUIRES: no unfinished
  // request.
  DeviceLimits measure_limits(DType weight_dtype);
  // These two may be called from another thread.
  DeviceTelemetry telemetry() { return parts_.backend->telemetry(); }
  StepProgress::State progress() const;

  std::optional<std::string> find_leak() const override;
  EngineStats stats() const override;
  const Options& options() const { return options_; }
  // What parameters of requests are checked against.
  SamplingLimits sampling_limits() const {
    return {.vocab_size = options_.vocab_size, .max_logprobs = options_.max_logprobs};
  }
  const Backend& backend() const { return *parts_.backend; }
  const ModelConfig& model_config() const { return parts_.model->config(); }
  double now() const override;

 private:
  // Why the request can never run; empty when it can.
  // Sets request.max_output_tokens, and resolves numbers of log-probabilities.
  RequestError check(RequestState& request) const;
  void add_samples(const std::shared_ptr<RequestState>& request);
  Sample& add_sample(const std::shared_ptr<RequestState>& request,
                     Sequence::Options sequence_options, std::int32_t index);

  void start_beam_search(const std::shared_ptr<RequestState>& request);
  void add_beam_round(const std::shared_ptr<RequestState>& request);
  void finish_beam(Sample& sample, const SampledToken& sampled);
  void collect_beams(RequestState& request);

  void plan_and_finish();
  void submit(ScheduledBatch batch);
  void finish_oldest_step();
  void record_submitted(const ScheduledBatch& batch, double now_s);
  void record_collected(double now_s);
  // `now_s`: when the step's tokens came to the host.
  void finish_scheduled(const ScheduledSequence& scheduled, const SequenceOutput& output,
                        double now_s);
  void finish_sample(Sample& sample);
  void end_sample(Sample& sample);
  void fail_request(RequestState& request, const RequestError& error);
  void finish_request(RequestState& request);
  void destroy_ended_samples();

  Parts parts_;
  Options options_;
  std::chrono::steady_clock::time_point start_;
  EngineStats stats_;
  StepProgress progress_;
  RequestId next_request_id_ = 1;
  SequenceId next_sequence_id_ = 1;
  std::unordered_map<RequestId, std::shared_ptr<RequestState>> requests_;
  std::unordered_map<SequenceId, std::unique_ptr<Sample>> samples_;
  std::vector<SequenceId> ended_samples_;  // destroyed once nothing names them any more
  std::deque<ScheduledBatch> in_flight_;
  StepListener step_listener_;         // empty: nobody listens
  std::deque<StepRecord> open_steps_;  // of in_flight_, while somebody listens
  bool records_token_times_ = false;
  std::vector<SamplingPlan> plans_;
  std::vector<TokenDelta> deltas_;
  std::vector<RequestOutput> outputs_;
};

}  // namespace llmrun
