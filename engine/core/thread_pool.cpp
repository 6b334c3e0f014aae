#include "engine/core/thread_pool.h"

#include <algorithm>
#include <chrono>

#include <pthread.h>
#include <sched.h>

#include "engine/core/cpu_info.h"
#include "engine/core/error.h"

namespace llmrun {
namespace {

void pause_briefly() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#else
  std::this_thread::yield();
#endif
}

// Best effort: a processor that cannot be had is not an error.
void pin_current_thread(std::int32_t index) {
  cpu_set_t allowed;
  if (sched_getaffinity(0, sizeof(allowed), &allowed) != 0) return;
  for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
    if (!CPU_ISSET(static_cast<std::size_t>(cpu), &allowed) || index-- > 0) continue;
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(static_cast<std::size_t>(cpu), &one);
    pthread_setaffinity_np(pthread_self(), sizeof(one), &one);
    return;
  }
}

}  // namespace

ThreadPool::ThreadPool(const ThreadPoolOptions& options)
    : spin_us_(options.spin_us),
      workers_(static_cast<std::size_t>(
          std::max(options.num_threads > 0 ? options.num_threads : default_num_threads(), 1) - 1)) {
  std::int32_t index = 0;
  for (Worker& worker : workers_) {
    ++index;
    worker.thread = std::thread([this, &worker, index, pin = options.pin] {
      if (pin) pin_current_thread(index);
      work(worker, index);
    });
  }
}

ThreadPool::~ThreadPool() {
  shut_down_.store(true, std::memory_order_relaxed);
  loop_.number.fetch_add(2, std::memory_order_release);
  loop_.number.notify_all();
  for (Worker& worker : workers_) worker.thread.join();
}

// A worker says that it is inside, then looks whether the loop is still open; the calling thread
// closes the loop, then looks who is inside. All four are sequentially consistent: either the
// worker sees the loop closed, or it is waited for. So are the stores before a notify, which must
// be seen before it looks whether anyone sleeps.
void ThreadPool::run(std::int64_t max_threads, void* function, TeamFunction call) {
  const std::uint32_t number = loop_.number.load(std::memory_order_relaxed) + 1;
  loop_.function = function;
  loop_.call = call;
  loop_.max_threads.store(
      static_cast<std::int32_t>(std::min<std::int64_t>(max_threads, num_threads())),
      std::memory_order_relaxed);
  loop_.number.store(number, std::memory_order_seq_cst);
  loop_.number.notify_all();

  call_function(0);
  loop_.number.store(number + 1, std::memory_order_seq_cst);
  for (const Worker& worker : workers_) {
    if (worker.inside.load(std::memory_order_seq_cst) == number) wait_while(worker.inside, number);
  }

  if (failed_.load(std::memory_order_acquire)) {
    const std::lock_guard lock(failure_mutex_);
    failed_.store(false, std::memory_order_relaxed);
    std::rethrow_exception(std::exchange(failure_, nullptr));
  }
}

void ThreadPool::work(Worker& worker, std::int32_t thread) {
  std::uint32_t seen = 0;
  while (true) {
    seen = wait_while(loop_.number, seen);
    if (shut_down_.load(std::memory_order_relaxed)) return;
    const bool is_open = seen % 2 == 1;
    if (!is_open || thread >= loop_.max_threads.load(std::memory_order_relaxed)) continue;
    worker.inside.store(seen, std::memory_order_seq_cst);
    if (loop_.number.load(std::memory_order_seq_cst) == seen) call_function(thread);
    worker.inside.store(0, std::memory_order_seq_cst);
    worker.inside.notify_one();
  }
}

void ThreadPool::call_function(std::int32_t thread) {
  try {
    loop_.call(loop_.function, thread);
  } catch (...) {
    const std::lock_guard lock(failure_mutex_);
    if (!failure_) failure_ = std::current_exception();
    failed_.store(true, std::memory_order_release);
  }
}

std::uint32_t ThreadPool::wait_while(const std::atomic<std::uint32_t>& value,
                                     std::uint32_t old) const {
  using Clock = std::chrono::steady_clock;
  constexpr int kPausesBetweenClockReads = 32;
  const Clock::time_point deadline = Clock::now() + std::chrono::microseconds(spin_us_);
  do {
    for (int i = 0; i < kPausesBetweenClockReads; ++i) {
      const std::uint32_t now = value.load(std::memory_order_acquire);
      if (now != old) return now;
      pause_briefly();
    }
  } while (Clock::now() < deadline);
  value.wait(old, std::memory_order_acquire);
  return value.load(std::memory_order_acquire);
}

}  // namespace llmrun
