#include "tools/serve_bench/engine_target.h"

#include <utility>

namespace llmrun {
namespace {

using Clock = std::chrono::steady_clock;

BenchOutcome outcome_of(RequestOutput& output, bool keep_text) {
  BenchOutcome outcome;
  outcome.failure = output.error.code;
  outcome.message = output.error.message;
  outcome.num_prompt_tokens = std::ssize(output.prompt_token_ids);
  outcome.num_output_tokens = output.num_output_tokens;
  if (outcome.failure.empty() && !output.outputs.empty() &&
      output.outputs.front().finish_reason == FinishReason::kAbort) {
    outcome.failure = "aborted";
    outcome.message = "given up";
  }
  if (keep_text && !output.outputs.empty()) outcome.text = std::move(output.outputs.front().text);
  return outcome;
}

}  // namespace

void EngineTarget::send(std::size_t index, const BenchRequest& request, BenchListener& listener) {
  EngineRequest engine_request;
  engine_request.prompt_token_ids = *request.prompt_token_ids;
  engine_request.params = sampling_;
  engine_request.params.max_tokens = request.output_len;
  engine_request.params.seed = request.seed >> 33;  // as over HTTP
  engine_request.key = index;
  AsyncEngine::Callbacks callbacks{
      .on_token = [index,
                   &listener](const TokenDelta&) { listener.on_tokens(index, 1, Clock::now()); },
      .on_finished =
          [index, &listener, keep_text = keep_text_](RequestOutput output) {
            listener.on_end(index, outcome_of(output, keep_text), Clock::now());
          }};
  if (!engine_.submit(std::move(engine_request), std::move(callbacks))) {
    BenchOutcome outcome;
    outcome.failure = "refused";
    outcome.message = "the engine takes no more requests";
    listener.on_end(index, std::move(outcome), Clock::now());
  }
}

}  // namespace llmrun
