#include "tools/api_client/send_queue.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

namespace llmrun {
namespace {

constexpr double kFirstRetryDelay = 0.5;  // seconds; twice as long after each attempt
constexpr double kMaxRetryDelay = 60;
constexpr std::int32_t kMaxDoublings = 16;

}  // namespace

std::optional<std::size_t> SendQueue::next(double now_s) {
  while (!retries_.empty() && retries_.top().at_s <= now_s) {
    waiting_.push_back(retries_.top().index);
    retries_.pop();
  }
  if (waiting_.empty() || !may_send(now_s)) return std::nullopt;
  const std::size_t index = waiting_.front();
  waiting_.pop_front();
  if (limits_.queries_per_second > 0) {
    next_query_s_ = std::max(next_query_s_, now_s) + 1 / limits_.queries_per_second;
  }
  if (limits_.batch_size > 0) --num_left_in_batch_;
  ++num_under_way_;
  return index;
}

bool SendQueue::is_full() const {
  if (limits_.max_concurrency > 0 && num_under_way_ >= limits_.max_concurrency) return true;
  return limits_.batch_size > 0 && num_left_in_batch_ == 0 && num_under_way_ > 0;
}

bool SendQueue::may_send(double now_s) {
  if (is_full() || (limits_.queries_per_second > 0 && now_s < next_query_s_)) return false;
  if (limits_.batch_size > 0 && num_left_in_batch_ == 0) num_left_in_batch_ = limits_.batch_size;
  return true;
}

bool SendQueue::end(std::size_t index, bool can_retry, std::int32_t num_attempts,
                    double retry_after_s, double now_s) {
  --num_under_way_;
  if (!can_retry || num_attempts > limits_.num_retries) return false;
  const std::int32_t doublings = std::clamp(num_attempts - 1, 0, kMaxDoublings);
  const double delay_s = std::max(retry_after_s, std::ldexp(kFirstRetryDelay, doublings));
  retries_.push({now_s + std::min(delay_s, kMaxRetryDelay), index});
  return true;
}

double SendQueue::wakes_at_s(double now_s) const {
  double at_s = std::numeric_limits<double>::infinity();
  if (is_full()) return at_s;
  if (!retries_.empty()) at_s = retries_.top().at_s;
  if (!waiting_.empty() && limits_.queries_per_second > 0) {
    at_s = std::min(at_s, std::max(next_query_s_, now_s));
  }
  return at_s;
}

void SendQueue::erase_if(const std::function<bool(std::size_t)>& matches) {
  std::erase_if(waiting_, matches);
  std::vector<Retry> kept;
  for (; !retries_.empty(); retries_.pop()) {
    if (!matches(retries_.top().index)) kept.push_back(retries_.top());
  }
  retries_ = decltype(retries_)(std::greater<>(), std::move(kept));
}

}  // namespace llmrun
