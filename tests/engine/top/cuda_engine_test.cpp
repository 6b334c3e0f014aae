// The engine on a GPU: what it gives does not depend on how it is scheduled, and is what the CPU
// gives. Skipped, and said so, without a device.
#include <algorithm>

#include <doctest/doctest.h>

#include "tests/engine/top/mixed_requests.h"
#include "tests/support/gpu.h"

namespace llmrun {
namespace {

using testing::can_test_cuda;
using testing::describe;
using testing::make_mixed_requests;
using testing::make_prompt;
using testing::TestEngine;
using testing::TestEngineOptions;

constexpr std::int32_t kNumRequests = 56;

std::vector<std::string> run_mixed(const TestEngineOptions& options) {
  TestEngine engine(options);
  std::vector<std::string> found = describe(engine.run(make_mixed_requests(kNumRequests)));
  CHECK(engine.find_leak() == std::nullopt);
  return found;
}

void check_equal(const std::vector<std::string>& found, const std::vector<std::string>& expected) {
  REQUIRE(found.size() == expected.size());
  for (std::size_t i = 0; i < found.size(); ++i) {
    CAPTURE(i);
    CHECK(found[i] == expected[i]);
  }
}

// With one kernel for every batch size, every way to schedule gives the same bits.
void check_schedules(const TestEngineOptions& base) {
  const auto with = [&](auto change) {
    TestEngineOptions options = base;
    change(options);
    return options;
  };
  const std::vector<std::string> expected = run_mixed(with([](TestEngineOptions& o) {
    o.max_num_seqs = 1;
    o.max_num_batched_tokens = 200;
    o.prefix_caching = false;
    o.cuda_graphs = false;
  }));
  check_equal(run_mixed(base), expected);
  check_equal(run_mixed(with([](TestEngineOptions& o) { o.cuda_graphs = false; })), expected);
  check_equal(run_mixed(with([](TestEngineOptions& o) { o.steps_ahead = 1; })), expected);
  check_equal(run_mixed(with([](TestEngineOptions& o) {
                o.steps_ahead = 1;
                o.max_num_seqs = 64;
                o.max_logits_rows = 64;
              })),
              expected);
  check_equal(run_mixed(with([](TestEngineOptions& o) {
                o.max_num_batched_tokens = 9;
                o.steps_ahead = 1;
              })),
              expected);
  check_equal(run_mixed(with([](TestEngineOptions& o) {
                o.block_size = 8;
                o.num_blocks = 40;  // preemption
                o.steps_ahead = 1;
              })),
              expected);
  check_equal(run_mixed(with([](TestEngineOptions& o) {
                o.is_static = true;
                o.prefix_caching = false;
              })),
              expected);
}

TEST_CASE("float32: every schedule gives the same, bit for bit") {
  if (!can_test_cuda()) return;
  check_schedules({.deterministic = true, .cuda = true});
}

TEST_CASE("bfloat16: every schedule gives the same, bit for bit") {
  if (!can_test_cuda()) return;
  check_schedules({.dtype = "bfloat16", .deterministic = true, .cuda = true});
}

TEST_CASE("float32: what the CPU chooses, the GPU chooses") {
  if (!can_test_cuda()) return;
  std::vector<EngineRequest> requests;
  for (std::uint64_t i = 0; i < 24; ++i) {
    EngineRequest request;
    request.prompt_token_ids = make_prompt(i, 1 + i * 7 % 90);
    request.params.max_tokens = 24;
    request.params.ignore_eos = true;
    request.params.temperature = i % 2 == 0 ? 0.0 : 0.8;
    request.key = i;
    requests.push_back(std::move(request));
  }
  const auto tokens = [&](const TestEngineOptions& options) {
    TestEngine engine(options);
    std::vector<std::vector<TokenId>> found;
    for (const RequestOutput& output : engine.run(requests)) {
      REQUIRE(output.outputs.size() == 1);
      found.push_back(output.outputs[0].token_ids);
    }
    return found;
  };
  const auto on_cpu = tokens({});
  const auto on_gpu = tokens({.steps_ahead = 1, .cuda = true});
  // Rounding may tip a choice between two nearly equal tokens, once in many thousands.
  std::size_t num_equal = 0;
  for (std::size_t i = 0; i < on_cpu.size(); ++i) num_equal += on_cpu[i] == on_gpu[i] ? 1 : 0;
  CHECK(num_equal + 1 >= on_cpu.size());
}

// Replays pad the batch; no real row may notice.
TEST_CASE("graphs on and off give the same bits for every batch size") {
  if (!can_test_cuda()) return;
  for (const std::string dtype : {"float32", "bfloat16"}) {
    for (std::int32_t batch = 1; batch <= 41; batch += batch < 12 ? 1 : 7) {
      std::vector<EngineRequest> requests;
      for (std::int32_t i = 0; i < batch; ++i) {
        EngineRequest request;
        request.prompt_token_ids =
            make_prompt(static_cast<std::uint64_t>(i), static_cast<std::size_t>(1 + i * 5 % 40));
        request.params.max_tokens = 12;
        request.params.ignore_eos = true;
        request.params.logprobs = 0;
        request.params.temperature = i % 2 == 0 ? 0.0 : 1.0;
        request.key = static_cast<std::uint64_t>(i);
        requests.push_back(std::move(request));
      }
      const auto run = [&](bool graphs) {
        TestEngine engine({.max_num_seqs = 41,
                           .max_num_batched_tokens = 2048,
                           .steps_ahead = 1,
                           .max_logits_rows = 64,
                           .dtype = dtype,
                           .deterministic = true,
                           .cuda = true,
                           .cuda_graphs = graphs});
        return describe(engine.run(requests));
      };
      CAPTURE(dtype);
      CAPTURE(batch);
      check_equal(run(true), run(false));
    }
  }
}

}  // namespace
}  // namespace llmrun
