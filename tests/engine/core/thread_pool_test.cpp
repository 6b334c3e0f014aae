#include "engine/core/thread_pool.h"

#include <chrono>
#include <deque>
#include <stdexcept>

#include <doctest/doctest.h>

namespace llmrun {

TEST_CASE("parallel_for runs each task once, on threads of the pool") {
  for (const std::int32_t num_threads : {1, 2, 3, 8}) {
    ThreadPool pool({.num_threads = num_threads});
    CHECK(pool.num_threads() == num_threads);
    for (const std::int64_t num_tasks : {0, 1, 2, 7, 1000}) {
      std::vector<std::atomic<int>> runs(static_cast<std::size_t>(num_tasks));
      std::atomic<bool> valid_threads{true};
      pool.parallel_for(num_tasks, [&](std::int64_t task, std::int32_t thread) {
        runs[static_cast<std::size_t>(task)].fetch_add(1);
        if (thread < 0 || thread >= num_threads) valid_threads = false;
      });
      CHECK(valid_threads);
      for (const auto& count : runs) CHECK(count == 1);
    }
  }
}

TEST_CASE("a thread has its index to itself during a loop") {
  ThreadPool pool({.num_threads = 4});
  std::vector<std::int64_t> sums(4 * 16);  // plain memory: a shared index would be a data race
  for (int loop = 0; loop < 200; ++loop) {
    pool.parallel_for(50, [&](std::int64_t task, std::int32_t thread) {
      sums[static_cast<std::size_t>(thread) * 16] += task;
    });
  }
  std::int64_t total = 0;
  for (const std::int64_t sum : sums) total += sum;
  CHECK(total == 200 * (49 * 50 / 2));
}

TEST_CASE("writes of one loop are seen by the next") {
  ThreadPool pool({.num_threads = 3});
  std::vector<std::int64_t> values(64, 0);
  for (int loop = 0; loop < 5000; ++loop) {
    pool.parallel_for(64, [&](std::int64_t task, std::int32_t) {
      // Each loop reads what another thread may have written in the loop before.
      if (loop % 2 == 0) {
        values[static_cast<std::size_t>(task)] += 1;
      } else {
        values[static_cast<std::size_t>(63 - task)] += 1;
      }
    });
  }
  for (const std::int64_t value : values) CHECK(value == 5000);
}

TEST_CASE("parallel_ranges covers the items in ranges of the grain") {
  ThreadPool pool({.num_threads = 2});
  for (const std::int64_t count : {1, 5, 10, 11}) {
    std::vector<std::atomic<int>> runs(static_cast<std::size_t>(count));
    std::atomic<bool> small_enough{true};
    pool.parallel_ranges(count, 5, [&](std::int64_t begin, std::int64_t end, std::int32_t) {
      if (end - begin > 5 || begin >= end) small_enough = false;
      for (std::int64_t i = begin; i < end; ++i) runs[static_cast<std::size_t>(i)].fetch_add(1);
    });
    CHECK(small_enough);
    for (const auto& n : runs) CHECK(n == 1);
  }
}

TEST_CASE("the first exception reaches the caller and the pool lives on") {
  ThreadPool pool({.num_threads = 3});
  for (int round = 0; round < 50; ++round) {
    CHECK_THROWS_AS(pool.parallel_for(100,
                                      [&](std::int64_t task, std::int32_t) {
                                        if (task % 10 == 3) throw std::runtime_error("task");
                                      }),
                    std::runtime_error);
    std::atomic<int> runs{0};
    pool.parallel_for(100, [&](std::int64_t, std::int32_t) { runs.fetch_add(1); });
    CHECK(runs == 100);
  }
}

TEST_CASE("threads that fell asleep wake up") {
  ThreadPool pool({.num_threads = 4, .spin_us = 1});
  std::atomic<int> runs{0};
  for (int round = 0; round < 20; ++round) {
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
    pool.parallel_for(4, [&](std::int64_t, std::int32_t) {
      std::this_thread::sleep_for(std::chrono::microseconds(200));
      runs.fetch_add(1);
    });
  }
  CHECK(runs == 80);
}

// A thread that is late for a short loop must not take a task of the longer one that follows.
TEST_CASE("a longer loop after a shorter one runs each task once") {
  ThreadPool pool({.num_threads = 4});
  std::vector<std::atomic<std::int32_t>> runs(64);
  bool each_once = true;
  for (int round = 0; round < 100000; ++round) {
    pool.parallel_for(2, [&](std::int64_t, std::int32_t) {});
    pool.parallel_for(64, [&](std::int64_t task, std::int32_t) {
      runs[static_cast<std::size_t>(task)].fetch_add(1, std::memory_order_relaxed);
    });
    for (std::atomic<std::int32_t>& count : runs) {
      each_once = each_once && count.exchange(0, std::memory_order_relaxed) == 1;
    }
  }
  CHECK(each_once);
}

TEST_CASE("run_team calls the function once a thread and waits for all who came") {
  for (const std::int64_t max_threads : {1, 2, 5, 100}) {
    ThreadPool pool({.num_threads = 4});
    bool at_most_once = true;
    bool within_limit = true;
    for (int round = 0; round < 2000; ++round) {
      std::vector<std::int64_t> calls(4 * 16);  // plain memory: a late call would be a data race
      pool.run_team(max_threads, [&](std::int32_t thread) {
        calls[static_cast<std::size_t>(thread) * 16] += 1;
      });
      at_most_once = at_most_once && calls[0] == 1;
      for (std::int64_t thread = 0; thread < 4; ++thread) {
        const std::int64_t count = calls[static_cast<std::size_t>(thread) * 16];
        at_most_once = at_most_once && count <= 1;
        within_limit = within_limit && (thread < max_threads || count == 0);
      }
    }
    CHECK(at_most_once);
    CHECK(within_limit);
  }
}

// A thread that sees a loop open and is held up must find it closed, not call its function.
TEST_CASE("nobody calls the function of a loop that has ended") {
  ThreadPool pool({.num_threads = 16, .spin_us = 1});
  std::atomic<bool> was_late{false};
  struct Loop {
    std::atomic<bool>& was_late;
    std::atomic<bool> has_ended{false};
    void operator()(std::int32_t) {
      if (has_ended) was_late = true;
    }
  };
  std::deque<Loop> loops;  // they outlive their calls
  for (int round = 0; round < 20000; ++round) {
    Loop& loop = loops.emplace_back(was_late);
    pool.run_team(16, loop);
    loop.has_ended = true;
  }
  CHECK(!was_late);
}

TEST_CASE("many more threads than processors still finish") {
  ThreadPool pool({.num_threads = 32});
  std::atomic<std::int64_t> runs{0};
  for (int round = 0; round < 300; ++round) {
    pool.parallel_for(40, [&](std::int64_t, std::int32_t) { runs.fetch_add(1); });
  }
  CHECK(runs == 300 * 40);
}

}  // namespace llmrun
