// What a request was told token by token, put together.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "tests/engine/top/test_engine.h"

namespace llmrun::testing {

// I24: the deltas of a request, all of them in the order they came, are its output. Says what is
// wrong, or nothing.
inline std::optional<std::string> find_delta_fault(const std::vector<TokenDelta>& deltas,
                                                   const RequestOutput& output) {
  std::map<std::int32_t, CompletionOutput> samples;
  double last_time_s = 0;
  for (const TokenDelta& delta : deltas) {
    if (delta.request_id != output.id) return "a token is another request's";
    if (delta.time_s < last_time_s) return "a token came before the one before it";
    last_time_s = delta.time_s;
    CompletionOutput& sample = samples[delta.index];
    if (sample.finish_reason != FinishReason::kNone) return "a token follows the last one";
    sample.text += delta.text;
    sample.token_ids.push_back(delta.token_id);
    if (delta.logprobs) sample.logprobs.push_back(*delta.logprobs);
    sample.finish_reason = delta.finish_reason;
    sample.stop_string = delta.stop_string;
    sample.stop_token_id = delta.stop_token_id;
  }
  for (const CompletionOutput& whole : output.outputs) {
    CompletionOutput& sample = samples[whole.index];
    sample.index = whole.index;
    sample.has_cumulative_logprob = whole.has_cumulative_logprob;
    sample.cumulative_logprob = whole.cumulative_logprob;
    // What was held back when it was aborted is told at the end.
    if (whole.finish_reason == FinishReason::kAbort && whole.text.starts_with(sample.text)) {
      sample.text = whole.text;
      sample.finish_reason = FinishReason::kAbort;
    }
    if (describe(sample) != describe(whole)) {
      return fmt::format("the tokens told are\n{}and the output is\n{}", describe(sample),
                         describe(whole));
    }
  }
  if (samples.size() != output.outputs.size()) return "a token is no sample's";
  return std::nullopt;
}

}  // namespace llmrun::testing
