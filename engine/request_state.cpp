#include "engine/request_state.h"

#include <algorithm>
#include <utility>

namespace llmrun {

Sample::Sample(std::shared_ptr<RequestState> owner, Sequence::Options sequence_options,
               std::int32_t sample_index, OutputProcessor processor)
    : request(std::move(owner)),
      sequence(std::move(sequence_options)),
      index(sample_index),
      output_processor(std::move(processor)) {}

SamplingPlan Sample::plan() {
  const SamplingParams& params = request->params;
  SamplingPlan plan;
  // Of all samples and beams, one rates the prompt.
  if (sequence.options().needs_all_prompt_logits) {
    plan.num_prompt_logprobs = params.prompt_logprobs.value_or(-1);
  }
  SamplingRow& row = plan.row;
  row.temperature = static_cast<float>(params.temperature);
  row.top_p = static_cast<float>(params.top_p);
  row.min_p = static_cast<float>(params.min_p);
  row.top_k = params.top_k;
  row.repetition_penalty = static_cast<float>(params.repetition_penalty);
  row.presence_penalty = static_cast<float>(params.presence_penalty);
  row.frequency_penalty = static_cast<float>(params.frequency_penalty);
  row.seed = request->seed + static_cast<std::uint64_t>(index);
  // The token being chosen is pending already.
  row.position = static_cast<std::uint64_t>(sequence.num_output_tokens() - 1);
  row.num_logprobs = request->num_logprobs;
  row.logit_bias = params.logit_bias;
  row.allowed_token_ids = params.allowed_token_ids;

  const bool before_min_tokens = sequence.num_output_tokens() <= params.min_tokens;
  if (!request->bad_words) {
    if (before_min_tokens) row.banned_token_ids = request->min_tokens_banned_ids;
    return plan;
  }
  banned_token_ids_ = request->bad_words->banned_token_ids(sequence.output_token_ids());
  if (before_min_tokens) {
    banned_token_ids_.insert(banned_token_ids_.end(), request->min_tokens_banned_ids.begin(),
                             request->min_tokens_banned_ids.end());
  }
  row.banned_token_ids = banned_token_ids_;
  return plan;
}

TokenDelta Sample::take_delta(double now_s) {
  const CompletionOutput& output = output_processor.output();
  TokenDelta delta{.request_id = request->id,
                   .index = index,
                   .token_id = output.token_ids.back(),
                   .text = output.text.substr(num_streamed_bytes_),
                   .finish_reason = output.finish_reason,
                   .stop_string = output.stop_string,
                   .stop_token_id = output.stop_token_id,
                   .time_s = now_s};
  if (request->params.logprobs) delta.logprobs = output.logprobs.back();
  num_streamed_bytes_ = output.text.size();
  return delta;
}

std::int32_t num_sampled_logprobs(const SamplingParams& params) {
  if (params.logprobs) return *params.logprobs;
  return params.num_sequences() > params.n ? 0 : -1;
}

RequestOutput make_request_output(RequestState& request) {
  RequestOutput output;
  output.id = request.id;
  output.prompt_token_ids = std::move(request.prompt_token_ids);
  output.prompt_logprobs = std::move(request.prompt_logprobs);
  output.num_output_tokens = request.num_output_tokens;
  output.num_cached_tokens = request.num_cached_tokens;
  output.timings = request.timings;
  output.error = std::move(request.error);

  std::vector<CompletionOutput>& finished = request.finished_outputs;
  const auto num_returned = static_cast<std::size_t>(request.params.n);
  std::sort(finished.begin(), finished.end(),
            [](const CompletionOutput& a, const CompletionOutput& b) { return a.index < b.index; });
  if (finished.size() > num_returned) {  // best_of: vLLM ranks by cumulative log-probability
    std::stable_sort(finished.begin(), finished.end(),
                     [](const CompletionOutput& a, const CompletionOutput& b) {
                       return a.cumulative_logprob > b.cumulative_logprob;
                     });
    finished.resize(num_returned);
    for (std::size_t i = 0; i < num_returned; ++i) finished[i].index = static_cast<std::int32_t>(i);
  }
  output.outputs = std::move(finished);
  return output;
}

}  // namespace llmrun
