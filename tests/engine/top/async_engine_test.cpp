// Requests from many threads, each finished exactly once: answered, refused, aborted or failed.
#include "engine/async_engine.h"

#include <condition_variable>
#include <future>
#include <memory>
#include <mutex>
#include <string>
#include <thread>

#include <doctest/doctest.h>

#include "engine/core/error.h"
#include "engine/null_engine.h"
#include "tests/engine/top/deltas.h"
#include "tests/engine/top/mixed_requests.h"

namespace llmrun {
namespace {

using testing::describe;
using testing::find_delta_fault;
using testing::make_mixed_requests;
using testing::make_prompt;
using testing::TestEngine;

EngineRequest make_request(std::vector<TokenId> prompt, std::int32_t max_tokens) {
  EngineRequest request{.prompt_token_ids = std::move(prompt), .params = {}};
  request.params.max_tokens = max_tokens;
  request.params.ignore_eos = true;
  return request;
}

// What one request's callbacks were told.
class Receiver {
 public:
  AsyncEngine::Callbacks callbacks() {
    return {.on_token =
                [this](TokenDelta delta) {
                  const std::lock_guard lock(mutex_);
                  deltas_.push_back(std::move(delta));
                  changed_.notify_all();
                },
            .on_finished =
                [this](RequestOutput output) {
                  const std::lock_guard lock(mutex_);
                  num_finished_ += 1;
                  output_ = std::move(output);
                  changed_.notify_all();
                }};
  }
  RequestOutput wait() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this] { return num_finished_ > 0; });
    return output_;
  }
  void wait_for_tokens(std::size_t count) {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return deltas_.size() >= count; });
  }
  std::vector<TokenDelta> deltas() const {
    const std::lock_guard lock(mutex_);
    return deltas_;
  }
  int num_finished() const {
    const std::lock_guard lock(mutex_);
    return num_finished_;
  }

 private:
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<TokenDelta> deltas_;
  RequestOutput output_;
  int num_finished_ = 0;
};

TEST_CASE("requests of every kind give what the engine gives, told token by token") {
  std::vector<EngineRequest> requests = make_mixed_requests(40);
  TestEngine reference({});
  const std::vector<RequestOutput> expected = reference.run(requests);

  for (const bool one_ahead : {false, true}) {
    TestEngine engine({.steps_ahead = one_ahead ? 1 : 0, .late_backend = one_ahead});
    std::vector<Receiver> receivers(requests.size());
    {
      AsyncEngine async(engine.engine());
      std::vector<std::thread> threads;
      for (std::size_t first = 0; first < 4; ++first) {
        threads.emplace_back([&, first] {
          for (std::size_t i = first; i < requests.size(); i += 4) {
            CHECK(async.submit(requests[i], receivers[i].callbacks()).has_value());
          }
        });
      }
      for (std::thread& thread : threads) thread.join();
      for (std::size_t i = 0; i < requests.size(); ++i) {
        const RequestOutput output = receivers[i].wait();
        CAPTURE(i);
        CHECK(describe(output) == describe(expected[i]));
        const SamplingParams& params = requests[i].params;
        if (params.use_beam_search || params.num_sequences() > params.n || !output.error.empty()) {
          CHECK(receivers[i].deltas().empty());
        } else {
          CHECK(find_delta_fault(receivers[i].deltas(), output) == std::nullopt);
        }
      }
      CHECK(async.status().num_unfinished_requests == 0);
    }
    for (const Receiver& receiver : receivers) CHECK(receiver.num_finished() == 1);
    CHECK(engine.find_leak() == std::nullopt);
  }
}

TEST_CASE("an abort ends a request before the next step, whatever it was doing") {
  TestEngine engine({.num_blocks = 40, .max_num_seqs = 2});
  std::vector<Receiver> receivers(6);
  {
    AsyncEngine async(engine.engine());
    std::vector<RequestId> ids;
    for (std::size_t i = 0; i < receivers.size(); ++i) {
      ids.push_back(
          async.submit(make_request(make_prompt(i, 20), 150), receivers[i].callbacks()).value());
    }
    async.abort(ids[5]);  // it waits
    receivers[0].wait_for_tokens(3);
    async.abort(ids[0]);  // it runs
    const RequestOutput running = receivers[0].wait();
    CHECK(running.outputs.at(0).finish_reason == FinishReason::kAbort);
    CHECK(running.outputs.at(0).token_ids.size() >= 3);
    CHECK(running.outputs.at(0).token_ids.size() < 150);
    CHECK(receivers[5].wait().outputs.at(0).finish_reason == FinishReason::kAbort);
    async.abort(ids[0]);  // it has ended
    async.abort(12345);   // it never was
    CHECK(receivers[1].wait().outputs.at(0).finish_reason == FinishReason::kLength);
    async.abort_all();
    for (Receiver& receiver : receivers) receiver.wait();
    CHECK(async.status().stats.kv_blocks_used == 0);
  }
  for (const Receiver& receiver : receivers) CHECK(receiver.num_finished() == 1);
  CHECK(engine.find_leak() == std::nullopt);
}

