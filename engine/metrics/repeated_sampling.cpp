#include "engine/metrics/repeated_sampling.h"

#include <algorithm>
#include <cstddef>
#include <numeric>

#include "engine/core/error.h"

namespace llmrun {
namespace {

// Row n of Pascal's triangle. Exact below 2^53, else as exact as doubles are; n <= 1000 fits.
std::vector<double> binomials(std::int32_t n) {
  std::vector<double> row(static_cast<std::size_t>(n) + 1, 1.0);
  for (std::int32_t k = 1; k <= n; ++k) {
    row[static_cast<std::size_t>(k)] = row[static_cast<std::size_t>(k - 1)] * (n - k + 1) / k;
  }
  return row;
}

// Ways to draw answers that are not right: by how many are drawn and how many wrong answers have
// exactly `leader` of them, while none has more.
class Draws {
 public:
  Draws(std::int32_t max_drawn, std::int32_t leader)
      : leader_(leader),
        num_drawn_(static_cast<std::size_t>(max_drawn) + 1),
        num_tied_(static_cast<std::size_t>(max_drawn / leader) + 1),
        ways_(num_drawn_ * num_tied_) {
    ways_[0] = 1;
  }

  // One more answer that was given `count` times. One with a vote can tie; one without cannot lead.
  void add(std::int32_t count, bool has_vote) {
    const std::vector<double> choose = binomials(count);
    const std::int32_t most = has_vote ? std::min(count, leader_) : count;
    std::vector<double> next(ways_.size());
    for (std::size_t drawn = 0; drawn < num_drawn_; ++drawn) {
      for (std::size_t tied = 0; tied < num_tied_; ++tied) {
        const double ways = at(drawn, tied);
        if (ways == 0) continue;
        for (std::size_t more = 0; more <= static_cast<std::size_t>(most); ++more) {
          const bool ties = has_vote && more == static_cast<std::size_t>(leader_);
          if (drawn + more >= num_drawn_ || tied + (ties ? 1 : 0) >= num_tied_) break;
          next[(drawn + more) * num_tied_ + tied + (ties ? 1 : 0)] += ways * choose[more];
        }
      }
    }
    ways_ = std::move(next);
  }

  // Each way weighted by the share that the right answer has in the lead.
  double weighted_ways(std::size_t drawn) const {
    double sum = 0;
    for (std::size_t tied = 0; tied < num_tied_; ++tied) {
      sum += at(drawn, tied) / static_cast<double>(tied + 1);
    }
    return sum;
  }

 private:
  double at(std::size_t drawn, std::size_t tied) const { return ways_[drawn * num_tied_ + tied]; }

  std::int32_t leader_;
  std::size_t num_drawn_;
  std::size_t num_tied_;
  std::vector<double> ways_;
};

struct Leaders {
  std::int32_t first = 0;
  std::int32_t second = 0;
};

Leaders leaders_of(std::span<const std::int32_t> votes) {
  Leaders leaders;
  for (const std::int32_t count : votes) {
    leaders.second = std::max(leaders.second, std::min(count, leaders.first));
    leaders.first = std::max(leaders.first, count);
  }
  return leaders;
}

}  // namespace

std::int32_t AnswerCounts::num_samples() const {
  return std::accumulate(wrong.begin(), wrong.end(), right + none);
}

std::vector<double> pass_at_k(const AnswerCounts& counts) {
  const std::int32_t n = counts.num_samples();
  std::vector<double> result;
  double all_wrong = 1;  // C(n - right, k) / C(n, k), as a product
  for (std::int32_t k = 1; k <= n; ++k) {
    all_wrong *= std::max(0.0, static_cast<double>(n - counts.right - k + 1) / (n - k + 1));
    result.push_back(1 - all_wrong);
  }
  return result;
}

std::vector<double> majority_at_k(const AnswerCounts& counts) {
  const std::int32_t n = counts.num_samples();
  const std::vector<double> choose_all = binomials(n);
  const std::vector<double> choose_right = binomials(counts.right);
  std::vector<double> result(static_cast<std::size_t>(n));
  for (std::int32_t leader = 1; leader <= counts.right; ++leader) {
    Draws others(n - leader, leader);
    for (const std::int32_t count : counts.wrong) others.add(count, true);
    others.add(counts.none, false);
    for (std::int32_t k = leader; k <= n; ++k) {
      result[static_cast<std::size_t>(k - 1)] +=
          choose_right[static_cast<std::size_t>(leader)] *
          others.weighted_ways(static_cast<std::size_t>(k - leader)) /
          choose_all[static_cast<std::size_t>(k)];
    }
  }
  return result;
}

bool is_vote_decided(std::span<const std::int32_t> votes, std::int32_t num_missing) {
  const Leaders leaders = leaders_of(votes);
  return num_missing == 0 || leaders.first - leaders.second > num_missing;
}

std::int32_t votes_needed(std::span<const std::int32_t> votes, std::int32_t num_missing) {
  if (is_vote_decided(votes, num_missing)) return 0;
  // If all go to the leader: first + m - second > num_missing - m.
  const Leaders leaders = leaders_of(votes);
  const std::int32_t lead = leaders.first - leaders.second;
  return std::min(num_missing, (num_missing - lead) / 2 + 1);
}

}  // namespace llmrun
