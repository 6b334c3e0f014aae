#include "engine/beam_search.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <utility>

#include "engine/core/error.h"

namespace llmrun {
namespace {

// A beam of the step before with one token more.
struct Proposal {
  std::size_t parent;
  BeamSearch::Token token;
  double cumulative_logprob;
};

// The first `count`, or all when there are fewer.
std::span<const TokenLogprob> first_of(const std::vector<TokenLogprob>& candidates,
                                       std::int32_t count) {
  return std::span(candidates).first(std::min(candidates.size(), static_cast<std::size_t>(count)));
}

BeamSearch::Beam extend(const BeamSearch::Beam& parent, const Proposal& proposal) {
  BeamSearch::Beam beam = parent;
  beam.tokens.push_back(proposal.token);
  beam.cumulative_logprob = proposal.cumulative_logprob;
  beam.parent = static_cast<std::int32_t>(proposal.parent);
  return beam;
}

}  // namespace

std::vector<TokenId> BeamSearch::Beam::token_ids() const {
  std::vector<TokenId> ids;
  ids.reserve(tokens.size());
  for (const Token& token : tokens) ids.push_back(token.chosen.token_id);
  return ids;
}

BeamSearch::BeamSearch(Options options) : options_(std::move(options)), running_(1) {
  LLMRUN_CHECK(options_.width >= 1 && options_.max_output_tokens >= 1);
}

void BeamSearch::advance(std::span<const std::vector<TokenLogprob>> candidates) {
  LLMRUN_CHECK(!is_finished() && candidates.size() == running_.size());
  std::vector<Proposal> proposals;
  for (std::size_t parent = 0; parent < running_.size(); ++parent) {
    std::shared_ptr<const std::vector<TokenLogprob>> likeliest;
    if (options_.num_logprobs > 0) {
      const auto kept = first_of(candidates[parent], options_.num_logprobs);
      likeliest = std::make_shared<std::vector<TokenLogprob>>(kept.begin(), kept.end());
    }
    for (const TokenLogprob& token : first_of(candidates[parent], num_proposed())) {
      if (!std::isfinite(token.logprob)) continue;  // impossible, not merely unlikely
      const Proposal proposal{
          parent,
          {token, likeliest},
          running_[parent].cumulative_logprob + static_cast<double>(token.logprob)};
      if (ends(token.token_id)) {
        complete(extend(running_[parent], proposal), FinishReason::kStop);
      } else {
        proposals.push_back(proposal);
      }
    }
  }
  // All have one length, so that the order of sums is the order of scores. Stable: ties go to the
  // better parent, then to the likelier token.
  std::stable_sort(proposals.begin(), proposals.end(), [](const Proposal& a, const Proposal& b) {
    return a.cumulative_logprob > b.cumulative_logprob;
  });
  proposals.resize(std::min(proposals.size(), static_cast<std::size_t>(options_.width)));
  std::vector<Beam> next;
  next.reserve(proposals.size());
  for (const Proposal& proposal : proposals) {
    next.push_back(extend(running_[proposal.parent], proposal));
  }
  running_ = std::move(next);
  finish_if_decided();
}

void BeamSearch::finish_if_decided() {
  if (running_.empty()) return;
  if (std::ssize(running_.front().tokens) >= options_.max_output_tokens) {
    for (Beam& beam : running_) complete(std::move(beam), FinishReason::kLength);
    running_.clear();
    return;
  }
  const bool has_enough = std::ssize(completed_) >= options_.width;
  if (has_enough && (options_.early_stopping || result_is_final())) running_.clear();
}

void BeamSearch::complete(Beam beam, FinishReason reason) {
  beam.finish_reason = reason;
  const double beam_score = score(beam);
  const auto place = std::find_if(completed_.begin(), completed_.end(),
                                  [&](const Beam& other) { return score(other) < beam_score; });
  completed_.insert(place, std::move(beam));
  if (std::ssize(completed_) > options_.width) completed_.pop_back();
}

bool BeamSearch::result_is_final() const {
  const double worst = score(completed_.back());
  // Log-probabilities only add to the loss; of the lengths that are still possible, the penalty
  // favours either the greatest or the one the beam has.
  const std::int64_t num_tokens = std::ssize(running_.front().tokens);
  const std::int64_t best_length =
      options_.length_penalty >= 0 ? options_.max_output_tokens : num_tokens;
  return std::all_of(running_.begin(), running_.end(), [&](const Beam& beam) {
    return score_of(beam.cumulative_logprob, best_length) <= worst;
  });
}

std::vector<BeamSearch::Beam> BeamSearch::best() const {
  std::vector<Beam> result = completed_;
  result.insert(result.end(), running_.begin(), running_.end());
  std::stable_sort(result.begin(), result.end(),
                   [this](const Beam& a, const Beam& b) { return score(a) > score(b); });
  if (std::ssize(result) > options_.width) {
    result.resize(static_cast<std::size_t>(options_.width));
  }
  return result;
}

double BeamSearch::score(const Beam& beam) const {
  const bool ended = beam.finish_reason == FinishReason::kStop;
  return score_of(beam.cumulative_logprob, std::ssize(beam.tokens) - (ended ? 1 : 0));
}

double BeamSearch::score_of(double cumulative_logprob, std::int64_t num_output_tokens) const {
  const std::int64_t length =
      std::max<std::int64_t>(options_.num_prompt_tokens + num_output_tokens, 1);
  return cumulative_logprob / std::pow(static_cast<double>(length), options_.length_penalty);
}

bool BeamSearch::ends(TokenId token) const {
  return std::find(options_.end_token_ids.begin(), options_.end_token_ids.end(), token) !=
         options_.end_token_ids.end();
}

}  // namespace llmrun
