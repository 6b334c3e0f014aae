// The loop of `llmrun generate` over an engine that hangs in a step: what was finished before is in
// the file, whoever ends the process.
#include "tools/generate/generate_run.h"

#include <algorithm>
#include <chrono>
#include <csignal>
#include <functional>
#include <future>
#include <memory>
#include <string>
#include <thread>

#include <doctest/doctest.h>
#include <fmt/format.h>

#include "engine/core/error.h"
#include "engine/null_engine.h"
#include "tests/tools/input/text_files.h"
#include "tests/tools/input/text_source.h"
#include "tools/watchdog.h"

namespace llmrun {
namespace {

using namespace std::chrono_literals;  // NOLINT

constexpr int kNumGoodSteps = 3;

// Hangs in its fourth step, until it is let go; then it fails, as nothing can be done any more.
class HangingEngine final : public NullEngine {
 public:
  void step() override {
    steps_.begin();
    if (steps_.state().num_ended == kNumGoodSteps) {
      hangs_.set_value();
      released_.get_future().wait();
      throw Error(ErrorKind::kDevice, "the device is gone");
    }
    NullEngine::step();
    steps_.end();
  }
  StepProgress::State progress() const { return steps_.state(); }
  void wait_until_it_hangs() { hangs_.get_future().wait(); }
  void release() { released_.set_value(); }

 private:
  StepProgress steps_;
  std::promise<void> hangs_;
  std::promise<void> released_;
};

// Row i has i tokens and so ends with step i; row 0 has more than there are good steps.
std::string rows_of_tokens() {
  std::string text;
  for (int i = 0; i < 6; ++i) {
    text += fmt::format(R"({{"prompt_token_ids": [1, 2], "max_tokens": {}, "ignore_eos": true}})",
                        i == 0 ? 100 : i) +
            "\n";
  }
  return text;
}

struct HungRun {
  std::string output;
  int exit_code = 0;
};

// Runs until the engine hangs, then `when_hanging`, until the watchdog has ended the process.
HungRun run_until_ended(OutputOrder order, Watchdog::Options watching,
                        const std::function<void(const SignalWatcher&)>& when_hanging) {
  const TemporaryFolder folder;
  const std::string path = folder / "out.jsonl";
  HungRun result;
  HangingEngine engine;
  const SignalWatcher signals;
  RequestReader reader(std::make_unique<TextSource>(rows_of_tokens(), 1 << 20), "in.jsonl", {});
  const PromptProcessor prompts(nullptr, std::nullopt);
  const RecordFormatter formatter({});
  OutputWriter writer(open_output({.path = path}), {.order = order, .sync_interval = 1h});
  watching.progress = [&] { return engine.progress(); };
  watching.on_end = [&] { return writer.save(); };
  watching.end_process = [&](int exit_code) {
    result.output = read_text_file(path);  // of a process that ended here
    result.exit_code = exit_code;
    engine.release();
  };
  GenerateRun run(engine, prompts, reader, formatter, writer,
                  {.max_inflight = 10,
                   .stop_level = [&signals] { return static_cast<int>(signals.stop_request()); }});
  const Watchdog watchdog(signals, std::move(watching));
  std::thread other([&] {
    block_signals();
    engine.wait_until_it_hangs();
    if (when_hanging) when_hanging(signals);
  });
  CHECK_THROWS_AS(run.run(), Error);
  other.join();
  return result;
}

void check_finished_rows(const HungRun& run) {
  CAPTURE(run.output);
  CHECK(std::count(run.output.begin(), run.output.end(), '\n') == kNumGoodSteps);
  for (int i = 1; i <= kNumGoodSteps; ++i) {
    CHECK(run.output.find(fmt::format("\"index\":{},\"outputs\"", i)) != std::string::npos);
  }
}

TEST_CASE("R11: a step that hangs leaves every finished row in the output") {
  for (const OutputOrder order : {OutputOrder::kCompletion, OutputOrder::kInput}) {
    const HungRun run = run_until_ended(order, {.stall_timeout_s = 0.1}, nullptr);
    CHECK(run.exit_code == 6);
    check_finished_rows(run);
  }
}

TEST_CASE("R14: two signals, or one and the drain's time, end a run whose step hangs") {
  for (const bool second_signal : {false, true}) {
    const HungRun run = run_until_ended(
        OutputOrder::kInput, {.drain_timeout_s = second_signal ? 1e9 : 0.1, .grace_s = 0.1},
        [&](const SignalWatcher& signals) {
          ::kill(::getpid(), SIGTERM);
          if (!second_signal) return;
          while (signals.stop_request() == StopRequest::kNone) std::this_thread::sleep_for(1ms);
          ::kill(::getpid(), SIGINT);
        });
    CHECK(run.exit_code == 143);
    check_finished_rows(run);
  }
}

}  // namespace
}  // namespace llmrun
