#include "tools/serve_bench/load_run.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <ctime>
#include <deque>
#include <queue>
#include <utility>

#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>

namespace llmrun {
namespace {

namespace asio = boost::asio;
using Clock = std::chrono::steady_clock;

constexpr double kProgressInterval = 0.25;  // seconds
constexpr double kFirstKvInterval = 0.02;   // seconds; twice as long each time there are too many
constexpr std::size_t kMaxKvSamples = 512;
constexpr double kFirstRetryDelay = 0.5;  // seconds; twice as long after each attempt
constexpr double kMaxRetryDelay = 60;

double thread_cpu_seconds() {
  timespec time{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
  return static_cast<double>(time.tv_sec) + 1e-9 * static_cast<double>(time.tv_nsec);
}

class LoadRun : public BenchListener {
 public:
  LoadRun(asio::io_context& context, BenchTarget& target, const std::vector<BenchRequest>& requests,
          const LoadOptions& options, Progress* progress)
      : context_(context),
        target_(target),
        requests_(requests),
        options_(options),
        progress_(progress),
        timer_(context),
        progress_timer_(context),
        kv_timer_(context),
        records_(requests.size()) {}

  LoadMeasurement run() {
    const double cpu_before = thread_cpu_seconds();
    context_.restart();
    const auto work = asio::make_work_guard(context_);
    start_ = Clock::now();
    for (std::size_t i = 0; i < records_.size(); ++i)
      records_[i].arrival_s = options_.arrivals_s[i];
    show_progress();
    sample_kv_usage();
    send_due();
    while (!is_over()) context_.run_one();
    is_stopped_ = true;
    timer_.cancel();
    progress_timer_.cancel();
    kv_timer_.cancel();
    context_.poll();  // their handlers, while this object lives
    if (progress_ != nullptr) progress_->finish();
    LoadMeasurement measurement;
    measurement.thread_cpu_s = thread_cpu_seconds() - cpu_before;
    for (const RequestRecord& record : records_) {
      measurement.elapsed_s = std::max(measurement.elapsed_s, record.ended_s);
    }
    measurement.records = std::move(records_);
    measurement.kv_usage = std::move(kv_usage_);
    return measurement;
  }

  void on_tokens(std::size_t index, std::int32_t num_tokens, Time time) override {
    RequestRecord& record = records_[index];
    record.piece_times_s.push_back(seconds(time));
    record.piece_tokens.push_back(num_tokens);
  }

  // Maybe on the target's thread: what the load's thread owns is touched there alone.
  void on_end(std::size_t index, BenchOutcome outcome, Time time) override {
    asio::post(context_, [this, index, outcome = std::move(outcome), time]() mutable {
      end(index, std::move(outcome), seconds(time));
    });
  }

 private:
  struct Retry {
    double at_s;
    std::size_t index;
    bool operator>(const Retry& other) const { return at_s > other.at_s; }
  };

  double seconds(Time time) const { return std::chrono::duration<double>(time - start_).count(); }
  double now() const { return seconds(Clock::now()); }

  bool is_over() const {
    return num_in_flight_ == 0 && waiting_.empty() && retries_.empty() &&
           next_arrival_ == records_.size();
  }

  // Sends what has arrived and may go, and sleeps until the next that will.
  void send_due() {
    const double now_s = now();
    take_arrivals(now_s);
    while (!waiting_.empty() && may_send(now_s)) {
      const std::size_t index = waiting_.front();
      waiting_.pop_front();
      send(index);
    }
    sleep(now_s);
  }

  void take_arrivals(double now_s) {
    while (!retries_.empty() && retries_.top().at_s <= now_s) {
      waiting_.push_back(retries_.top().index);
      retries_.pop();
    }
    while (next_arrival_ < records_.size() && records_[next_arrival_].arrival_s <= now_s &&
           records_[next_arrival_].arrival_s < options_.duration_s) {
      waiting_.push_back(next_arrival_++);
    }
    if (now_s < options_.duration_s && (next_arrival_ == records_.size() ||
                                        records_[next_arrival_].arrival_s < options_.duration_s)) {
      return;
    }
    next_arrival_ = records_.size();  // the time is over: nothing new
    if (now_s >= options_.duration_s) {
      std::erase_if(waiting_, [&](std::size_t index) { return !records_[index].was_sent(); });
    }
  }

  bool may_send(double now_s) {
    if (options_.max_concurrency > 0 && num_in_flight_ >= options_.max_concurrency) return false;
    if (options_.queries_per_second > 0 && now_s < next_query_s_) return false;
    if (options_.batch_size > 0 && num_left_in_batch_ == 0) {
      if (num_in_flight_ > 0) return false;
      num_left_in_batch_ = options_.batch_size;
    }
    return true;
  }

  void send(std::size_t index) {
    RequestRecord& record = records_[index];
    const double now_s = now();
    if (record.num_attempts++ == 0) record.sent_s = now_s;
    record.piece_times_s.clear();
    record.piece_tokens.clear();
    record.piece_times_s.reserve(static_cast<std::size_t>(requests_[index].output_len));
    record.piece_tokens.reserve(static_cast<std::size_t>(requests_[index].output_len));
    if (options_.queries_per_second > 0) {
      next_query_s_ = std::max(next_query_s_, now_s) + 1 / options_.queries_per_second;
    }
    if (options_.batch_size > 0) --num_left_in_batch_;
    ++num_in_flight_;
    target_.send(index, requests_[index], *this);
  }

  void sleep(double now_s) {
    double next_s = std::numeric_limits<double>::infinity();
    if (next_arrival_ < records_.size()) next_s = records_[next_arrival_].arrival_s;
    if (!retries_.empty()) next_s = std::min(next_s, retries_.top().at_s);
    if (!waiting_.empty() && options_.queries_per_second > 0) {
      next_s = std::min(next_s, std::max(next_query_s_, now_s));
    }
    if (!waiting_.empty()) next_s = std::min(next_s, options_.duration_s);
    if (std::isinf(next_s) || next_s == wakes_at_s_) return;
    wakes_at_s_ = next_s;
    timer_.expires_at(start_ + std::chrono::duration_cast<Clock::duration>(
                                   std::chrono::duration<double>(next_s)));
    timer_.async_wait([this](const boost::system::error_code& error) {
      if (error || is_stopped_) return;
      wakes_at_s_ = -1;
      send_due();
    });
  }

  void end(std::size_t index, BenchOutcome outcome, double ended_s) {
    RequestRecord& record = records_[index];
    --num_in_flight_;
    const bool failed = !outcome.failure.empty();
    if (failed && outcome.can_retry && record.num_attempts <= options_.num_retries) {
      const double delay_s =
          std::max(outcome.retry_after_s, std::ldexp(kFirstRetryDelay, record.num_attempts - 1));
      retries_.push({ended_s + std::min(delay_s, kMaxRetryDelay), index});
    } else {
      record.outcome = std::move(outcome);
      record.ended_s = ended_s;
      ++num_done_;
      if (failed) ++num_failed_;
      num_output_tokens_ += std::ssize(record.piece_times_s);
    }
    send_due();
  }

  void show_progress() {
    if (progress_ == nullptr) return;
    progress_->update({.num_done = num_done_,
                       .num_failed = num_failed_,
                       .num_total = std::ssize(records_),
                       .num_running = num_in_flight_,
                       .num_waiting = std::ssize(waiting_),
                       .output_tokens = num_output_tokens_},
                      now());
    progress_timer_.expires_after(std::chrono::duration_cast<Clock::duration>(
        std::chrono::duration<double>(kProgressInterval)));
    progress_timer_.async_wait([this](const boost::system::error_code& error) {
      if (!error && !is_stopped_) show_progress();
    });
  }

  void sample_kv_usage() {
    if (!options_.kv_usage) return;
    if (kv_usage_.size() == kMaxKvSamples) {  // every other one is enough from now on
      for (std::size_t i = 0; i < kMaxKvSamples / 2; ++i) kv_usage_[i] = kv_usage_[2 * i];
      kv_usage_.resize(kMaxKvSamples / 2);
      kv_interval_s_ *= 2;
    }
    kv_usage_.push_back({now(), options_.kv_usage()});
    kv_timer_.expires_after(
        std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(kv_interval_s_)));
    kv_timer_.async_wait([this](const boost::system::error_code& error) {
      if (!error && !is_stopped_) sample_kv_usage();
    });
  }

  asio::io_context& context_;
  BenchTarget& target_;
  const std::vector<BenchRequest>& requests_;
  const LoadOptions& options_;
  Progress* progress_;
  asio::steady_timer timer_;
  asio::steady_timer progress_timer_;
  asio::steady_timer kv_timer_;

  Clock::time_point start_;
  std::vector<RequestRecord> records_;
  bool is_stopped_ = false;
  double wakes_at_s_ = -1;  // what the timer waits for
  std::size_t next_arrival_ = 0;
  std::deque<std::size_t> waiting_;  // arrived, not sent
  std::priority_queue<Retry, std::vector<Retry>, std::greater<>> retries_;
  std::int64_t num_in_flight_ = 0;
  std::int64_t num_done_ = 0;
  std::int64_t num_failed_ = 0;
  std::int64_t num_output_tokens_ = 0;  // of answered requests
  double next_query_s_ = 0;
  std::int32_t num_left_in_batch_ = 0;
  std::vector<KvUsage> kv_usage_;
  double kv_interval_s_ = kFirstKvInterval;
};

}  // namespace

LoadMeasurement run_load(asio::io_context& context, BenchTarget& target,
                         const std::vector<BenchRequest>& requests, const LoadOptions& options,
                         Progress* progress) {
  return LoadRun(context, target, requests, options, progress).run();
}

}  // namespace llmrun
