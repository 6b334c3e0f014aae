// IoLoop: the event loop of one I/O thread, and what other threads give it to do.
//
// That work is done a few pieces a turn. Thousands of answers that are ready at once would
// otherwise stand before everything that comes from a socket meanwhile, a question for /health
// among it.
#pragma once

#include <deque>
#include <functional>
#include <mutex>

#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>

namespace llmrun {

class IoLoop {
 public:
  using Work = std::function<void()>;

  boost::asio::io_context& context() { return context_; }

  // Handles events until finish() has been called and none can come any more; what is posted
  // afterwards is dropped.
  void run();
  void finish() { guard_.reset(); }

  // Both may be called from any thread and run `work` on the loop's: post() later, in the order of
  // the calls; dispatch() at once if this is the loop's thread.
  void post(Work work);
  void dispatch(Work work);

 private:
  void run_some();

  boost::asio::io_context context_{1};
  boost::asio::executor_work_guard<boost::asio::io_context::executor_type> guard_{
      context_.get_executor()};
  std::mutex mutex_;
  std::deque<Work> waiting_;
  bool is_scheduled_ = false;  // run_some() will come
  bool has_ended_ = false;
};

}  // namespace llmrun
