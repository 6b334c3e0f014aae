#include "tools/serve_bench/load_run.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <ctime>
#include <optional>
#include <utility>

#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>

namespace llmrun {
namespace {

namespace asio = boost::asio;
using Clock = std::chrono::steady_clock;

constexpr const char* kInterrupted = "interrupted";
constexpr double kTickInterval = 0.25;     // seconds; of progress and of looking for signals
constexpr double kFirstKvInterval = 0.02;  // seconds; twice as long each time there are too many
constexpr std::size_t kMaxKvSamples = 512;

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
        tick_timer_(context),
        kv_timer_(context),
        queue_(options.limits),
        records_(requests.size()) {}

  LoadMeasurement run() {
    const double cpu_before = thread_cpu_seconds();
    context_.restart();
    const auto work = asio::make_work_guard(context_);
    start_ = Clock::now();
    for (std::size_t i = 0; i < records_.size(); ++i)
      records_[i].arrival_s = options_.arrivals_s[i];
    tick();
    sample_kv_usage();
    send_due();
    while (!is_over()) context_.run_one();
    is_finished_ = true;
    timer_.cancel();
    tick_timer_.cancel();
    kv_timer_.cancel();
    context_.poll();  // their handlers, while this object lives
    if (progress_ != nullptr) progress_->finish();
    LoadMeasurement measurement;
    measurement.was_stopped = stops_;
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
  double seconds(Time time) const { return std::chrono::duration<double>(time - start_).count(); }
  double now() const { return seconds(Clock::now()); }

  bool is_over() const { return queue_.is_idle() && next_arrival_ == records_.size(); }

  // Sends what has arrived and may go, and sleeps until the next that will.
  void send_due() {
    const double now_s = now();
    take_arrivals(now_s);
    while (const std::optional<std::size_t> index = queue_.next(now_s)) send(*index);
    sleep(now_s);
  }

  void take_arrivals(double now_s) {
    while (next_arrival_ < records_.size() && records_[next_arrival_].arrival_s <= now_s &&
           records_[next_arrival_].arrival_s < options_.duration_s) {
      queue_.push(next_arrival_++);
    }
    if (now_s < options_.duration_s && (next_arrival_ == records_.size() ||
                                        records_[next_arrival_].arrival_s < options_.duration_s)) {
      return;
    }
    next_arrival_ = records_.size();  // the time is over: nothing new
    if (now_s >= options_.duration_s) {
      queue_.erase_if([&](std::size_t index) { return !records_[index].was_sent(); });
    }
  }

  void send(std::size_t index) {
    RequestRecord& record = records_[index];
    if (record.num_attempts++ == 0) record.sent_s = now();
    record.piece_times_s.clear();
    record.piece_tokens.clear();
    record.piece_times_s.reserve(static_cast<std::size_t>(requests_[index].output_len));
    record.piece_tokens.reserve(static_cast<std::size_t>(requests_[index].output_len));
    target_.send(index, requests_[index], *this);
  }

  void sleep(double now_s) {
    double next_s = queue_.wakes_at_s(now_s);
    if (next_arrival_ < records_.size()) {
      next_s = std::min(next_s, records_[next_arrival_].arrival_s);
    }
    if (queue_.num_waiting() > 0 && now_s < options_.duration_s)
      next_s = std::min(next_s, options_.duration_s);
    if (std::isinf(next_s) || next_s == wakes_at_s_) return;
    wakes_at_s_ = next_s;
    timer_.expires_at(start_ + std::chrono::duration_cast<Clock::duration>(
                                   std::chrono::duration<double>(next_s)));
    timer_.async_wait([this](const boost::system::error_code& error) {
      if (error || is_finished_) return;
      wakes_at_s_ = -1;
      send_due();
    });
  }

  void end(std::size_t index, BenchOutcome outcome, double ended_s) {
    RequestRecord& record = records_[index];
    const bool failed = !outcome.failure.empty();
    const bool can_retry = failed && outcome.can_retry && !stops_;
    if (!queue_.end(index, can_retry, record.num_attempts, outcome.retry_after_s, ended_s)) {
      if (failed && aborts_) outcome.failure = kInterrupted;
      finish(index, std::move(outcome), ended_s);
    }
    send_due();
  }

  void finish(std::size_t index, BenchOutcome outcome, double ended_s) {
    RequestRecord& record = records_[index];
    if (!outcome.failure.empty()) ++num_failed_;
    record.outcome = std::move(outcome);
    record.ended_s = ended_s;
    ++num_done_;
    num_output_tokens_ += std::ssize(record.piece_times_s);
  }

  // What is done every now and then, whatever comes in.
  void tick() {
    check_stop();
    show_progress();
    tick_timer_.expires_after(
        std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(kTickInterval)));
    tick_timer_.async_wait([this](const boost::system::error_code& error) {
      if (!error && !is_finished_) tick();
    });
  }

  void check_stop() {
    const int level = options_.stop_level ? options_.stop_level() : 0;
    if (level == 0 || aborts_) return;
    if (!stops_) {
      stops_ = true;
      drain_deadline_s_ = now() + options_.drain_timeout_s;
      next_arrival_ = records_.size();
      drop_waiting();
    }
    if (level < 2 && now() < drain_deadline_s_) return;
    aborts_ = true;
    target_.abort_all();
  }

  // Those that never went out count as not sent, those that wait for another attempt as failed.
  void drop_waiting() {
    queue_.erase_if([&](std::size_t index) {
      if (!records_[index].was_sent()) return true;
      BenchOutcome outcome;
      outcome.failure = kInterrupted;
      outcome.message = "the run was stopped before another attempt";
      finish(index, std::move(outcome), now());
      return true;
    });
  }

  void show_progress() {
    if (progress_ == nullptr) return;
    progress_->update(
        {.num_done = num_done_,
         .num_failed = num_failed_,
         .num_total = std::ssize(records_),
         .num_running = queue_.num_under_way(),
         .num_waiting = queue_.num_waiting(),
         .prompt_tokens = std::nullopt,
         .output_tokens = num_output_tokens_,
         .kv_use = options_.kv_usage ? std::optional(options_.kv_usage()) : std::nullopt,
         .draining = stops_},
        now());
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
      if (!error && !is_finished_) sample_kv_usage();
    });
  }

  asio::io_context& context_;
  BenchTarget& target_;
  const std::vector<BenchRequest>& requests_;
  const LoadOptions& options_;
  Progress* progress_;
  asio::steady_timer timer_;
  asio::steady_timer tick_timer_;
  asio::steady_timer kv_timer_;
  SendQueue queue_;

  Clock::time_point start_;
  std::vector<RequestRecord> records_;
  bool is_finished_ = false;
  double wakes_at_s_ = -1;  // what the timer waits for
  std::size_t next_arrival_ = 0;
  bool stops_ = false;   // nothing more is sent
  bool aborts_ = false;  // what was under way has been given up
  double drain_deadline_s_ = 0;
  std::int64_t num_done_ = 0;
  std::int64_t num_failed_ = 0;
  std::int64_t num_output_tokens_ = 0;  // of answered requests
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
