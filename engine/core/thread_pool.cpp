#include "engine/core/thread_pool.h"

#include <chrono>
#include <limits>

#include <pthread.h>
#include <sched.h>

#include "engine/core/cpu_info.h"
#include "engine/core/error.h"

namespace llmrun {
namespace {

constexpr std::uint32_t kShutDown = 1;                 // epochs of loops are even
constexpr std::uint32_t kNothingToClaim = 0xffffffff;  // a task number that no loop has

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

ThreadPool::ThreadPool(const ThreadPoolOptions& options) : spin_us_(options.spin_us) {
  const std::int32_t num_threads =
      options.num_threads > 0 ? options.num_threads : default_num_threads();
  workers_.reserve(static_cast<std::size_t>(num_threads - 1));
  for (std::int32_t thread = 1; thread < num_threads; ++thread) {
    workers_.emplace_back([this, thread, pin = options.pin] {
      if (pin) pin_current_thread(thread);
      work(thread);
    });
  }
}

ThreadPool::~ThreadPool() {
  epoch_.fetch_or(kShutDown, std::memory_order_release);
  epoch_.notify_all();
  for (std::thread& worker : workers_) worker.join();
}

void ThreadPool::run(std::int64_t num_tasks, void* function, TaskFunction call) {
  LLMRUN_CHECK(num_tasks <= std::numeric_limits<std::int32_t>::max());
  const std::uint32_t epoch = epoch_.load(std::memory_order_relaxed) + 2;
  // A thread that is late for the last loop may be about to claim a task of it. It must not get one
  // that only exists because num_tasks_ has grown, so first of all nothing can be claimed any more;
  // who sees one of the new values below sees that too.
  claim_.store(static_cast<std::uint64_t>(epoch) << 32 | kNothingToClaim,
               std::memory_order_relaxed);
  function_.store(function, std::memory_order_release);
  call_.store(call, std::memory_order_release);
  num_tasks_.store(static_cast<std::uint32_t>(num_tasks), std::memory_order_release);
  num_done_.store(0, std::memory_order_relaxed);
  claim_.store(static_cast<std::uint64_t>(epoch) << 32, std::memory_order_release);
  epoch_.store(epoch, std::memory_order_release);
  epoch_.notify_all();

  run_tasks(epoch, 0);
  std::uint32_t done = num_done_.load(std::memory_order_acquire);
  while (done != num_tasks) done = wait_while(num_done_, done);

  if (failed_.load(std::memory_order_acquire)) {
    const std::lock_guard lock(failure_mutex_);
    failed_.store(false, std::memory_order_relaxed);
    std::rethrow_exception(std::exchange(failure_, nullptr));
  }
}

void ThreadPool::work(std::int32_t thread) {
  std::uint32_t seen = 0;
  while (true) {
    seen = wait_while(epoch_, seen);
    if ((seen & kShutDown) != 0) return;
    run_tasks(seen, thread);
  }
}

void ThreadPool::run_tasks(std::uint32_t epoch, std::int32_t thread) {
  std::uint32_t num_done = 0;
  std::uint32_t num_tasks = 0;
  std::uint64_t claim = claim_.load(std::memory_order_acquire);
  while (true) {
    // What is read here belongs to `epoch` if the exchange below succeeds: this loop cannot have
    // ended before the task it claims is done.
    num_tasks = num_tasks_.load(std::memory_order_acquire);
    void* function = function_.load(std::memory_order_acquire);
    const TaskFunction call = call_.load(std::memory_order_acquire);
    const auto task = static_cast<std::uint32_t>(claim);
    if (claim >> 32 != epoch || task >= num_tasks) break;
    if (!claim_.compare_exchange_weak(claim, claim + 1, std::memory_order_acq_rel,
                                      std::memory_order_acquire)) {
      continue;
    }
    claim += 1;
    if (!failed_.load(std::memory_order_relaxed)) {
      try {
        call(function, task, thread);
      } catch (...) {
        const std::lock_guard lock(failure_mutex_);
        if (!failure_) failure_ = std::current_exception();
        failed_.store(true, std::memory_order_release);
      }
    }
    ++num_done;
  }
  if (num_done == 0) return;
  const std::uint32_t before = num_done_.fetch_add(num_done, std::memory_order_acq_rel);
  if (before + num_done == num_tasks) num_done_.notify_one();
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
