// NullEngine: an engine without a model, for measuring what surrounds an engine.
//
// Every step gives each running request a token, after waiting for the step's time. Tokens depend
// on the prompt and the position alone: token k of sample i of a request is
// (sum of the prompt's ids + i + k) % vocab_size, and its text is the id in decimal and a space, so
// that a receiver can tell whether it got all of its own tokens and none of another's.
#pragma once

#include <chrono>
#include <cstdint>
#include <deque>
#include <vector>

#include "engine/engine.h"

namespace llmrun {

class NullEngine : public Engine {
 public:
  struct Options {
    double step_seconds = 0;  // time a step takes; 0: as fast as steps are asked for
    std::int32_t max_num_seqs = 1024;
    std::int32_t max_model_len = 1 << 20;
    std::int64_t vocab_size = 32000;
  };

  NullEngine() : NullEngine(Options()) {}
  explicit NullEngine(const Options& options);

  RequestId add_request(EngineRequest request) override;
  void abort(RequestId id) override;
  void abort_all() override;
  bool has_unfinished() const override { return !requests_.empty(); }
  void step() override;
  std::vector<TokenDelta> take_deltas() override;
  std::vector<RequestOutput> take_outputs() override;
  EngineStats stats() const override;
  double now() const override;

 private:
  struct Running {
    RequestId id = 0;
    EngineRequest request;
    std::int64_t prompt_sum = 0;
    std::int64_t max_output_tokens = 0;
    RequestOutput output;
  };

  void wait_for_step();
  // Gives each sample of the request its next token.
  void advance(Running& running, double now_s);
  void finish(Running& running, FinishReason reason);
  void refuse(Running& running, RequestError error);
  std::int64_t num_running() const;

  Options options_;
  std::chrono::steady_clock::time_point start_;
  std::chrono::steady_clock::time_point next_step_;
  RequestId next_id_ = 1;
  std::deque<Running> requests_;  // in order of arrival; the first max_num_seqs run
  std::vector<TokenDelta> deltas_;
  std::vector<RequestOutput> outputs_;
  EngineStats stats_;
};

}  // namespace llmrun