TEST_CASE("R12: a full queue takes nothing, and takes again when there is room") {
  NullEngine engine({.step_seconds = 0.001});
  AsyncEngine async(engine, {.max_unfinished_sequences = 3});
  Receiver first;
  Receiver second;
  EngineRequest two_samples = make_request({1, 2}, 1'000'000);
  two_samples.params.n = 2;
  const auto id = async.submit(two_samples, first.callbacks());
  REQUIRE(id.has_value());
  CHECK_FALSE(async.submit(two_samples, second.callbacks()).has_value());
  CHECK(async.submit(make_request({1, 2}, 2), second.callbacks()).has_value());
  CHECK(second.wait().outputs.at(0).token_ids.size() == 2);
  async.abort(*id);
  CHECK(first.wait().outputs.size() == 2);
  Receiver third;
  CHECK(async.submit(make_request({5}, 3), third.callbacks()).has_value());
  CHECK(third.wait().outputs.at(0).text == "5 6 7 ");
  CHECK(second.num_finished() == 1);
}

// The place is free before its request's end is told, and nobody holds a lock meanwhile.
TEST_CASE("R12: who hears of a request's end finds its place free at once") {
  constexpr int kNumRequests = 200;
  NullEngine engine;
  AsyncEngine async(engine, {.max_unfinished_sequences = 1});
  std::promise<int> ended;
  int num_taken = 0;  // of the engine's thread, after the first
  std::function<void(RequestOutput)> go_on = [&](const RequestOutput&) {
    ++num_taken;
    if (num_taken < kNumRequests &&
        async.submit(make_request({1}, 2), {.on_token = nullptr, .on_finished = go_on})) {
      return;
    }
    ended.set_value(num_taken);
  };
  REQUIRE(async.submit(make_request({1}, 2), {.on_token = nullptr, .on_finished = go_on}));
  std::future<int> result = ended.get_future();
  REQUIRE(result.wait_for(std::chrono::seconds(60)) == std::future_status::ready);
  CHECK(result.get() == kNumRequests);
}

TEST_CASE("stop() finishes everything, and nothing is taken afterwards") {
  NullEngine engine({.step_seconds = 0.001, .max_num_seqs = 2});
  AsyncEngine async(engine);
  std::vector<Receiver> receivers(5);
  for (Receiver& receiver : receivers) {
    REQUIRE(async.submit(make_request({1}, 1'000'000), receiver.callbacks()).has_value());
  }
  receivers[0].wait_for_tokens(2);
  async.stop();
  for (const Receiver& receiver : receivers) CHECK(receiver.num_finished() == 1);
  Receiver late;
  CHECK_FALSE(async.submit(make_request({1}, 1), late.callbacks()).has_value());
  async.abort(1);
  async.stop();
  CHECK(late.num_finished() == 0);
}

// Runs `num_good_steps`, then fails as a broken device does.
class FailingEngine : public NullEngine {
 public:
  explicit FailingEngine(int num_good_steps) : num_good_steps_(num_good_steps) {}
  void step() override {
    if (num_good_steps_-- <= 0) throw Error(ErrorKind::kDevice, "the device is gone");
    NullEngine::step();
  }

 private:
  int num_good_steps_;
};

TEST_CASE("an engine that fails fails its requests with the reason, each once") {
  FailingEngine engine(3);
  AsyncEngine async(engine);
  std::vector<Receiver> receivers(3);
  for (Receiver& receiver : receivers) {
    // One that comes after the failure is not taken.
    if (!async.submit(make_request({1}, 1'000'000), receiver.callbacks())) continue;
    const RequestOutput output = receiver.wait();
    CHECK(output.error.code == "internal");
    CHECK(output.error.message == "the device is gone");
  }
  CHECK(async.status().failed);
  CHECK_THROWS_AS(std::rethrow_exception(async.error()), Error);
  CHECK_FALSE(async.submit(make_request({1}, 1), {}).has_value());
}

