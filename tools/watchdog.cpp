#include "tools/watchdog.h"

#include <algorithm>
#include <chrono>
#include <utility>

#include <fmt/format.h>
#include <poll.h>
#include <unistd.h>

#include "engine/core/error.h"
#include "tools/flag_checks.h"
#include "tools/terminal.h"

namespace llmrun {
namespace {

constexpr std::chrono::milliseconds kLookInterval{50};
constexpr double kMaxLookSeconds = 0.2;  // more has passed only while the process did not run
constexpr int kStderrPatienceMs = 1000;

}  // namespace

void add_stall_timeout_option(CLI::App& command, double& seconds, const std::string& description,
                              const std::string& group) {
  command.add_option("--stall-timeout", seconds, description)
      ->check(number_from(0.0, 1e9))
      ->group(group)
      ->capture_default_str();
}

void add_stall_timeout_option(CLI::App& command, double& seconds, const std::string& group) {
  add_stall_timeout_option(command, seconds,
                           "Seconds that a step may take without any progress, ten times as many "
                           "for the first; then the run ends with what is finished (0: any time)",
                           group);
}

Watchdog::Watchdog(const SignalWatcher& signals, Options options)
    : signals_(signals),
      options_(std::move(options)),
      thread_([this](const std::stop_token& stopped) { run(stopped); }) {}

Watchdog::~Watchdog() = default;

void Watchdog::run(const std::stop_token& stopped) {
  block_signals();
  auto before = std::chrono::steady_clock::now();
  while (true) {
    {
      std::unique_lock lock(mutex_);
      wake_.wait_for(lock, stopped, kLookInterval, [] { return false; });
    }
    if (stopped.stop_requested()) return;
    const auto now = std::chrono::steady_clock::now();
    const double seconds =
        std::min(std::chrono::duration<double>(now - before).count(), kMaxLookSeconds);
    before = now;
    if (check_step(seconds) || check_stop(seconds)) return;
  }
}

bool Watchdog::check_step(double seconds) {
  if (!options_.progress) return false;
  const StepProgress::State now = options_.progress();
  const bool stands_still =
      now.seconds > 0 && now.num_ended == last_.num_ended && now.work == last_.work;
  last_ = now;
  stalled_s_ = stands_still ? stalled_s_ + seconds : 0;
  const double limit_s = step_limit_s(now, options_.stall_timeout_s);
  if (stalled_s_ <= limit_s) return false;
  end(fmt::format("step {} has made no progress for {:g} s (--stall-timeout {:g}): the device or "
                  "its driver hangs, or needs more time than that",
                  now.num_ended + 1, limit_s, options_.stall_timeout_s),
      exit_code(ErrorKind::kDevice));
  return true;
}

bool Watchdog::check_stop(double seconds) {
  const StopRequest request = signals_.stop_request();
  if (request == StopRequest::kNone) return false;
  const double allowed_s =
      options_.grace_s + (request == StopRequest::kDrain ? options_.drain_timeout_s : 0);
  time_to_stop_s_ = std::min(time_to_stop_s_.value_or(allowed_s), allowed_s) - seconds;
  if (*time_to_stop_s_ > 0) return false;
  end(last_.seconds > 0
          ? fmt::format("ended in the middle of step {}, which did not end in time to stop",
                        last_.num_ended + 1)
          : "ended by force: the run did not stop in time",
      exit_code_of_signal(signals_.first_signal()));
  return true;
}

void Watchdog::end(const std::string& reason, int exit_code) {
  std::string text = "llmrun: error: " + reason;
  if (options_.on_end) text += "; " + options_.on_end();
  text += "\n";
  // A line that is drawn there stays; and it may be a pipe that nobody reads.
  if (::isatty(STDERR_FILENO) != 0) text.insert(0, "\n");
  pollfd descriptor{.fd = STDERR_FILENO, .events = POLLOUT, .revents = 0};
  if (::poll(&descriptor, 1, kStderrPatienceMs) > 0) write_to_stderr(text);
  if (options_.end_process) {
    options_.end_process(exit_code);
  } else {
    ::_exit(exit_code);
  }
}

}  // namespace llmrun
