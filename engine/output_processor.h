// One sample's tokens become its output: text, log-probabilities, and when it ends.
//
// Semantics are vLLM's (vllm/v1/core/sched/utils.py, vllm/v1/engine/detokenizer.py):
//   - An end-of-sequence token (unless ignore_eos) and a stop token end the sample. They are in
//     token_ids and counted; they are in the text only with include_stop_str_in_output.
//   - A stop string ends it; the text is cut before it, or after it with
//     include_stop_str_in_output. token_ids keep every token.
//   - Nothing of this before min_tokens tokens; max_tokens ends it with "length" otherwise.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "engine/backend/sampling_batch.h"
#include "engine/core/token_id.h"
#include "engine/sequence/request.h"
#include "engine/sequence/sampling_params.h"
#include "engine/stop_matcher.h"
#include "engine/tokenizer/incremental_decoder.h"
#include "engine/tokenizer/tokenizer.h"

namespace llmrun {

// As the sampler reports it (the token itself, then the best), in the form outputs have it.
TokenLogprobs to_token_logprobs(const std::vector<TokenLogprob>& sampled);

class OutputProcessor {
 public:
  // `tokenizer` may be null: there is no text then. It, `params` and `eos_token_ids` must outlive
  // the processor.
  OutputProcessor(const Tokenizer* tokenizer, const SamplingParams& params,
                  std::span<const TokenId> eos_token_ids, std::int32_t index,
                  std::int64_t max_output_tokens);

  // Takes the next token. Returns why the sample has ended, or kNone; no token follows the end.
  FinishReason append(const SampledToken& sampled);

  // The output so far. Its text will not change any more; it grows with each token.
  const CompletionOutput& output() const { return output_; }
  const std::string& text() const { return output_.text; }
  std::span<const TokenId> token_ids() const { return output_.token_ids; }

  // The output of a sample that has ended. The processor is empty afterwards.
  CompletionOutput take();
  // The same for a sample that has not, with `reason`.
  CompletionOutput finish(FinishReason reason);

 private:
  void record(const SampledToken& sampled);
  // Adds the token's text; true when a stop string is complete.
  bool append_text(TokenId token, bool may_stop);
  // Looks for a stop string in the text that the decoder holds back.
  bool match_held_text();
  void end(FinishReason reason);

  const Tokenizer* tokenizer_;  // null: no text
  const SamplingParams* params_;
  std::span<const TokenId> eos_token_ids_;
  std::int64_t max_output_tokens_;
  std::optional<IncrementalDecoder> decoder_;
  StopMatcher stop_matcher_;
  CompletionOutput output_;
};

}  // namespace llmrun
