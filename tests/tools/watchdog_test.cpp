// What a watchdog ends, and what it leaves alone.
#include "tools/watchdog.h"

#include <atomic>
#include <chrono>
#include <csignal>
#include <future>
#include <memory>
#include <string>

#include <doctest/doctest.h>

namespace llmrun {
namespace {

using namespace std::chrono_literals;  // NOLINT
using Clock = std::chrono::steady_clock;

// A watchdog over steps that the test makes up, and what it did.
class Watched {
 public:
  explicit Watched(Watchdog::Options options) {
    options.progress = [this] { return look(); };
    options.on_end = [this] {
      saved_ = true;
      return "saved";
    };
    options.end_process = [this](int exit_code) {
      if (saved_) ended_.set_value(exit_code);
    };
    watchdog_ = std::make_unique<Watchdog>(signals_, std::move(options));
  }

  // The exit code, once it has ended the process.
  int exit_code() {
    REQUIRE(future_.wait_for(60s) == std::future_status::ready);
    return future_.get();
  }
  bool has_ended_within(std::chrono::milliseconds time) {
    return future_.wait_for(time) == std::future_status::ready;
  }

  StepProgress steps;
  std::atomic<bool> works = false;  // within the step

 private:
  StepProgress::State look() {
    if (works) ++work_;
    StepProgress::State state = steps.state();
    state.work = work_;
    return state;
  }

  const SignalWatcher signals_;
  std::atomic<bool> saved_ = false;
  std::promise<int> ended_;
  std::future<int> future_ = ended_.get_future();
  std::uint64_t work_ = 0;  // of the watchdog's thread
  std::unique_ptr<Watchdog> watchdog_;
};

TEST_CASE("R11: a step that makes no progress ends the run, which is saved before") {
  Watched watched({.stall_timeout_s = 0.1});
  watched.steps.begin();
  watched.steps.end();
  CHECK_FALSE(watched.has_ended_within(300ms));  // there is nothing to do
  watched.steps.begin();
  CHECK(watched.exit_code() == 6);
}

TEST_CASE("R11: the first step may take ten times as long") {
  Watched watched({.stall_timeout_s = 0.05});
  const auto start = Clock::now();
  watched.steps.begin();
  CHECK(watched.exit_code() == 6);
  CHECK(Clock::now() - start > 450ms);
}

TEST_CASE("R11: a step may take any time while it gets on, or when that is what was asked for") {
  {
    Watched watched({.stall_timeout_s = 0.1});
    watched.steps.begin();
    watched.steps.end();
    watched.works = true;
    watched.steps.begin();
    CHECK_FALSE(watched.has_ended_within(500ms));
    watched.works = false;
    CHECK(watched.exit_code() == 6);
  }
  Watched any({.stall_timeout_s = 0});
  any.steps.begin();
  any.steps.end();
  any.steps.begin();
  CHECK_FALSE(any.has_ended_within(300ms));
}

TEST_CASE("R14: a stop that does not come is made, with the exit code of the first signal") {
  SUBCASE("after the drain and the time beyond it") {
    Watched watched({.drain_timeout_s = 0.2, .grace_s = 0.2});
    CHECK_FALSE(watched.has_ended_within(100ms));
    const auto start = Clock::now();
    ::raise(SIGTERM);
    CHECK(watched.exit_code() == 143);
    CHECK(Clock::now() - start > 350ms);
  }
  SUBCASE("after the second signal, whatever the drain may take") {
    Watched watched({.drain_timeout_s = 1e9, .grace_s = 0.2});
    ::raise(SIGINT);
    CHECK_FALSE(watched.has_ended_within(400ms));
    ::raise(SIGTERM);
    CHECK(watched.exit_code() == 130);
  }
}

}  // namespace
}  // namespace llmrun
