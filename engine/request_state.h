// What the engine remembers of a request while it runs: the request, its samples, and how each is
// sampled.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "engine/bad_words.h"
#include "engine/beam_search.h"
#include "engine/output_processor.h"
#include "engine/runner/model_runner.h"
#include "engine/sequence/request.h"
#include "engine/sequence/sequence.h"

namespace llmrun {

struct RequestState;

// One sample of a request: its tokens, its text so far, and how its next token is chosen.
class Sample {
 public:
  Sample(std::shared_ptr<RequestState> request, Sequence::Options sequence_options,
         std::int32_t index, OutputProcessor output_processor);

  // How the step that was just planned chooses this sample's token. The spans inside point into the
  // sample and its request.
  SamplingPlan plan();
  // The token that output_processor took last, for a request that streams.
  TokenDelta take_delta(double now_s);

  // Shared: a sample outlives its request while a step in flight still names it.
  std::shared_ptr<RequestState> request;
  Sequence sequence;
  std::int32_t index;
  OutputProcessor output_processor;
  bool ended = false;                 // no further token is kept
  std::vector<double> token_times_s;  // of the tokens kept, while steps are recorded

 private:
  std::vector<TokenId> banned_token_ids_;
  std::size_t num_streamed_bytes_ = 0;  // of the text
};

struct RequestState {
  RequestId id = 0;
  SamplingParams params;
  std::uint64_t seed = 0;  // of sample 0; sample i uses seed + i
  std::vector<TokenId> prompt_token_ids;
  std::int64_t max_output_tokens = 0;
  std::int32_t num_logprobs =
      -1;  // of each sampled token: -1 none, 0 the chosen one's, k the k best
  std::uint64_t cache_salt = 0;
  bool streams = false;                        // each token is told as it comes
  std::vector<TokenId> min_tokens_banned_ids;  // what may not be chosen before min_tokens
  std::optional<BadWords> bad_words;
  std::optional<BeamSearch> beam_search;
  std::vector<std::vector<TokenLogprob>> beam_candidates;  // of the running beams, in this round

  std::vector<Sample*> samples;  // that have not ended; owned by the engine
  std::int32_t num_unfinished_samples = 0;
  std::vector<CompletionOutput> finished_outputs;
  std::vector<TokenLogprobs> prompt_logprobs;
  std::int64_t num_output_tokens = 0;
  std::int64_t num_cached_tokens = 0;
  RequestTimings timings;
  RequestError error;
};

// Log-probabilities each sampled token needs: what was asked for, and what best_of ranks by.
std::int32_t num_sampled_logprobs(const SamplingParams& params);

// The finished request as it is handed out: the n best of best_of samples, in order of index.
RequestOutput make_request_output(RequestState& request);

}  // namespace llmrun