// Tells a token and an end of a request that nobody has made.
class StrayEngine final : public NullEngine {
 public:
  std::vector<TokenDelta> take_deltas() override {
    auto deltas = NullEngine::take_deltas();
    deltas.insert(deltas.begin(), TokenDelta{.request_id = 999'999});
    return deltas;
  }
  std::vector<RequestOutput> take_outputs() override {
    auto outputs = NullEngine::take_outputs();
    RequestOutput stray;
    stray.id = 999'999;
    outputs.insert(outputs.begin(), stray);
    return outputs;
  }
};

TEST_CASE("what comes for an unknown request hurts no other") {
  StrayEngine engine;
  AsyncEngine async(engine);
  Receiver receiver;
  REQUIRE(async.submit(make_request({1, 2}, 5), receiver.callbacks()));
  CHECK(receiver.wait().num_output_tokens == 5);
  CHECK_FALSE(async.status().failed);
}

// Loses something with its second request.
class LeakingEngine final : public NullEngine {
 public:
  std::optional<std::string> find_leak() const override {
    return stats().num_requests_finished < 2 ? std::nullopt : std::optional("2 blocks are lost");
  }
};

TEST_CASE("R16: an engine that has lost something answers what it has and takes no more") {
  LeakingEngine engine;
  AsyncEngine async(engine);
  for (int i = 0; i < 2; ++i) {
    Receiver receiver;
    CHECK(async.status().leak.empty());
    REQUIRE(async.submit(make_request({1, 2}, 5), receiver.callbacks()));
    CHECK(receiver.wait().num_output_tokens == 5);
  }
  for (int i = 0; i < 5000 && async.status().leak.empty(); ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  CHECK(async.status().leak == "2 blocks are lost");
  CHECK_FALSE(async.submit(make_request({1}, 1), {}).has_value());
  CHECK_FALSE(async.status().failed);
}

TEST_CASE("what takes longer than it may is ended with an error, also while it waits") {
  NullEngine engine({.step_seconds = 0.002, .max_num_seqs = 1});
  AsyncEngine async(engine, {.max_request_seconds = 0.05});
  Receiver quick;
  REQUIRE(async.submit(make_request({1}, 2), quick.callbacks()));
  CHECK(quick.wait().error.empty());
  Receiver running;
  Receiver waiting;
  REQUIRE(async.submit(make_request({1}, 100'000), running.callbacks()));
  REQUIRE(async.submit(make_request({1}, 100'000), waiting.callbacks()));
  for (Receiver* receiver : {&running, &waiting}) {
    const RequestOutput output = receiver->wait();
    CHECK(output.error.code == "timeout");
    CHECK(receiver->num_finished() == 1);
  }
  CHECK(async.status().num_unfinished_requests == 0);
}

TEST_CASE("R15: work that does not advance is seen from outside") {
  NullEngine engine({.step_seconds = 0.5});
  AsyncEngine async(engine);
  std::this_thread::sleep_for(std::chrono::milliseconds(30));
  CHECK(async.status().progress.seconds == 0);  // idle is not stalled
  Receiver receiver;
  const double before_s = async.now();
  async.submit(make_request({1}, 1), receiver.callbacks());
  const double seconds = async.status().progress.seconds;
  CHECK(seconds > 0);
  CHECK(seconds <= async.now() - before_s);  // idle time does not count
  receiver.wait();
  async.stop();
  CHECK(async.status().progress.seconds == 0);
  CHECK(async.status().progress.num_ended == 1);
}

TEST_CASE("R13: an engine that waits looks by itself whether something was lost") {
  LeakingEngine engine;
  for (int i = 0; i < 2; ++i) {
    engine.add_request(make_request({1, 2}, 1));
    while (engine.has_unfinished()) engine.step();
  }
  static_cast<void>(engine.take_outputs());
  AsyncEngine async(engine);  // it is sent nothing
  for (int i = 0; i < 30'000 && async.status().leak.empty(); ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  CHECK(async.status().leak == "2 blocks are lost");
}

TEST_CASE("the null engine's tokens tell whose they are") {
  NullEngine engine({.max_model_len = 10, .vocab_size = 100});
  EngineRequest request = make_request({40, 58}, 50);
  request.params.n = 2;
  const RequestId id = engine.add_request(request);
  engine.add_request(make_request({}, 1));
  engine.add_request(make_request(std::vector<TokenId>(10, 1), 1));
  while (engine.has_unfinished()) engine.step();
  const std::vector<RequestOutput> outputs = engine.take_outputs();
  REQUIRE(outputs.size() == 3);
  CHECK(outputs[0].error.code == "empty_prompt");
  CHECK(outputs[1].error.code == "too_long");
  CHECK(outputs[2].id == id);
  CHECK(outputs[2].outputs.at(0).token_ids == std::vector<TokenId>{98, 99, 0, 1, 2, 3, 4, 5});
  CHECK(outputs[2].outputs.at(1).text == "99 0 1 2 3 4 5 6 ");
  CHECK(engine.take_deltas().empty());
}

}  // namespace
}  // namespace llmrun
