#include "tools/signals.h"

#include <cerrno>
#include <csignal>
#include <string>
#include <vector>

#include <doctest/doctest.h>
#include <poll.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/tools/input/text_files.h"
#include "tools/output/output_file.h"

namespace llmrun {
namespace {

bool is_readable(int fd) {
  pollfd readable{.fd = fd, .events = POLLIN, .revents = 0};
  return ::poll(&readable, 1, 0) == 1;
}

// The wait status of a child that runs `body`.
template <typename Body>
int run_child(const Body& body) {
  const pid_t child = ::fork();
  REQUIRE(child >= 0);
  if (child == 0) {
    body();
    ::_exit(0);
  }
  int status = 0;
  REQUIRE(::waitpid(child, &status, 0) == child);
  return status;
}

TEST_CASE("the first signal drains, the second aborts") {
  for (const int number : {SIGINT, SIGTERM, SIGHUP}) {
    const SignalWatcher watcher;
    CHECK(watcher.stop_request() == StopRequest::kNone);
    CHECK(watcher.first_signal() == 0);
    CHECK(!is_readable(watcher.fd()));
    ::raise(number);
    CHECK(watcher.stop_request() == StopRequest::kDrain);
    CHECK(watcher.first_signal() == number);
    CHECK(is_readable(watcher.fd()));
    ::raise(SIGTERM);
    CHECK(watcher.stop_request() == StopRequest::kAbort);
    CHECK(watcher.first_signal() == number);
  }
}

TEST_CASE("the third signal ends the process at once") {
  const auto status = [](int number) {
    return run_child([number] {
      const SignalWatcher watcher;
      ::raise(number);
      ::raise(number);
      ::raise(number);
    });
  };
  CHECK(WEXITSTATUS(status(SIGINT)) == 130);
  CHECK(WEXITSTATUS(status(SIGTERM)) == 143);
  CHECK(WEXITSTATUS(status(SIGHUP)) == 143);
}

TEST_CASE("what was before is restored") {
  const auto handlers = [] {
    std::vector<void*> list;
    for (const int number : {SIGINT, SIGTERM, SIGHUP, SIGPIPE, SIGXFSZ}) {
      struct sigaction action {};
      ::sigaction(number, nullptr, &action);
      list.push_back(reinterpret_cast<void*>(action.sa_handler));
    }
    return list;
  };
  const auto before = handlers();
  {
    const SignalWatcher watcher;
    CHECK(handlers() != before);
  }
  CHECK(handlers() == before);
}

TEST_CASE("signals that were ignored stay ignored") {
  ::signal(SIGHUP, SIG_IGN);  // as nohup does
  {
    const SignalWatcher watcher;
    ::raise(SIGHUP);
    CHECK(watcher.stop_request() == StopRequest::kNone);
  }
  ::signal(SIGHUP, SIG_DFL);
}

TEST_CASE("a call that waits is interrupted") {
  const SignalWatcher watcher;
  int ends[2];
  REQUIRE(::pipe(ends) == 0);
  const pid_t parent = ::getpid();
  const pid_t child = ::fork();
  if (child == 0) {
    ::usleep(50'000);
    ::kill(parent, SIGINT);
    ::_exit(0);
  }
  char byte = 0;
  const ssize_t count = ::read(ends[0], &byte, 1);
  const int error_number = errno;
  CHECK(count == -1);
  CHECK(error_number == EINTR);
  CHECK(watcher.stop_request() == StopRequest::kDrain);
  ::waitpid(child, nullptr, 0);
  ::close(ends[0]);
  ::close(ends[1]);
}

TEST_CASE("a closed pipe and a file size limit are errors, not the end") {
  const TemporaryFolder folder;
  const std::string path = folder / "out";
  const int status = run_child([&path] {
    const SignalWatcher watcher;
    int ends[2];
    if (::pipe(ends) != 0) ::_exit(1);
    ::close(ends[0]);
    if (::write(ends[1], "x", 1) != -1 || errno != EPIPE) ::_exit(2);
    const rlimit limit{10, 10};
    ::setrlimit(RLIMIT_FSIZE, &limit);
    const auto file = open_output({.path = path});
    if (file->write("1234567890") != 10) ::_exit(3);
    if (file->write("x") != -EFBIG) ::_exit(4);
  });
  CHECK(WIFEXITED(status));
  CHECK(WEXITSTATUS(status) == 0);
}

}  // namespace
}  // namespace llmrun
