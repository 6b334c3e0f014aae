// How a run is asked to stop: SIGINT, SIGTERM and SIGHUP.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>

namespace llmrun {

enum class StopRequest : std::uint8_t {
  kNone,
  kDrain,  // first signal: finish what is under way
  kAbort,  // second: give up what is under way, write what is finished
};         // a third ends the process at once, where nothing else is asked for

// While it lives, the signals above are counted instead of ending the process, and SIGPIPE and
// SIGXFSZ are ignored, so that a write fails with an error instead. Calls that wait are interrupted
// (EINTR). One at a time in a process.
class SignalWatcher {
 public:
  // The signal of this number in a row ends the process at once.
  explicit SignalWatcher(int num_to_end = 3);
  ~SignalWatcher();  // restores what was before
  SignalWatcher(const SignalWatcher&) = delete;
  SignalWatcher& operator=(const SignalWatcher&) = delete;

  StopRequest stop_request() const;
  // The number of the first signal; 0: none. A run that it stopped exits with 128 plus it.
  int first_signal() const;
  // Readable once a signal has come; for poll().
  int fd() const;
};

// For the calling thread: signals are for one that may be waiting for input.
void block_signals();

// The exit code of a run that a signal stopped: 130 for SIGINT, 143 for SIGTERM and SIGHUP.
int exit_code_of_signal(int signal_number);

}  // namespace llmrun
