#include "tools/kernel_bench/timing.h"

#include <algorithm>
#include <functional>
#include <vector>

#include <doctest/doctest.h>

#include "tests/support/reference_backend.h"

namespace llmrun {
namespace {

using testing::ReferenceBackend;

constexpr double kCallSeconds = 50e-6;

// A device that queues steps, records the first of them, and takes kCallSeconds for each call.
class QueueBackend final : public ReferenceBackend {
 public:
  void execute(const ForwardBatch& /*batch*/, const std::function<void()>& work) override {
    if (num_recorded_calls == 0) {
      num_calls = 0;
      work();
      num_recorded_calls = num_calls;
    }
    ++num_queued;
    most_queued = std::max(most_queued, num_queued);
  }
  std::uint64_t sample(Tensor logits, std::span<const SamplingRow> rows,
                       std::int64_t /*vocab_size*/) override {
    CHECK(logits.dim(0) == 0);
    CHECK(rows.empty());
    return ++last_ticket;
  }
  std::vector<SampledToken> collect(std::uint64_t ticket) override {
    CHECK(ticket == ++last_collected);
    --num_queued;
    return {};
  }
  StepTiming last_step_timing() const override {
    // The first steps wait for the host.
    const double late = last_collected <= 3 ? 1e-3 : 0.0;
    return {.busy_seconds = static_cast<double>(num_recorded_calls) * kCallSeconds + late};
  }

  std::int64_t num_calls = 0;
  std::int64_t num_recorded_calls = 0;
  int num_queued = 0;
  int most_queued = 0;
  std::uint64_t last_ticket = 0;
  std::uint64_t last_collected = 0;
};

StepInputs one_token() {
  StepInputs step;
  step.token_ids = {0};
  step.positions = {0};
  step.slot_mapping = {16};
  step.query_start_loc = {0, 1};
  step.seq_lens = {1};
  step.block_tables = {1};
  step.max_num_blocks = 1;
  step.logits_indices = {0};
  return step;
}

TEST_CASE("timing by steps: many calls in each, over all copies, one step ahead") {
  QueueBackend backend;
  std::vector<std::int64_t> copies;
  const Timing timing = time_steps(backend, one_token(), 7, 1e-3, kCallSeconds,
                                   [&](const ForwardBatch& batch, std::int64_t copy) {
                                     CHECK(batch.num_tokens == 1);
                                     ++backend.num_calls;
                                     copies.push_back(copy);
                                   });
  CHECK(timing.median_s == doctest::Approx(kCallSeconds));
  CHECK(timing.best_s == doctest::Approx(kCallSeconds));
  CHECK(backend.num_recorded_calls >= 100);  // 5 ms
  CHECK(backend.num_recorded_calls < 100 + 7);
  REQUIRE(copies.size() % 7 == 0);
  for (std::size_t i = 0; i < copies.size(); ++i)
    CHECK(copies[i] == static_cast<std::int64_t>(i % 7));
  CHECK(backend.most_queued == 2);
  CHECK(backend.num_queued == 0);
}

TEST_CASE("timing by steps: a call that takes no time does not make endless steps") {
  QueueBackend backend;
  const Timing timing = time_steps(backend, one_token(), 1, 0.0, 0.0,
                                   [&](const ForwardBatch&, std::int64_t) { ++backend.num_calls; });
  CHECK(timing.median_s == doctest::Approx(kCallSeconds));
  CHECK(backend.num_recorded_calls > 100);
  CHECK(backend.num_recorded_calls < 10000);
}

TEST_CASE("timing call by call: each copy once before, at least five after") {
  ReferenceBackend backend;
  std::vector<std::int64_t> copies;
  const Timing timing =
      time_calls(backend, one_token(), 3, 0.0,
                 [&](const ForwardBatch&, std::int64_t copy) { copies.push_back(copy); });
  CHECK(copies == std::vector<std::int64_t>{0, 1, 2, 0, 1, 2, 0, 1});
  CHECK(timing.best_s <= timing.median_s);
}

}  // namespace
}  // namespace llmrun
