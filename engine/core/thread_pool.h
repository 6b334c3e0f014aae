// ThreadPool: threads that wait for the next parallel loop with as little delay as the machine
// allows. A step of a small model is a few hundred loops of some tens of microseconds, so waiting
// threads spin for a moment before they sleep, and a loop begins and ends without a word of memory
// that all threads write: who enters and leaves says so in a cache line of its own. A loop ends
// when its tasks are done, not when all threads have taken part: on a machine with more runnable
// threads than processors a thread that is not running delays nobody.
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
  // skipped).
  template <typename F>
  void parallel_for(std::int64_t num_tasks, F&& fn) {
    if (num_tasks <= 1 || workers_.empty()) {
      for (std::int64_t task = 0; task < num_tasks; ++task) fn(task, std::int32_t{0});
      return;
    }
    next_task_.store(0, std::memory_order_relaxed);
    run_team(num_tasks, [&](std::int32_t thread) {
      while (!failed_.load(std::memory_order_relaxed)) {
        const std::int64_t task = next_task_.fetch_add(1, std::memory_order_relaxed);
        if (task >= num_tasks) return;
        fn(task, thread);
      }
    });
  }

  // Calls fn(thread) once on the calling thread, which is thread 0, and on each other thread below
  // max_threads that comes while fn(0) runs. Any of them may be missing: fn shares the work out
  // itself, so that those who come do all of it. Returns when all have returned; rethrows the first
  // exception.
  template <typename F>
  void run_team(std::int64_t max_threads, F&& fn) {
    using Function = std::remove_reference_t<F>;
    if (max_threads <= 1 || workers_.empty()) {
      fn(std::int32_t{0});
      return;
    }
    run(max_threads, const_cast<void*>(static_cast<const void*>(&fn)),
        [](void* function, std::int32_t thread) { (*static_cast<Function*>(function))(thread); });
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
  using TeamFunction = void (*)(void* function, std::int32_t thread);

  // A thread beside the calling one.
  struct alignas(64) Worker {
    // Number of the loop that the thread is in or about to enter; 0: none.
    std::atomic<std::uint32_t> inside{0};
    std::thread thread;
  };

  void run(std::int64_t max_threads, void* function, TeamFunction call);
  void work(Worker& worker, std::int32_t thread);
  void call_function(std::int32_t thread);
  // Waits, spinning then sleeping, while `value` is `old`; returns what it became.
  std::uint32_t wait_while(const std::atomic<std::uint32_t>& value, std::uint32_t old) const;

  const std::int32_t spin_us_;

  // What a thread reads to enter a loop. The number is odd while the loop is open to more threads
  // and goes up by one when it is closed.
  struct alignas(64) Loop {
    std::atomic<std::uint32_t> number{0};
    std::atomic<std::int32_t> max_threads{0};
    void* function = nullptr;  // these two belong to who is inside
    TeamFunction call = nullptr;
  };
  Loop loop_;
  alignas(64) std::atomic<std::int64_t> next_task_{0};
  alignas(64) std::atomic<bool> failed_{false};
  std::atomic<bool> shut_down_{false};

  std::mutex failure_mutex_;
  std::exception_ptr failure_;  // guarded by failure_mutex_
  std::vector<Worker> workers_;
};

}  // namespace llmrun
