#include "engine/backend/cpu/penalty_state.h"

#include <algorithm>
#include <cmath>
#include <cstddef>

#include "engine/core/error.h"

namespace llmrun {

PenaltyState::PenaltyState(std::span<const TokenId> prompt_tokens,
                           std::span<const TokenId> output_tokens) {
  entries_.reserve(prompt_tokens.size() + output_tokens.size());
  for (const TokenId token : prompt_tokens) entries_.push_back({token, 0});
  for (const TokenId token : output_tokens) entries_.push_back({token, 1});
  sort_and_merge();
}

void PenaltyState::sort_and_merge() {
  std::sort(entries_.begin(), entries_.end(),
            [](const Entry& a, const Entry& b) { return a.token < b.token; });
  std::size_t num_kept = 0;
  for (const Entry& entry : entries_) {
    if (num_kept > 0 && entries_[num_kept - 1].token == entry.token) {
      entries_[num_kept - 1].output_count += entry.output_count;
    } else {
      entries_[num_kept++] = entry;
    }
  }
  entries_.resize(num_kept);
}

void PenaltyState::count_output_token(TokenId token) {
  const auto at =
      std::lower_bound(entries_.begin(), entries_.end(), token,
                       [](const Entry& entry, TokenId value) { return entry.token < value; });
  if (at != entries_.end() && at->token == token) {
    ++at->output_count;
  } else {
    entries_.insert(at, {token, 1});
  }
}

void PenaltyState::apply(std::span<float> logits, const SamplingRow& row) const {
  for (const Entry& entry : entries_) {
    LLMRUN_CHECK(entry.token >= 0 && static_cast<std::size_t>(entry.token) < logits.size());
    float& logit = logits[static_cast<std::size_t>(entry.token)];
    logit = logit > 0.0F ? logit / row.repetition_penalty : logit * row.repetition_penalty;
    if (entry.output_count == 0) continue;
    // An explicit fma: the same bits whether or not the compiler would contract the product.
    logit = std::fma(-row.frequency_penalty, static_cast<float>(entry.output_count), logit);
    logit -= row.presence_penalty;
  }
}

}  // namespace llmrun
