// What N answers to the same question say about k of them.
//
// pass@k: the chance that one of k answers is right. maj@k: the chance that the most frequent of
// k answers is right. Both are exact means over all subsets of k of the N answers, so that one run
// of N gives every k <= N without bias and with the least variance (pass@k: Chen et al. 2021,
// arXiv:2107.03374, section 2.1).
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace llmrun {

// The answers to one question, counted by what they say.
struct AnswerCounts {
  std::int32_t right = 0;           // say what is right
  std::vector<std::int32_t> wrong;  // one count for each wrong answer that was given
  std::int32_t none = 0;            // hold no answer: they are drawn, but have no vote

  std::int32_t num_samples() const;
};

// For k = 1 .. N, N = num_samples(). REQUIRES: no negative count.
std::vector<double> pass_at_k(const AnswerCounts& counts);
// The same. Where several answers are the most frequent, each of them counts with an equal share.
std::vector<double> majority_at_k(const AnswerCounts& counts);

// Whether further votes can change which answer leads: false once the leader's margin is larger
// than the votes that are missing. `votes` are the counts so far.
bool is_vote_decided(std::span<const std::int32_t> votes, std::int32_t num_missing);
// The least number of further votes, at most `num_missing`, after which is_vote_decided can hold.
std::int32_t votes_needed(std::span<const std::int32_t> votes, std::int32_t num_missing);

}  // namespace llmrun
