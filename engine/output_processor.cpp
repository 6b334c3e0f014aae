#include "engine/output_processor.h"

#include <algorithm>
#include <utility>

#include "engine/core/error.h"
#include "engine/core/utf8.h"

namespace llmrun {
namespace {

bool contains(std::span<const TokenId> ids, TokenId id) {
  return std::find(ids.begin(), ids.end(), id) != ids.end();
}

}  // namespace

TokenLogprobs to_token_logprobs(const std::vector<TokenLogprob>& sampled) {
  TokenLogprobs result;
  if (sampled.empty()) return result;
  const TokenLogprob& chosen = sampled.front();
  result.token_id = chosen.token_id;
  result.logprob = chosen.logprob;
  result.rank = chosen.rank;
  result.top.reserve(sampled.size() - 1);
  for (const TokenLogprob& best : std::span(sampled).subspan(1)) {
    result.top.push_back({best.token_id, best.logprob, best.rank});
  }
  return result;
}

OutputProcessor::OutputProcessor(const Tokenizer* tokenizer, const SamplingParams& params,
                                 std::span<const TokenId> eos_token_ids, std::int32_t index,
                                 std::int64_t max_output_tokens)
    : tokenizer_(params.detokenize ? tokenizer : nullptr),
      params_(&params),
      eos_token_ids_(eos_token_ids),
      max_output_tokens_(max_output_tokens),
      stop_matcher_(params.stop, params.include_stop_str_in_output) {
  LLMRUN_CHECK(max_output_tokens >= 1);
  output_.index = index;
  if (tokenizer_ != nullptr) {
    decoder_.emplace(*tokenizer_,
                     IncrementalDecoderOptions{.skip_special_tokens = params.skip_special_tokens,
                                               .continues_text = true});
  }
}

FinishReason OutputProcessor::append(const SampledToken& sampled) {
  LLMRUN_CHECK(output_.finish_reason == FinishReason::kNone && sampled.token_id >= 0);
  record(sampled);
  const std::int64_t num_tokens = std::ssize(output_.token_ids);
  const bool may_stop = num_tokens > params_->min_tokens;
  const bool is_eos = !params_->ignore_eos && contains(eos_token_ids_, sampled.token_id);
  if (may_stop && (is_eos || contains(params_->stop_token_ids, sampled.token_id))) {
    if (!is_eos) output_.stop_token_id = sampled.token_id;
    if (params_->include_stop_str_in_output) append_text(sampled.token_id, false);
    end(FinishReason::kStop);
  } else if (append_text(sampled.token_id, may_stop)) {
    end(FinishReason::kStop);
  } else if (num_tokens >= max_output_tokens_) {
    end(FinishReason::kLength);
  }
  return output_.finish_reason;
}

void OutputProcessor::record(const SampledToken& sampled) {
  output_.token_ids.push_back(sampled.token_id);
  if (sampled.logprobs.empty()) return;
  output_.has_cumulative_logprob = true;
  output_.cumulative_logprob += static_cast<double>(sampled.logprobs.front().logprob);
  if (params_->logprobs) output_.logprobs.push_back(to_token_logprobs(sampled.logprobs));
}

bool OutputProcessor::append_text(TokenId token, bool may_stop) {
  if (!decoder_) return false;
  const std::string text = decoder_->append(token);
  if (const auto stop = stop_matcher_.append(text, may_stop, output_.text)) {
    output_.stop_string = *stop;
    return true;
  }
  return may_stop && !params_->stop.empty() && tokenizer_->is_byte_token(token) &&
         match_held_text();
}

// A run of byte tokens is held back by the decoder until it ends. A stop string that is complete in
// it ("\n" is a byte token in Llama 2's vocabulary) ends the sample now, not a token later.
bool OutputProcessor::match_held_text() {
  const std::string held = IncrementalDecoder(*decoder_).finish();
  if (held.empty() || held.find(kReplacementCharacter) != held.npos) return false;
  std::string certain;
  const auto stop = StopMatcher(stop_matcher_).append(held, true, certain);
  if (!stop) return false;
  output_.text += certain;
  output_.stop_string = *stop;
  return true;
}

void OutputProcessor::end(FinishReason reason) {
  output_.finish_reason = reason;
  if (!decoder_ || !output_.stop_string.empty()) return;  // nothing comes after a stop string
  stop_matcher_.append(decoder_->finish(), false, output_.text);
  stop_matcher_.finish(output_.text);
}

CompletionOutput OutputProcessor::take() {
  LLMRUN_CHECK(output_.finish_reason != FinishReason::kNone);
  return std::move(output_);
}

CompletionOutput OutputProcessor::finish(FinishReason reason) {
  LLMRUN_CHECK(output_.finish_reason == FinishReason::kNone && reason != FinishReason::kNone);
  end(reason);
  return take();
}

}  // namespace llmrun
