// Another program, run as a user would: arguments, a file as standard input, output in files.
#pragma once

#include <chrono>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include <fcntl.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>

#include "engine/core/error.h"

namespace llmrun::testing {

inline std::string read_all(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

class ChildProcess {
 public:
  // Standard output and standard error go to `folder`/stdout and `folder`/stderr.
  ChildProcess(const std::vector<std::string>& command, const std::filesystem::path& folder,
               const std::filesystem::path& standard_input = "/dev/null")
      : folder_(folder) {
    std::vector<char*> arguments;
    for (const std::string& argument : command) {
      arguments.push_back(const_cast<char*>(argument.c_str()));
    }
    arguments.push_back(nullptr);
    const std::string out = (folder / "stdout").string();
    const std::string err = (folder / "stderr").string();
    pid_ = ::fork();
    LLMRUN_CHECK(pid_ >= 0);
    if (pid_ > 0) return;
    // A shell may have started the tests with signals ignored, as for jobs in its background.
    for (const int number : {SIGINT, SIGTERM, SIGHUP, SIGPIPE}) ::signal(number, SIG_DFL);
    redirect(standard_input.c_str(), O_RDONLY, STDIN_FILENO);
    redirect(out.c_str(), O_WRONLY | O_CREAT | O_TRUNC, STDOUT_FILENO);
    redirect(err.c_str(), O_WRONLY | O_CREAT | O_TRUNC, STDERR_FILENO);
    ::execv(arguments[0], arguments.data());
    ::_exit(127);
  }
  ~ChildProcess() {
    if (pid_ < 0) return;
    signal(SIGKILL);
    wait();
  }
  ChildProcess(const ChildProcess&) = delete;
  ChildProcess& operator=(const ChildProcess&) = delete;

  void signal(int number) const { ::kill(pid_, number); }

  // Stops its main thread while the others go on: to them it looks like one that waits for a device
  // that never answers. Signals are then for the others to take. False: the system lets nobody
  // trace a child.
  bool stop_main_thread() const {
    if (::ptrace(PTRACE_SEIZE, pid_, nullptr, nullptr) != 0) return false;
    LLMRUN_CHECK(::ptrace(PTRACE_INTERRUPT, pid_, nullptr, nullptr) == 0);
    int status = 0;
    return ::waitpid(pid_, &status, 0) == pid_ && WIFSTOPPED(status);
  }

  // The exit code, or 128 plus the signal that ended it.
  int wait() {
    int status = 0;
    LLMRUN_CHECK(::waitpid(std::exchange(pid_, -1), &status, 0) > 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  }
  // Whether it has ended; wait() then returns at once.
  bool has_ended() const {
    siginfo_t info{};
    return ::waitid(P_PID, static_cast<id_t>(pid_), &info, WEXITED | WNOHANG | WNOWAIT) == 0 &&
           info.si_pid == pid_;
  }

  std::string standard_output() const { return read_all(folder_ / "stdout"); }
  std::string standard_error() const { return read_all(folder_ / "stderr"); }

 private:
  static void redirect(const char* path, int flags, int target) {
    const int fd = ::open(path, flags, 0600);
    if (fd < 0 || ::dup2(fd, target) < 0) ::_exit(126);
    ::close(fd);
  }

  std::filesystem::path folder_;
  pid_t pid_ = -1;
};

}  // namespace llmrun::testing
