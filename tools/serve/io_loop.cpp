#include "tools/serve/io_loop.h"

#include <algorithm>
#include <iterator>
#include <utility>
#include <vector>

#include <boost/asio/post.hpp>

namespace llmrun {
namespace {

constexpr std::ptrdiff_t kPiecesOfATurn = 16;

}  // namespace

void IoLoop::run() {
  context_.run();
  std::deque<Work> dropped;  // destroyed without the lock
  const std::lock_guard lock(mutex_);
  has_ended_ = true;
  dropped.swap(waiting_);
}

void IoLoop::post(Work work) {
  {
    const std::lock_guard lock(mutex_);
    if (has_ended_) return;
    waiting_.push_back(std::move(work));
    if (std::exchange(is_scheduled_, true)) return;
  }
  boost::asio::post(context_, [this] { run_some(); });
}

void IoLoop::dispatch(Work work) {
  if (context_.get_executor().running_in_this_thread()) return work();
  post(std::move(work));
}

// What is left goes behind the events that have come meanwhile.
void IoLoop::run_some() {
  std::vector<Work> pieces;
  {
    const std::lock_guard lock(mutex_);
    const auto end = waiting_.begin() + std::min(kPiecesOfATurn, std::ssize(waiting_));
    pieces.assign(std::move_iterator(waiting_.begin()), std::move_iterator(end));
    waiting_.erase(waiting_.begin(), end);
  }
  for (Work& work : pieces) work();
  {
    const std::lock_guard lock(mutex_);
    is_scheduled_ = !waiting_.empty();
    if (!is_scheduled_) return;
  }
  boost::asio::post(context_, [this] { run_some(); });
}

}  // namespace llmrun
