#include "engine/sequence/sequence.h"

#include <utility>

#include "engine/core/error.h"

namespace llmrun {

Sequence::Sequence(Options options)
    : options_(std::move(options)), token_ids_(options_.prompt_token_ids) {
  LLMRUN_CHECK(!options_.prompt_token_ids.empty());
  LLMRUN_CHECK(options_.max_output_tokens >= 1);
}

void Sequence::plan(std::int64_t num_new_tokens) {
  LLMRUN_CHECK(num_new_tokens >= 1 && num_new_tokens <= num_uncomputed_tokens());
  num_computed_tokens_ += num_new_tokens;
  if (num_uncomputed_tokens() == 0) ++num_pending_tokens_;
}

void Sequence::set_cached_prefix(std::int64_t num_tokens) {
  LLMRUN_CHECK(num_computed_tokens_ == 0 && num_tokens >= 0 && num_tokens < this->num_tokens());
  num_computed_tokens_ = num_tokens;
}

void Sequence::forget_computed() {
  LLMRUN_CHECK(num_steps_in_flight == 0 && num_pending_tokens_ == 0);
  num_computed_tokens_ = 0;
}

void Sequence::resolve_pending(TokenId token) {
  LLMRUN_CHECK(num_pending_tokens_ > 0);
  --num_pending_tokens_;
  token_ids_.push_back(token);
}

void Sequence::replace_output(std::span<const TokenId> output_token_ids,
                              std::int64_t num_computed_tokens) {
  LLMRUN_CHECK(num_steps_in_flight == 0 && num_pending_tokens_ == 0);
  token_ids_.resize(options_.prompt_token_ids.size());
  token_ids_.insert(token_ids_.end(), output_token_ids.begin(), output_token_ids.end());
  LLMRUN_CHECK(num_computed_tokens < num_tokens());
  num_computed_tokens_ = num_computed_tokens;
}

}  // namespace llmrun
