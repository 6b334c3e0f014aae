#include "tools/serve/server_log.h"

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <climits>
#include <ctime>
#include <utility>

#include <fmt/format.h>
#include <poll.h>
#include <unistd.h>

#include "engine/core/counted.h"
#include "tools/terminal.h"

namespace llmrun {
namespace {

constexpr std::size_t kMaxWaitingBytes = 1 << 20;
constexpr auto kIdleTime = std::chrono::seconds(1);
constexpr auto kGatherTime = std::chrono::milliseconds(20);  // one write for many lines
constexpr int kPatienceMs = 1000;

std::string clock_time() {
  const std::time_t now = std::time(nullptr);
  std::tm local{};
  localtime_r(&now, &local);
  return fmt::format("{:02}:{:02}:{:02} ", local.tm_hour, local.tm_min, local.tm_sec);
}

}  // namespace

ServerLog::ServerLog(int descriptor) : descriptor_(descriptor), thread_([this] { run(); }) {}

ServerLog::~ServerLog() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  came_.notify_one();
  thread_.join();
}

void ServerLog::line(std::string_view text) {
  std::string line = clock_time() + printable(text);
  std::replace(line.begin(), line.end(), '\n', '?');
  line += '\n';
  bool was_empty = false;
  {
    const std::lock_guard lock(mutex_);
    if (waiting_.size() + line.size() > kMaxWaitingBytes) {
      num_dropped_ += 1;
      return;
    }
    was_empty = waiting_.empty();
    waiting_ += line;
  }
  if (was_empty) came_.notify_one();
}

void ServerLog::run() {
  std::unique_lock lock(mutex_);
  for (;;) {
    if (!came_.wait_for(lock, kIdleTime, [this] { return stopping_ || !waiting_.empty(); }))
      continue;
    if (!stopping_) came_.wait_for(lock, kGatherTime, [this] { return stopping_; });
    std::string text = std::exchange(waiting_, {});
    if (const auto dropped = std::exchange(num_dropped_, 0); dropped > 0) {
      text += fmt::format("{}{} dropped: it is not read\n", clock_time(),
                          counted(dropped, "line of the log was", "lines of the log were"));
    }
    const bool is_last = stopping_;
    lock.unlock();
    write(text);
    if (is_last) return;
    lock.lock();
  }
}

bool ServerLog::is_stopping() {
  const std::lock_guard lock(mutex_);
  return stopping_;
}

// Waits as long as nobody reads, but not at the end.
void ServerLog::write(std::string_view text) {
  while (!text.empty()) {
    pollfd descriptor{.fd = descriptor_, .events = POLLOUT, .revents = 0};
    const int ready = ::poll(&descriptor, 1, kPatienceMs);
    if (ready < 0 && errno == EINTR) continue;
    if (ready == 0 && !is_stopping()) continue;
    if (ready <= 0 || (descriptor.revents & (POLLERR | POLLNVAL)) != 0) return;
    // A pipe that is ready takes this much without waiting.
    const ssize_t count =
        ::write(descriptor_, text.data(), std::min<std::size_t>(text.size(), PIPE_BUF));
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) return;
    text.remove_prefix(static_cast<std::size_t>(count));
  }
}

}  // namespace llmrun
