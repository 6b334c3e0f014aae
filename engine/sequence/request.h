// A request as the engine takes it, and what comes back. Text in and out is the caller's: the
// engine's top (engine/text_processor.h) tokenises prompts before and detokenises outputs after.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "engine/core/token_id.h"
#include "engine/sequence/sampling_params.h"

namespace llmrun {

using RequestId = std::uint64_t;  // given by the engine, unique in a run

enum class FinishReason : std::uint8_t {
  kNone,    // still running
  kStop,    // end-of-sequence token, stop token or stop string
  kLength,  // max_tokens or the end of the context
  kAbort,   // cancelled
  kError,
};

// vLLM's and OpenAI's words: "stop", "length", "abort", "error"; "" for kNone.
const char* to_string(FinishReason reason);

// Why a request failed; an empty code means it did not. Codes: "empty_prompt", "too_long",
// "bad_parameter", "bad_token_id", "chat_template", "numeric".
struct RequestError {
  std::string code;
  std::string message;
  std::string param{};  // the field of the request that it is about, where that is known
  bool empty() const { return code.empty(); }
};

// Seconds on the steady clock since the engine started. 0: has not happened.
struct RequestTimings {
  double arrived = 0;  // add_request
  double first_scheduled = 0;
  double first_token = 0;  // its id was on the host
  double finished = 0;
};

struct TokenLogprobs {
  TokenId token_id = 0;  // the chosen token, or the prompt's
  float logprob = 0;
  std::int32_t rank = 0;
  struct Entry {
    TokenId token_id = 0;
    float logprob = 0;
    std::int32_t rank = 0;
  };
  std::vector<Entry> top;  // the k best, by rank
};

// One generated sample.
struct CompletionOutput {
  std::int32_t index = 0;
  std::string text;
  std::vector<TokenId> token_ids;
  double cumulative_logprob = 0;  // only when logprobs, best_of or beam search computed it
  bool has_cumulative_logprob = false;
  std::vector<TokenLogprobs> logprobs;  // one per token, when asked for
  // When each token's id was on the host; only while the engine records steps.
  std::vector<double> token_times_s;
  FinishReason finish_reason = FinishReason::kNone;
  std::string stop_string;  // the stop string that ended it, if one did
  std::optional<TokenId>
      stop_token_id;  // the stop token that ended it, if one did (not the eos token)
};

// A token of a sample as it comes, with the text that is certain since the token before: a stop
// string may begin in what is held back. The texts of a sample's deltas, joined, are a beginning of
// its output's text, and all of it when the sample ended by itself.
struct TokenDelta {
  RequestId request_id = 0;
  std::int32_t index = 0;  // of the sample
  TokenId token_id = 0;
  std::string text{};
  std::optional<TokenLogprobs> logprobs{};           // when asked for
  FinishReason finish_reason = FinishReason::kNone;  // set: the sample's last token
  std::string stop_string{};                         // as in CompletionOutput
  std::optional<TokenId> stop_token_id{};
  double time_s = 0;  // when its id was on the host, on the engine's clock
};

// What became of a request. When it failed as a whole, `error` says why and there are no outputs.
struct RequestOutput {
  RequestId id = 0;
  std::vector<TokenId> prompt_token_ids;
  // Entry 0 is empty: nothing predicts the first token. Otherwise one per prompt token, when asked
  // for.
  std::vector<TokenLogprobs> prompt_logprobs;
  std::vector<CompletionOutput> outputs;
  std::int64_t num_output_tokens = 0;  // generated in all, samples not returned included
  std::int64_t num_cached_tokens = 0;  // prompt tokens taken from the prefix cache
  RequestTimings timings;
  RequestError error;
};

}  // namespace llmrun
