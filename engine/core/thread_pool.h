// ThreadPool: threads that wait for the next parallel loop with as little delay as the machine
// allows. A step of a small model is a few hundred loops of some tens of microseconds, so waiting
// threads spin for a moment before they sleep; a loop that starts meanwhile costs about a
// microsecond. A loop ends when its tasks are done, not when all threads have taken part: on a
// machine with more runnable threads than processors a thread that is not running delays nobody.
//
// One thread at a time starts loops, and a task does not start another loop on its own pool.
#pragma once

#include <atomic>
#include <cstdint>
#include <exception>
#include <mutex>
#include <thread>
#include <type_traits>
#include <utility>
#include <vector>

namespace llmrun {

struct ThreadPoolOptions {
  std::int32_t num_threads = 0;  // the calling thread included; 0: default_num_threads()
  bool pin = false;              // bind worker i to the i-th processor this process may use
  std::int32_t spin_us = 50;     // how long a waiting thread spins before it sleeps
};

class ThreadPool {
 public:
  explicit ThreadPool(const ThreadPoolOptions& options = {});
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  std::int32_t num_threads() const { return static_cast<std::int32_t>(workers_.size()) + 1; }

  // Calls fn(task, thread) for 0 <= task < num_tasks, each task once, threads taking the next task
  // as they get free; 0 <= thread < num_threads() names who runs it, for its scratch memory.
  // Returns when all are done; rethrows the first exception of a task (tasks not yet begun are
  // skipped). num_tasks < 2^31.
  template <typename F>
  void parallel_for(std::int64_t num_tasks, F&& fn) {
    using Function = std::remove_reference_t<F>;
    if (num_tasks <= 0) return;
    if (num_tasks == 1 || workers_.empty()) {
      for (std::int64_t task = 0; task < num_tasks; ++task) fn(task, std::int32_t{0});
      return;
    }
    run(num_tasks, const_cast<void*>(static_cast<const void*>(&fn)),
        [](void* function, std::int64_t task, std::int32_t thread) {
          (*static_cast<Function*>(function))(task, thread);
        });
  }

  // Calls fn(begin, end, thread) over [0, count) in ranges of `grain` items, the last may be
  // shorter.
  template <typename F>
  void parallel_ranges(std::int64_t count, std::int64_t grain, F&& fn) {
    parallel_for((count + grain - 1) / grain, [&](std::int64_t task, std::int32_t thread) {
      const std::int64_t begin = task * grain;
      fn(begin, begin + grain < count ? begin + grain : count, thread);
    });
  }

 private:
  using TaskFunction = void (*)(void* function, std::int64_t task, std::int32_t thread);

  void run(std::int64_t num_tasks, void* function, TaskFunction call);
  void work(std::int32_t thread);
  void run_tasks(std::uint32_t epoch, std::int32_t thread);
  // Waits, spinning then sleeping, while `value` is `old`; returns what it became.
  std::uint32_t wait_while(const std::atomic<std::uint32_t>& value, std::uint32_t old) const;

  const std::int32_t spin_us_;

  // The loop in progress. A thread that comes late may read these while the next loop is being set
  // up; it then fails to claim a task, because the epoch in claim_ has moved on.
  std::atomic<void*> function_{nullptr};
  std::atomic<TaskFunction> call_{nullptr};
  std::atomic<std::uint32_t> num_tasks_{0};
  alignas(64) std::atomic<std::uint64_t> claim_{0};  // epoch << 32 | next task
  alignas(64) std::atomic<std::uint32_t> epoch_{0};  // what waiting threads watch; odd: shut down
  alignas(64) std::atomic<std::uint32_t> num_done_{0};
  alignas(64) std::atomic<bool> failed_{false};

  std::mutex failure_mutex_;
  std::exception_ptr failure_;  // guarded by failure_mutex_
  std::vector<std::thread> workers_;
};

}  // namespace llmrun
