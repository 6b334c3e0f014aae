// Which request goes next to a server: limits on rate and concurrency, groups, and second attempts.
// Knows neither clocks nor connections; times are seconds since any start.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <optional>
#include <queue>
#include <vector>

namespace llmrun {

struct SendLimits {
  std::int32_t max_concurrency = 0;  // under way at once; 0: any number
  double queries_per_second = 0;     // sent at most so often, evenly; 0: any
  std::int32_t batch_size = 0;       // sent in groups, each after the one before ended; 0: none
  std::int32_t num_retries = 0;      // of one request
};

class SendQueue {
 public:
  explicit SendQueue(const SendLimits& limits) : limits_(limits) {}

  // The request of this number is to be sent once the limits let it.
  void push(std::size_t index) { waiting_.push_back(index); }
  // The next that may go now, which is under way from here on; nothing: none may.
  std::optional<std::size_t> next(double now_s);
  // A request under way ended, after `num_attempts` in all. Returns whether it will be sent again:
  // it failed in a way that may pass, and has attempts left. Then it waits as long as the server
  // wishes, else half a second, doubled with each attempt, at most a minute.
  bool end(std::size_t index, bool can_retry, std::int32_t num_attempts, double retry_after_s,
           double now_s);
  // When next() may find one although nothing ends until then; infinity: never.
  double wakes_at_s(double now_s) const;
  // Takes out what waits, second attempts included, where `matches` says so.
  void erase_if(const std::function<bool(std::size_t)>& matches);

  std::int64_t num_under_way() const { return num_under_way_; }
  std::int64_t num_waiting() const { return std::ssize(waiting_) + std::ssize(retries_); }
  bool is_idle() const { return num_under_way_ == 0 && num_waiting() == 0; }

 private:
  struct Retry {
    double at_s;
    std::size_t index;
    bool operator>(const Retry& other) const { return at_s > other.at_s; }
  };
  // Only an end makes room.
  bool is_full() const;
  bool may_send(double now_s);

  SendLimits limits_;
  std::deque<std::size_t> waiting_;
  std::priority_queue<Retry, std::vector<Retry>, std::greater<>> retries_;
  std::int64_t num_under_way_ = 0;
  double next_query_s_ = 0;
  std::int32_t num_left_in_batch_ = 0;
};

}  // namespace llmrun
