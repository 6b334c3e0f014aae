// The sizes of recorded steps and their padding; no device is needed.
#include "engine/backend/cuda/graph_sizes.h"

#include <doctest/doctest.h>

#include "engine/backend/cuda/step_staging.h"

namespace llmrun {
namespace {

TEST_CASE("every batch has the smallest graph that holds it, or none") {
  constexpr std::int32_t kNoLimit = 1 << 20;
  std::int32_t num_sizes = 0;
  std::int32_t last = 0;
  for (std::int32_t n = 1; n <= kLargestGraph; ++n) {
    CAPTURE(n);
    const auto size = graph_size_for(n, kNoLimit);
    REQUIRE(size.has_value());
    CHECK(*size >= n);
    CHECK(*size >= last);
    CHECK(*graph_size_for(*size, kNoLimit) == *size);
    // At most an eighth of padding from some tens of sequences on.
    if (n > 64) CHECK((*size - n) * 8 <= n);
    num_sizes += *size != last ? 1 : 0;
    last = *size;
  }
  CHECK(num_sizes < 40);
  CHECK_FALSE(graph_size_for(0, kNoLimit).has_value());
  CHECK_FALSE(graph_size_for(kLargestGraph + 1, kNoLimit).has_value());
}

TEST_CASE("the limit of a step is a size of its own") {
  CHECK(graph_size_for(25, 25) == 25);
  CHECK(graph_size_for(23, 25) == 24);
  CHECK_FALSE(graph_size_for(26, 25).has_value());
}

TEST_CASE("padding sequences write to the reserved block and have rows of their own") {
  StepInputs inputs;
  inputs.token_ids = {7, feedback_token(3)};
  inputs.positions = {0, 20};
  inputs.slot_mapping = {32, 52};
  inputs.query_start_loc = {0, 1, 2};
  inputs.seq_lens = {1, 21};
  inputs.max_num_blocks = 2;
  inputs.block_tables = {2, 0, 3, 5};
  inputs.logits_indices = {0, 1};
  pad_step_inputs(inputs, 4);
  CHECK(inputs.token_ids == std::vector<TokenId>{7, feedback_token(3), 0, 0});
  CHECK(inputs.positions == std::vector<std::int32_t>{0, 20, 0, 0});
  CHECK(inputs.slot_mapping == std::vector<std::int64_t>{32, 52, 0, 0});
  CHECK(inputs.query_start_loc == std::vector<std::int32_t>{0, 1, 2, 3, 4});
  CHECK(inputs.seq_lens == std::vector<std::int32_t>{1, 21, 1, 1});
  CHECK(inputs.block_tables == std::vector<std::int32_t>{2, 0, 3, 5, 0, 0, 0, 0});
  CHECK(inputs.logits_indices == std::vector<std::int32_t>{0, 1, 2, 3});
}

}  // namespace
}  // namespace llmrun
