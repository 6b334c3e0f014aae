// Watchdog: ends the process when nothing else can any more: a step of the engine that never ends,
// or a stop that was asked for and does not come. What is finished is saved first.
//
// It has a thread of its own that waits for nobody. Seconds are those in which the process ran: one
// that was stopped (Ctrl-Z) and goes on has not been idle.
#pragma once

#include <chrono>
#include <condition_variable>
#include <functional>
#include <mutex>
#include <optional>
#include <stop_token>
#include <string>
#include <thread>

#include <CLI/CLI.hpp>

#include "engine/step_progress.h"
#include "tools/signals.h"

namespace llmrun {

// --stall-timeout, with what it means to the command.
void add_stall_timeout_option(CLI::App& command, double& seconds, const std::string& description,
                              const std::string& group);
// The same with the meaning that it has to every command that ends then.
void add_stall_timeout_option(CLI::App& command, double& seconds, const std::string& group);

class Watchdog {
 public:
  struct Options {
    // Of the steps that must get on, asked from the watchdog's thread; empty: there are none.
    std::function<StepProgress::State()> progress = nullptr;
    double stall_timeout_s = kStallTimeoutSeconds;  // as step_limit_s()
    // The run ends by itself this long after the first signal, and at once after the second; what
    // is added to both, since a step takes its time.
    double drain_timeout_s = 0;
    double grace_s = 3.0;
    // Called on the watchdog's thread before the process ends, and must not wait for ever: saves
    // what there is and returns what the user should know.
    std::function<std::string()> on_end = nullptr;
    std::function<void(int exit_code)> end_process = nullptr;  // default: _exit(); for tests
  };

  // `signals` and what the options name must outlive it.
  Watchdog(const SignalWatcher& signals, Options options);
  ~Watchdog();
  Watchdog(const Watchdog&) = delete;
  Watchdog& operator=(const Watchdog&) = delete;

 private:
  void run(const std::stop_token& stopped);
  // Whether a step stands still, or the stop is overdue, after `seconds` more. Ends the process.
  bool check_step(double seconds);
  bool check_stop(double seconds);
  void end(const std::string& reason, int exit_code);

  const SignalWatcher& signals_;
  Options options_;

  // Of the watchdog's thread.
  StepProgress::State last_;
  double stalled_s_ = 0;
  std::optional<double> time_to_stop_s_;  // once a signal has come

  std::mutex mutex_;
  std::condition_variable_any wake_;
  std::jthread thread_;  // last: it uses the others
};

}  // namespace llmrun
