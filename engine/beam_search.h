// Beam search: which beams go on with which token. Knows log-probabilities, not models.
//
// Each step every running beam proposes its 2 * width most likely tokens. A proposal that ends the
// text completes a beam; of the others, the `width` with the best scores run on. At the end the
// `width` best of all completed and running beams are the result.
//
// score = cumulative log-probability / length ^ length_penalty. Length counts the prompt and the
// output without an end-of-sequence token, as in vLLM (Hugging Face counts the output only).
// Source: vllm/beam_search.py, LLM.beam_search. The search ends as soon as no running beam can
// still enter the result, which changes nothing, or when `width` beams have completed and
// early_stopping asks for it.
#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "engine/backend/sampling_batch.h"
#include "engine/core/token_id.h"
#include "engine/sequence/request.h"

namespace llmrun {

class BeamSearch {
 public:
  struct Options {
    std::int32_t width = 1;  // beams that run, and that are returned
    std::int64_t num_prompt_tokens = 0;
    std::int64_t max_output_tokens = 0;  // >= 1
    double length_penalty = 1.0;
    bool early_stopping = false;
    std::vector<TokenId> end_token_ids = {};  // eos (unless ignore_eos) and stop tokens
    std::int32_t num_logprobs = 0;  // of the likeliest tokens of a position, kept with its token
  };

  struct Token {
    TokenLogprob chosen;
    // The num_logprobs likeliest tokens of its position, which all beams of one parent share; null
    // when none are kept.
    std::shared_ptr<const std::vector<TokenLogprob>> likeliest;
  };

  struct Beam {
    std::vector<Token> tokens;  // the output
    double cumulative_logprob = 0;
    FinishReason finish_reason = FinishReason::kNone;
    std::int32_t parent = 0;  // index among the running beams of the step before

    std::vector<TokenId> token_ids() const;
  };

  explicit BeamSearch(Options options);

  // Tokens that advance() wants to see of each beam.
  std::int32_t num_candidates() const { return std::max(num_proposed(), options_.num_logprobs); }

  // The beams whose next token is to be computed: at first one, without tokens. Empty when the
  // search is over.
  const std::vector<Beam>& running() const { return running_; }
  bool is_finished() const { return running_.empty(); }

  // One step. candidates[i] are the most likely next tokens of running()[i], best first;
  // num_candidates() of them, or the whole vocabulary. running() then holds the beams that go on,
  // best first: each is beam `parent` of before with one token more.
  void advance(std::span<const std::vector<TokenLogprob>> candidates);

  // The result, best first: `width` beams, or fewer when the vocabulary has no more. Beams that
  // still run when the search is not finished (aborted) are in it with their reason kNone.
  std::vector<Beam> best() const;

  double score(const Beam& beam) const;

 private:
  // Tokens that a beam proposes.
  std::int32_t num_proposed() const { return 2 * options_.width; }
  bool ends(TokenId token) const;
  void complete(Beam beam, FinishReason reason);
  void finish_if_decided();
  // Whether no running beam can still have a better score than the worst of the result.
  bool result_is_final() const;
  double score_of(double cumulative_logprob, std::int64_t num_output_tokens) const;

  Options options_;
  std::vector<Beam> running_;    // best first
  std::vector<Beam> completed_;  // best first, at most `width`
};

}  // namespace llmrun
