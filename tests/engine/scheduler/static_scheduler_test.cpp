#include "engine/scheduler/static_scheduler.h"

#include <vector>

#include <doctest/doctest.h>

#include "engine/core/error.h"
#include "tests/engine/scheduler/fake_engine.h"

namespace llmrun::testing {
namespace {

// `num_blocks` usable ones.
FakeEngineOptions make_options(std::int32_t num_blocks, std::int32_t block_size) {
  FakeEngineOptions options;
  options.is_static = true;
  options.kv_cache.num_blocks = num_blocks + 1;
  options.kv_cache.block_size = block_size;
  options.kv_cache.enable_prefix_caching = false;
  options.continuous.max_num_seqs = 16;
  options.continuous.max_num_batched_tokens = 256;
  options.vocab_size = 1000;
  return options;
}

FakeRequest request(std::size_t prompt_size, std::int64_t max_output_tokens) {
  FakeRequest result;
  result.prompt_token_ids.resize(prompt_size, 7);
  result.max_output_tokens = max_output_tokens;
  return result;
}

TEST_CASE("a batch closes only when the KV memory is full or max_num_seqs is reached") {
  SUBCASE("paged: prompt and output are reserved, no more") {
    FakeEngine engine(make_options(16, 4));
    for (int i = 0; i < 10; ++i) REQUIRE(engine.add(request(6, 5)));  // 3 blocks each
    CHECK(engine.step().rows.size() == 5);
    CHECK(engine.kv_cache().num_available_blocks() == 1);
    engine.drain();
  }
  SUBCASE("contiguous: one block each") {
    FakeEngine engine(make_options(5, 64));
    for (int i = 0; i < 8; ++i) REQUIRE(engine.add(request(6, 5)));
    CHECK(engine.step().rows.size() == 5);
    CHECK(engine.kv_cache().num_available_blocks() == 0);
    engine.drain();
  }
  SUBCASE("max_num_seqs") {
    FakeEngine engine(make_options(100, 64));
    for (int i = 0; i < 40; ++i) REQUIRE(engine.add(request(6, 5)));
    CHECK(engine.step().rows.size() == 16);
    engine.drain();
  }
}

TEST_CASE("the token budget does not close a batch: it takes more steps") {
  FakeEngineOptions options = make_options(100, 64);
  options.continuous.max_num_batched_tokens = 10;
  FakeEngine engine(options);
  for (int i = 0; i < 16; ++i) REQUIRE(engine.add(request(6, 3)));
  // Prompts: 16 x 6 tokens in steps of 10. Then rounds of 16 tokens, in steps of 10 and 6.
  std::vector<std::int32_t> num_tokens;
  while (engine.num_live() > 0) {
    const PlannedStep batch = engine.step();
    num_tokens.push_back(batch.num_tokens);
    CHECK(engine.scheduler().stats().num_waiting == 0);
  }
  CHECK(num_tokens ==
        std::vector<std::int32_t>{10, 10, 10, 10, 10, 10, 10, 10, 10, 6, 10, 6, 10, 6});
}

TEST_CASE("prompts are padded to the longest, and the padding is in the budget") {
  FakeEngineOptions options = make_options(100, 64);
  FakeEngine engine(options);
  for (const std::size_t size : {3U, 10U, 1U}) REQUIRE(engine.add(request(size, 2)));
  const PlannedStep prompts = engine.step();
  CHECK(prompts.num_tokens == 14);
  CHECK(prompts.num_padding_tokens == 16);
  REQUIRE(prompts.rows.size() == 3);
  CHECK(prompts.rows[0].num_padding_tokens == 7);
  CHECK(prompts.rows[1].num_padding_tokens == 0);
  CHECK(prompts.rows[2].num_padding_tokens == 9);
  for (const PlannedStep::Row& row : prompts.rows) CHECK(row.samples);
  engine.drain();
}

TEST_CASE("R29: a step never exceeds the token budget, padding included") {
  for (const std::int32_t budget : {1, 2, 3, 7, 16, 31}) {
    FakeEngineOptions options = make_options(100, 64);
    options.continuous.max_num_batched_tokens = budget;
    FakeEngine engine(options);
    for (const std::size_t size : {3U, 10U, 1U, 8U, 20U}) REQUIRE(engine.add(request(size, 4)));
    std::int64_t num_computed = 0;
    while (engine.num_live() > 0) {
      const PlannedStep batch = engine.step();
      CHECK(batch.num_tokens + batch.num_padding_tokens <= budget);
      num_computed += batch.num_tokens + batch.num_padding_tokens;
    }
    // Five rows of 20 tokens, then three rounds of five.
    CHECK(num_computed == 5 * 20 + 3 * 5);
  }
}

TEST_CASE("a row that ends stays as padding until the longest ends; then comes the next batch") {
  FakeEngineOptions options = make_options(3, 64);
  FakeEngine engine(options);
  for (const std::int64_t length : {1, 6, 3, 2}) REQUIRE(engine.add(request(4, length)));
  std::vector<std::int32_t> num_padding;
  while (engine.scheduler().stats().num_waiting > 0) {
    num_padding.push_back(engine.step().num_padding_tokens);
  }
  // The step after the sixth forms the second batch.
  CHECK(num_padding == std::vector<std::int32_t>{0, 1, 1, 2, 2, 2, 0});
  CHECK(engine.kv_cache().stats().num_used_blocks == 1);
  engine.drain();
}

TEST_CASE("the memory of a batch returns when its last sequence ends, and not before") {
  for (const std::int32_t steps_ahead : {0, 1}) {
    FakeEngineOptions options = make_options(8, 4);
    options.steps_ahead = steps_ahead;
    FakeEngine engine(options);
    const auto first = engine.add(request(4, 2));
    const auto second = engine.add(request(4, 20));
    for (int i = 0; i < 5; ++i) engine.step();
    CHECK(engine.result(*first).token_ids.size() == 2);
    CHECK(engine.kv_cache().stats().num_used_blocks == 8);
    engine.cancel(*second);
    engine.drain();
    CHECK(engine.kv_cache().stats().num_used_blocks == 0);
  }
}

TEST_CASE("what needs more than the pool is refused") {
  FakeEngine engine(make_options(8, 4));
  CHECK_FALSE(engine.add(request(20, 13)));
  REQUIRE(engine.add(request(20, 12)));
  engine.drain();
  Sequence too_long(
      {.id = 99, .prompt_token_ids = std::vector<TokenId>(20, 1), .max_output_tokens = 13});
  CHECK_THROWS_AS(engine.scheduler().add(too_long), Error);
}

TEST_CASE("cancelling is safe in every state") {
  for (const std::int32_t steps_ahead : {0, 1}) {
    for (int num_steps = 0; num_steps < 10; ++num_steps) {
      for (int which = 0; which < 5; ++which) {
        FakeEngineOptions options = make_options(9, 4);
        options.steps_ahead = steps_ahead;
        options.continuous.max_num_batched_tokens = 7;
        FakeEngine engine(options);
        std::vector<SequenceId> ids;
        for (int i = 0; i < 5; ++i) ids.push_back(*engine.add(request(5, 2 + i)));
        for (int i = 0; i < num_steps; ++i) engine.step();
        engine.cancel(ids[static_cast<std::size_t>(which)]);
        engine.cancel(ids[static_cast<std::size_t>(which)]);
        engine.check_integrity();
        engine.drain();
        CHECK(engine.results().size() == 5);
      }
    }
  }
}

TEST_CASE("one step ahead, the baseline plans nothing past its last tokens") {
  FakeEngineOptions options = make_options(100, 64);
  options.steps_ahead = 1;
  FakeEngine engine(options);
  for (const std::int64_t length : {4, 7}) REQUIRE(engine.add(request(4, length)));
  engine.drain();
  CHECK(engine.num_steps() == 7);
}

// The ladder of the ablation: the same work, the same KV slots, fewer steps with every rung.
TEST_CASE("paging and continuous batching each save steps") {
  struct Rung {
    bool is_static;
    bool is_paged;
  };
  std::vector<std::uint64_t> num_steps;
  for (const Rung rung : {Rung{false, true}, {true, true}, {false, false}, {true, false}}) {
    FakeEngineOptions options = make_options(256, 16);
    if (!rung.is_paged) {
      options.kv_cache.num_blocks = 9;
      options.kv_cache.block_size = 512;
    }
    options.is_static = rung.is_static;
    options.continuous.max_num_seqs = 64;
    options.continuous.max_num_batched_tokens = 512;
    options.check_every_step = false;
    FakeEngine engine(options);
    for (std::size_t i = 0; i < 200; ++i) {
      REQUIRE(engine.add(request(16 + i * 37 % 113, 8 + static_cast<std::int64_t>(i * 53 % 119))));
    }
    engine.drain();
    CHECK(engine.results().size() == 200);
    num_steps.push_back(engine.num_steps());
  }
  CAPTURE(num_steps[0]);
  CAPTURE(num_steps[1]);
  CAPTURE(num_steps[2]);
  CAPTURE(num_steps[3]);
  CHECK(num_steps[0] < num_steps[1]);
  CHECK(num_steps[1] < num_steps[2]);
  CHECK(num_steps[2] < num_steps[3]);
}

}  // namespace
}  // namespace llmrun::testing
