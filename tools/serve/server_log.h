// ServerLog: lines for stderr, written by a thread of its own. Whoever logs never waits for whoever
// reads the log.
#pragma once

#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <string>
#include <string_view>
#include <thread>

namespace llmrun {

class ServerLog {
 public:
  // `descriptor` must stay open while this object lives.
  explicit ServerLog(int descriptor);
  ~ServerLog();  // writes what there is, unless nobody reads
  ServerLog(const ServerLog&) = delete;
  ServerLog& operator=(const ServerLog&) = delete;

  // Adds "HH:MM:SS <text>". Control characters become '?'. Any thread. When more than 1 MiB waits
  // to be read, lines are dropped, and their number is told.
  void line(std::string_view text);

 private:
  void run();
  void write(std::string_view text);
  bool is_stopping();

  const int descriptor_;
  std::mutex mutex_;
  std::condition_variable came_;
  std::string waiting_;
  std::int64_t num_dropped_ = 0;
  bool stopping_ = false;
  std::thread thread_;
};

}  // namespace llmrun
