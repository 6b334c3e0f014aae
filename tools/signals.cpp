#include "tools/signals.h"

#include <array>
#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstdint>
#include <system_error>

#include <fmt/format.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "engine/core/error.h"

namespace llmrun {
namespace {

constexpr std::array kStopSignals = {SIGINT, SIGTERM, SIGHUP};
constexpr std::array kIgnoredSignals = {SIGPIPE, SIGXFSZ};

// A signal handler is given nothing but a number: what it touches cannot be a member.
struct State {
  std::atomic<int> num_signals = 0;
  std::atomic<int> num_to_end = 0;
  std::atomic<int> first_signal = 0;
  std::atomic<int> event_fd = -1;
  std::atomic<bool> in_use = false;
  std::array<struct sigaction, kStopSignals.size()> stop_actions;
  std::array<struct sigaction, kIgnoredSignals.size()> ignored_actions;
};
static_assert(std::atomic<int>::is_always_lock_free);
State g_state;

extern "C" void count_signal(int number) {
  const int saved_errno = errno;
  int none = 0;
  g_state.first_signal.compare_exchange_strong(none, number);
  if (g_state.num_signals.fetch_add(1) + 1 >= g_state.num_to_end.load())
    ::_exit(exit_code_of_signal(number));
  const std::uint64_t one = 1;
  // Nothing can be done here when it fails; stop_request() does not depend on it.
  if (::write(g_state.event_fd.load(), &one, sizeof(one)) < 0) errno = saved_errno;
  errno = saved_errno;
}

}  // namespace

int exit_code_of_signal(int signal_number) {
  return 128 + (signal_number == SIGINT ? SIGINT : SIGTERM);
}

void block_signals() {
  sigset_t all;
  sigfillset(&all);
  ::pthread_sigmask(SIG_BLOCK, &all, nullptr);
}

SignalWatcher::SignalWatcher(int num_to_end) {
  LLMRUN_CHECK(!g_state.in_use.exchange(true));
  const int fd = ::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  if (fd < 0) {
    const int error_number = errno;
    g_state.in_use = false;
    throw Error(ErrorKind::kInternal, fmt::format("cannot create an eventfd: {}",
                                                  std::generic_category().message(error_number)));
  }
  g_state.event_fd = fd;
  g_state.num_to_end = num_to_end;
  g_state.num_signals = 0;
  g_state.first_signal = 0;
  struct sigaction action {};
  sigemptyset(&action.sa_mask);
  action.sa_handler = count_signal;  // without SA_RESTART: a read of standard input ends
  for (std::size_t i = 0; i < kStopSignals.size(); ++i) {
    ::sigaction(kStopSignals[i], &action, &g_state.stop_actions[i]);
    // nohup and shells that start background jobs set these: then they stay ignored.
    if (g_state.stop_actions[i].sa_handler == SIG_IGN) {
      ::sigaction(kStopSignals[i], &g_state.stop_actions[i], nullptr);
    }
  }
  action.sa_handler = SIG_IGN;
  for (std::size_t i = 0; i < kIgnoredSignals.size(); ++i) {
    ::sigaction(kIgnoredSignals[i], &action, &g_state.ignored_actions[i]);
  }
}

SignalWatcher::~SignalWatcher() {
  for (std::size_t i = 0; i < kStopSignals.size(); ++i) {
    ::sigaction(kStopSignals[i], &g_state.stop_actions[i], nullptr);
  }
  for (std::size_t i = 0; i < kIgnoredSignals.size(); ++i) {
    ::sigaction(kIgnoredSignals[i], &g_state.ignored_actions[i], nullptr);
  }
  ::close(g_state.event_fd.exchange(-1));
  g_state.in_use = false;
}

StopRequest SignalWatcher::stop_request() const {
  const int count = g_state.num_signals.load();
  if (count == 0) return StopRequest::kNone;
  return count == 1 ? StopRequest::kDrain : StopRequest::kAbort;
}

int SignalWatcher::first_signal() const {
  return g_state.first_signal.load();
}

int SignalWatcher::fd() const {
  return g_state.event_fd.load();
}

}  // namespace llmrun
