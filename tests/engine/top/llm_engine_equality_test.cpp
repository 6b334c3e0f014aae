// The same requests give the same outputs, bit for bit in float32, however they are scheduled:
// tokens, texts, reasons and log-probabilities.
#include <algorithm>
#include <numeric>
#include <random>

#include <doctest/doctest.h>

#include "engine/core/cpu_info.h"
#include "tests/engine/top/mixed_requests.h"

namespace llmrun {
namespace {

using testing::describe;
using testing::make_mixed_requests;
using testing::make_prompt;
using testing::TestEngine;
using testing::TestEngineOptions;

constexpr std::int32_t kNumRequests = 56;

const std::vector<std::string>& expected_outputs() {
  static const std::vector<std::string> expected =
      describe(testing::run_alone(make_mixed_requests(kNumRequests)));
  return expected;
}

void check_equal(const std::vector<std::string>& found, const std::vector<std::string>& expected) {
  REQUIRE(found.size() == expected.size());
  for (std::size_t i = 0; i < found.size(); ++i) {
    CAPTURE(i);
    CHECK(found[i] == expected[i]);
  }
}

// Runs all requests at once and compares; returns what the engine counted.
EngineStats check_options(const TestEngineOptions& options) {
  TestEngine engine(options);
  check_equal(describe(engine.run(make_mixed_requests(kNumRequests))), expected_outputs());
  CHECK(engine.find_leak() == std::nullopt);
  return engine->stats();
}

TEST_CASE("the requests reach every way to end, and none fails") {
  std::string all;
  for (const std::string& text : expected_outputs()) all += text;
  CHECK(all.find("stop 'q'") != all.npos);
  CHECK(all.find(": length ") != all.npos);
  CHECK(all.find(": stop stop '' -1 ") != all.npos);  // end of sequence
  CHECK(all.find(": stop stop '' 1") != all.npos);    // stop token
  for (const std::string& text : expected_outputs()) CHECK(text.starts_with("error ''"));
}

TEST_CASE("sequences at once") {
  for (const std::int32_t max_num_seqs : {1, 3, 64}) {
    CAPTURE(max_num_seqs);
    check_options({.max_num_seqs = max_num_seqs});
  }
}

TEST_CASE("tokens of a step") {
  for (const std::int32_t tokens : {1, 2, 7, 16, 33, 512}) {
    CAPTURE(tokens);
    check_options({.max_num_seqs = std::min(tokens, 8), .max_num_batched_tokens = tokens});
  }
  check_options({.max_num_batched_tokens = 200, .chunked_prefill = false});
}

TEST_CASE("block sizes") {
  for (const std::int32_t block_size : {1, 3, 8, 64}) {
    CAPTURE(block_size);
    check_options({.block_size = block_size, .num_blocks = 3000 / block_size});
  }
}

TEST_CASE("prefix caching off") {
  // The samples of one prompt share its blocks in both.
  const EngineStats off = check_options({.prefix_caching = false});
  const EngineStats on = check_options({});
  CHECK(on.prefix_hit_tokens > off.prefix_hit_tokens + 500);
}

TEST_CASE("one step ahead of the device") {
  for (const bool late_backend : {false, true}) {
    CAPTURE(late_backend);
    const EngineStats stats = check_options({.steps_ahead = 1, .late_backend = late_backend});
    CHECK(stats.num_wasted_tokens > 0);
    check_options({.block_size = 4,
                   .max_num_batched_tokens = 9,
                   .steps_ahead = 1,
                   .late_backend = late_backend});
    check_options({.is_static = true, .steps_ahead = 1, .late_backend = late_backend});
  }
}

TEST_CASE("preemption") {
  for (const std::int32_t steps_ahead : {0, 1}) {
    for (const bool prefix_caching : {false, true}) {
      CAPTURE(steps_ahead);
      CAPTURE(prefix_caching);
      const EngineStats stats = check_options({.block_size = 4,
                                               .num_blocks = 34,
                                               .max_num_seqs = 16,
                                               .steps_ahead = steps_ahead,
                                               .prefix_caching = prefix_caching,
                                               .late_backend = steps_ahead == 1});
      CHECK(stats.num_preemptions > 5);
      CHECK(stats.num_recomputed_tokens > 0);
    }
  }
}

// The naive engine and each of its parts.
TEST_CASE("static batches and contiguous memory") {
  check_options({.is_static = true, .prefix_caching = false});
  check_options({.is_static = true, .max_num_seqs = 3, .max_num_batched_tokens = 5});
  check_options({.block_size = 200, .num_blocks = 9, .prefix_caching = false});
  const EngineStats naive = check_options(
      {.is_static = true, .block_size = 200, .num_blocks = 5, .prefix_caching = false});
  CHECK(naive.num_padding_tokens > 0);
}

TEST_CASE("threads") {
  check_options({.num_threads = 2});
  check_options({.num_threads = 3});
}

TEST_CASE("order of submission") {
  std::vector<std::size_t> order(kNumRequests);
  std::iota(order.begin(), order.end(), 0);
  std::mt19937 random(1);
  for (int round = 0; round < 3; ++round) {
    std::shuffle(order.begin(), order.end(), random);
    const std::vector<EngineRequest> requests = make_mixed_requests(kNumRequests);
    std::vector<EngineRequest> shuffled;
    std::vector<std::string> expected;
    for (const std::size_t i : order) {
      shuffled.push_back(requests[i]);
      expected.push_back(expected_outputs()[i]);
    }
    TestEngine engine({});
    check_equal(describe(engine.run(shuffled)), expected);
  }
}

TEST_CASE("requests that arrive while others run") {
  const std::vector<EngineRequest> requests = make_mixed_requests(kNumRequests);
  TestEngine engine({.max_num_seqs = 6, .steps_ahead = 1});
  std::map<RequestId, std::size_t> index;
  std::vector<std::string> found(requests.size());
  std::mt19937 random(2);
  while (index.size() < requests.size() || engine->has_unfinished()) {
    if (index.size() < requests.size() && random() % 3 == 0) {
      const std::size_t next = index.size();
      index[engine->add_request(requests[next])] = next;
    }
    if (engine->has_unfinished()) engine.step();
    for (const RequestOutput& output : engine->take_outputs()) {
      found[index.at(output.id)] = describe(output);
    }
  }
  check_equal(found, expected_outputs());
}

TEST_CASE("twice in one engine") {
  TestEngine engine({});
  for (int round = 0; round < 2; ++round) {
    check_equal(describe(engine.run(make_mixed_requests(kNumRequests))), expected_outputs());
  }
  CHECK(engine.find_leak() == std::nullopt);
}

// bfloat16 weights: with --deterministic on every instruction set of this machine, and without it
// on all but AMX.
TEST_CASE("bfloat16") {
  const std::vector<EngineRequest> requests = make_mixed_requests(28);
  for (const CpuIsa isa : supported_cpu_isas()) {
    for (const bool deterministic : {true, false}) {
      if (isa == CpuIsa::kAmx && !deterministic) continue;
      CAPTURE(to_string(isa));
      CAPTURE(deterministic);
      TestEngineOptions options{.max_num_seqs = 1,
                                .max_num_batched_tokens = 200,
                                .prefix_caching = false,
                                .isa = isa,
                                .dtype = "bfloat16",
                                .deterministic = deterministic};
      TestEngine alone(options);
      std::vector<std::string> expected;
      for (const EngineRequest& request : requests) {
        expected.push_back(describe(alone.run(request)));
      }
      CHECK(expected[0] != expected_outputs()[0]);  // another number format
      options.max_num_seqs = 8;
      options.max_num_batched_tokens = 33;
      options.prefix_caching = true;
      options.steps_ahead = 1;
      options.num_threads = 2;
      TestEngine together(options);
      check_equal(describe(together.run(requests)), expected);
    }
  }
}

// Log-probabilities of two instruction sets differ by rounding only, as long as they choose the
// same tokens.
TEST_CASE("instruction sets") {
  EngineRequest request{.prompt_token_ids = make_prompt(3, 40), .params = {}};
  request.params.temperature = 0;
  request.params.max_tokens = 30;
  request.params.ignore_eos = true;
  request.params.logprobs = 0;
  request.params.prompt_logprobs = 0;
  TestEngine portable({.isa = CpuIsa::kPortable});
  const RequestOutput expected = portable.run(request);
  for (const CpuIsa isa : supported_cpu_isas()) {
    CAPTURE(to_string(isa));
    TestEngine engine({.isa = isa});
    const RequestOutput found = engine.run(request);
    CHECK(found.outputs[0].token_ids == expected.outputs[0].token_ids);
    for (std::size_t i = 0; i < 30; ++i) {
      CHECK(std::abs(found.outputs[0].logprobs[i].logprob -
                     expected.outputs[0].logprobs[i].logprob) < 1e-4F);
    }
    for (std::size_t i = 1; i < 40; ++i) {
      CHECK(std::abs(found.prompt_logprobs[i].logprob - expected.prompt_logprobs[i].logprob) <
            1e-4F);
    }
  }
}

}  // namespace
}  // namespace llmrun
