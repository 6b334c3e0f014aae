// What the continuous scheduler promises, one case each. Cases that begin with R are regressions of
// bugs that hurt users of other engines; the numbers are those of the project's list.
#include "engine/scheduler/continuous_scheduler.h"

#include <algorithm>
#include <set>
#include <vector>

#include <doctest/doctest.h>

#include "engine/core/error.h"
#include "tests/engine/scheduler/fake_engine.h"

namespace llmrun::testing {
namespace {

// `num_blocks` usable ones.
FakeEngineOptions make_options(std::int32_t num_blocks, std::int32_t block_size) {
  FakeEngineOptions options;
  options.kv_cache.num_blocks = num_blocks + 1;
  options.kv_cache.block_size = block_size;
  options.continuous = {.max_num_seqs = 8, .max_num_batched_tokens = 64};
  options.vocab_size = 1000;
  return options;
}

// A prompt that shares no prefix with that of another seed.
std::vector<TokenId> prompt(std::size_t size, TokenId seed) {
  std::vector<TokenId> tokens(size);
  for (std::size_t i = 0; i < size; ++i) {
    tokens[i] = static_cast<TokenId>((static_cast<std::size_t>(seed) * 31 + i) % 1000);
  }
  return tokens;
}

FakeRequest request(std::size_t prompt_size, std::int64_t max_output_tokens, TokenId seed = 0) {
  FakeRequest result;
  result.prompt_token_ids = prompt(prompt_size, seed);
  result.max_output_tokens = max_output_tokens;
  return result;
}

std::set<SequenceId> planned_ids(const PlannedStep& step) {
  std::set<SequenceId> ids;
  for (const PlannedStep::Row& row : step.rows) ids.insert(row.id);
  return ids;
}

TEST_CASE("R01: what needs more than the pool is refused, what fills it exactly is served") {
  for (const std::int32_t steps_ahead : {0, 1}) {
    FakeEngineOptions options = make_options(8, 4);
    options.steps_ahead = steps_ahead;
    FakeEngine engine(options);
    CHECK_FALSE(engine.add(request(20, 13)));
    CHECK_FALSE(engine.scheduler().can_ever_fit(33));
    const auto id = engine.add(request(20, 12));
    REQUIRE(id);
    engine.drain();
    CHECK(engine.result(*id).token_ids.size() == 12);
    Sequence too_long({.id = 99, .prompt_token_ids = prompt(20, 0), .max_output_tokens = 13});
    CHECK_THROWS_AS(engine.scheduler().add(too_long), Error);
  }
}

TEST_CASE("R02: a thousand small requests behind one that can never fit all finish") {
  FakeEngine engine(make_options(8, 4));
  CHECK_FALSE(engine.add(request(100, 1)));
  for (TokenId i = 0; i < 1000; ++i) REQUIRE(engine.add(request(3, 2, i)));
  engine.drain();
  CHECK(engine.results().size() == 1000);
}

TEST_CASE("R03: slots come back from whatever state their sequence was in") {
  for (const std::int32_t steps_ahead : {0, 1}) {
    FakeEngineOptions options = make_options(12, 2);
    options.continuous.max_num_seqs = 3;
    options.steps_ahead = steps_ahead;
    FakeEngine engine(options);
    for (TokenId round = 0; round < 200; ++round) {
      for (TokenId i = 0; i < 4; ++i) REQUIRE(engine.add(request(3, 6, round * 4 + i)));
      for (TokenId i = 0; i < round % 7; ++i) engine.step();
      for (const SequenceId id : engine.live_ids()) {
        if ((id + static_cast<SequenceId>(round)) % 3 != 0) engine.cancel(id);
      }
    }
    engine.drain();
    CHECK(engine.results().size() == 800);
  }
}

TEST_CASE("R04: a shortage while steps are in flight preempts one sequence, not all") {
  // Four sequences of 4 tokens fill the pool; each needs its next block at the same step.
  FakeEngineOptions options = make_options(8, 2);
  options.steps_ahead = 1;
  options.continuous.growth_reserve_blocks = 0;
  FakeEngine engine(options);
  for (TokenId i = 0; i < 4; ++i) REQUIRE(engine.add(request(4, 4, i)));
  std::int32_t max_preempted = 0;
  for (int i = 0; i < 6; ++i) {
    max_preempted = std::max(max_preempted, engine.step().num_preempted);
  }
  // Two give way: each brings two blocks, and four sequences less two need two.
  CHECK(max_preempted <= 2);
  CHECK(engine.scheduler().stats().num_preemptions <= 2);
  CHECK(engine.scheduler().stats().num_preemptions >= 1);
  engine.drain();
  CHECK(engine.results().size() == 4);
}

TEST_CASE("R04: blocks that come back by themselves are waited for") {
  FakeEngineOptions options = make_options(6, 2);
  options.steps_ahead = 1;
  options.continuous.growth_reserve_blocks = 0;
  FakeEngine engine(options);
  // All blocks are full; the first two need one more each, and the third ends with its prompt's
  // step, which is still in flight.
  REQUIRE(engine.add(request(4, 2, 1)));
  REQUIRE(engine.add(request(4, 2, 2)));
  REQUIRE(engine.add(request(4, 1, 3)));
  engine.drain();
  CHECK(engine.scheduler().stats().num_preemptions == 0);
}

TEST_CASE("R04: a sequence that is about to end does not give way") {
  FakeEngineOptions options = make_options(5, 2);
  options.steps_ahead = 1;
  options.continuous.growth_reserve_blocks = 0;
  FakeEngine engine(options);
  REQUIRE(engine.add(request(4, 2, 1)));
  const auto ending = engine.add(request(2, 1, 2));  // the fewest computed tokens
  const auto youngest = engine.add(request(4, 2, 3));
  engine.drain();
  CHECK(engine.result(*ending).num_preemptions == 0);
  CHECK(engine.result(*youngest).num_preemptions == 1);
}

TEST_CASE("R05: lighter sequences pass one that does not fit, but not for ever") {
  FakeEngineOptions options = make_options(10, 4);
  options.continuous.max_overtakes = 5;
  options.continuous.max_num_seqs = 4;
  FakeEngine engine(options);
  REQUIRE(engine.add(request(16, 20, 1)));  // 4 blocks, grows to 9
  engine.step();
  const auto heavy = engine.add(request(36, 4, 2));
  std::vector<SequenceId> light;
  for (TokenId i = 0; i < 40; ++i) light.push_back(*engine.add(request(2, 2, 10 + i)));
  engine.drain();
  int num_before = 0;
  for (const SequenceId id : light) {
    if (engine.result(id).finished_step < engine.result(*heavy).finished_step) ++num_before;
  }
  CHECK(num_before == 5);
}

TEST_CASE("R05: the first that does not fit is counted for, whoever else does not") {
  FakeEngineOptions options = make_options(10, 4);
  options.continuous.max_overtakes = 5;
  options.continuous.max_num_seqs = 4;
  FakeEngine engine(options);
  REQUIRE(engine.add(request(16, 20, 1)));
  engine.step();
  const auto heavy = engine.add(request(36, 4, 2));
  REQUIRE(engine.add(request(36, 4, 3)));
  std::vector<SequenceId> light;
  for (TokenId i = 0; i < 40; ++i) light.push_back(*engine.add(request(2, 2, 10 + i)));
  engine.drain();
  const auto num_before = std::ranges::count_if(light, [&](SequenceId id) {
    return engine.result(id).finished_step < engine.result(*heavy).finished_step;
  });
  CHECK(num_before == 5);
}

TEST_CASE("R05: look-ahead stops after max_look_ahead refusals") {
  FakeEngineOptions options = make_options(10, 4);
  options.continuous.max_look_ahead = 1;
  FakeEngine engine(options);
  REQUIRE(engine.add(request(16, 8, 1)));
  for (TokenId i = 0; i < 2; ++i) REQUIRE(engine.add(request(32, 4, 2 + i)));
  const auto light = engine.add(request(2, 2, 9));
  CHECK(planned_ids(engine.step()).size() == 1);
  engine.step();
  CHECK(engine.sequence(*light).status == SequenceStatus::kWaiting);
  engine.drain();
}

TEST_CASE("R06: a sequence that decodes gets its token in every step, whatever arrives") {
  for (const std::int32_t steps_ahead : {0, 1}) {
    FakeEngineOptions options = make_options(200, 4);
    options.continuous.max_num_batched_tokens = 8;
    options.steps_ahead = steps_ahead;
    FakeEngine engine(options);
    const auto first = engine.add(request(4, 40, 1));
    engine.step();
    for (TokenId i = 0; i < 30; ++i) {
      REQUIRE(engine.add(request(30, 4, 2 + i)));
      CHECK(planned_ids(engine.step()).contains(*first));
    }
    engine.drain();
  }
}

TEST_CASE("R06: a decoding sequence comes before an older one whose prompt is long") {
  FakeEngineOptions options = make_options(100, 4);
  options.continuous.max_num_batched_tokens = 8;
  options.continuous.long_prefill_token_threshold = 6;
  FakeEngine engine(options);
  REQUIRE(engine.add(request(100, 2, 1)));
  const auto second = engine.add(request(2, 10, 2));
  engine.step();  // 6 tokens of the long prompt, 2 of the short one
  for (int i = 0; i < 5; ++i) {
    const PlannedStep batch = engine.step();
    CHECK(batch.rows[0].id == *second);
    CHECK(batch.num_tokens == 7);
  }
  engine.drain();
}

TEST_CASE("R07, R10: a full pool goes on, without an empty step while none is in flight") {
  for (const std::int32_t num_blocks : {3, 4, 5, 6}) {
    FakeEngineOptions options = make_options(num_blocks, 1);
    options.continuous.growth_reserve_blocks = 0;
    FakeEngine engine(options);
    for (TokenId i = 0; i < 6; ++i) REQUIRE(engine.add(request(1, 2, i)));
    while (engine.num_live() > 0) REQUIRE_FALSE(engine.step().empty());
    engine.drain();
  }
}

TEST_CASE("R08: the sequence with the fewest computed tokens gives way, never the oldest") {
  FakeEngineOptions options = make_options(8, 2);
  options.continuous.growth_reserve_blocks = 0;
  options.kv_cache.enable_prefix_caching = false;
  FakeEngine engine(options);
  const auto oldest = engine.add(request(3, 12, 1));
  const auto longest = engine.add(request(7, 8, 2));
  const auto shortest = engine.add(request(2, 12, 3));
  while (engine.scheduler().stats().num_preemptions == 0) engine.step();
  CHECK(engine.sequence(*oldest).num_preemptions == 0);
  CHECK(engine.sequence(*longest).num_preemptions == 0);
  CHECK(engine.sequence(*shortest).num_preemptions == 1);
  const std::int64_t num_lost = engine.sequence(*shortest).num_lost_tokens;
  CHECK(num_lost > 0);
  engine.drain();
  CHECK(engine.result(*oldest).num_preemptions == 0);
  CHECK(engine.scheduler().stats().num_recomputed_tokens >= num_lost);
}

TEST_CASE("R08: what is still in the prefix cache is not counted as computed again") {
  FakeEngineOptions options = make_options(8, 2);
  options.continuous.growth_reserve_blocks = 0;
  FakeEngine with(options);
  options.kv_cache.enable_prefix_caching = false;
  FakeEngine without(options);
  for (FakeEngine* engine : {&with, &without}) {
    for (TokenId i = 0; i < 3; ++i) REQUIRE(engine->add(request(3, 10, i)));
    engine->drain();
    CHECK(engine->scheduler().stats().num_preemptions > 0);
  }
  CHECK(with.scheduler().stats().num_recomputed_tokens <
        without.scheduler().stats().num_recomputed_tokens);
}

TEST_CASE("R09: after four preemptions a sequence runs to its end") {
  // Every admission that fits at once, so that the youngest are thrown out again and again.
  FakeEngineOptions options = make_options(20, 1);
  options.continuous.growth_reserve_blocks = 0;
  options.kv_cache.enable_prefix_caching = false;
  FakeEngine engine(options);
  for (TokenId i = 0; i < 60; ++i) REQUIRE(engine.add(request(1, 15, i)));
  engine.drain();
  std::int32_t max_preemptions = 0;
  for (const auto& [id, result] : engine.results()) {
    max_preemptions = std::max(max_preemptions, result.num_preemptions);
  }
  CHECK(max_preemptions == 4);
}

TEST_CASE("the growth reserve keeps what was just admitted from giving way at once") {
  std::int64_t num_preemptions[2];
  for (const std::int32_t reserve : {0, 1}) {
    FakeEngineOptions options = make_options(40, 2);
    options.continuous.growth_reserve_blocks = reserve;
    options.continuous.max_num_seqs = 64;
    FakeEngine engine(options);
    for (TokenId i = 0; i < 100; ++i) REQUIRE(engine.add(request(4, 10, i)));
    engine.drain();
    num_preemptions[reserve] = engine.scheduler().stats().num_preemptions;
  }
  CHECK(num_preemptions[1] < num_preemptions[0]);
}

TEST_CASE("a contiguous layout gives every block to a sequence") {
  FakeEngineOptions options = make_options(5, 64);
  FakeEngine engine(options);
  for (TokenId i = 0; i < 10; ++i) REQUIRE(engine.add(request(4, 20, i)));
  CHECK(engine.step().rows.size() == 5);
  engine.drain();
  CHECK(engine.scheduler().stats().num_preemptions == 0);
}

TEST_CASE("R16, R20, R23: cancelling is safe in every state, twice too, and gives all back") {
  // 0: never planned ... 5: with a step in flight, decoding, preempted, and after the end.
  for (const std::int32_t steps_ahead : {0, 1}) {
    for (int num_steps = 0; num_steps < 12; ++num_steps) {
      FakeEngineOptions options = make_options(8, 2);
      options.steps_ahead = steps_ahead;
      options.continuous.growth_reserve_blocks = 0;
      FakeEngine engine(options);
      for (TokenId i = 0; i < 4; ++i) REQUIRE(engine.add(request(3, 5, i)));
      for (int i = 0; i < num_steps; ++i) engine.step();
      for (const SequenceId id : engine.live_ids()) {
        engine.cancel(id);
        engine.cancel(id);
        engine.check_integrity();
      }
      engine.cancel(12345);
      engine.drain();
      CHECK(engine.results().size() == 4);
    }
  }
}

TEST_CASE("R20: finishing a sequence that was never added does nothing") {
  FakeEngine engine(make_options(8, 2));
  REQUIRE(engine.add(request(3, 5)));
  Sequence stranger({.id = 1, .prompt_token_ids = prompt(3, 0), .max_output_tokens = 1});
  engine.scheduler().finish(stranger);
  engine.drain();
  CHECK(engine.results().size() == 1);
}

TEST_CASE("R34: a prefix is found only after the step that computed it is retired") {
  FakeEngineOptions options = make_options(40, 4);
  options.steps_ahead = 1;
  FakeEngine engine(options);
  REQUIRE(engine.add(request(17, 10, 5)));
  engine.step();  // in flight
  REQUIRE(engine.num_in_flight() == 1);
  const auto early = engine.add(request(17, 2, 5));
  engine.step();
  const auto late = engine.add(request(17, 2, 5));
  engine.drain();
  CHECK(engine.result(*early).num_cached_tokens == 0);
  CHECK(engine.result(*late).num_cached_tokens == 16);
}

TEST_CASE("R40: random prompts of one common text share it and answer as if alone") {
  FakeEngineOptions options = make_options(60, 3);
  FakeEngine engine(options);
  for (std::size_t size = 1; size <= 60; ++size) {
    REQUIRE(engine.add(request(size, 2, 5)));
    if (size % 3 == 0) engine.step();
  }
  engine.drain();
  CHECK(engine.kv_cache().stats().num_hit_tokens > 500);
}

TEST_CASE("sequences share prefixes only when their salts are equal") {
  FakeEngine engine(make_options(40, 4));
  FakeRequest salted = request(17, 2, 5);
  salted.cache_salt = 1;
  engine.add(request(17, 2, 5));
  engine.drain();
  const auto other = engine.add(salted);
  engine.drain();
  const auto same = engine.add(salted);
  engine.drain();
  CHECK(engine.result(*other).num_cached_tokens == 0);
  CHECK(engine.result(*same).num_cached_tokens == 16);
}

TEST_CASE("prompt log-probabilities need every prompt token computed") {
  FakeEngine engine(make_options(40, 4));
  FakeRequest rated = request(17, 2, 5);
  rated.needs_all_prompt_logits = true;
  engine.add(rated);
  engine.drain();
  const auto again = engine.add(rated);
  engine.drain();
  CHECK(engine.result(*again).num_cached_tokens == 0);
}

TEST_CASE("the samples of a prompt share its full blocks once they are written") {
  for (const bool enable_prefix_caching : {true, false}) {
    for (const std::int32_t steps_ahead : {0, 1}) {
      CAPTURE(enable_prefix_caching);
      CAPTURE(steps_ahead);
      FakeEngineOptions options = make_options(40, 4);
      options.kv_cache.enable_prefix_caching = enable_prefix_caching;
      options.steps_ahead = steps_ahead;
      FakeEngine engine(options);
      FakeRequest samples = request(18, 8, 5);
      samples.num_samples = 4;
      const SequenceId leader = *engine.add(samples);
      const auto other = engine.add(request(3, 2, 9));
      // The siblings wait, and block nobody.
      CHECK(planned_ids(engine.step()) == std::set<SequenceId>{leader, *other});
      while (engine.sequence(leader + 3).status != SequenceStatus::kRunning) engine.step();
      for (SequenceId id = leader + 1; id < leader + 4; ++id) {
        for (std::size_t i = 0; i < 4; ++i) {
          CHECK(engine.sequence(id).block_table[i] == engine.sequence(leader).block_table[i]);
        }
        CHECK(engine.sequence(id).block_table[4] != engine.sequence(leader).block_table[4]);
      }
      engine.drain();
      for (SequenceId id = leader + 1; id < leader + 4; ++id) {
        CHECK(engine.result(id).num_cached_tokens == 16);
      }
    }
  }
}

TEST_CASE("a prompt of whole blocks keeps its last block to itself") {
  FakeEngineOptions options = make_options(40, 4);
  options.kv_cache.enable_prefix_caching = false;
  FakeEngine engine(options);
  FakeRequest samples = request(16, 4, 5);
  samples.num_samples = 2;
  const SequenceId leader = *engine.add(samples);
  engine.drain();
  CHECK(engine.result(leader + 1).num_cached_tokens == 12);
}

TEST_CASE("samples whose leader is gone compute the prompt themselves") {
  FakeEngineOptions options = make_options(40, 4);
  options.kv_cache.enable_prefix_caching = false;
  for (int num_steps = 0; num_steps < 3; ++num_steps) {
    FakeEngine engine(options);
    FakeRequest samples = request(30, 4, 5);
    samples.num_samples = 3;
    options.continuous.max_num_batched_tokens = 16;
    const SequenceId leader = *engine.add(samples);
    for (int i = 0; i < num_steps; ++i) engine.step();
    engine.cancel(leader);
    engine.drain();
    CHECK(engine.result(leader + 1).token_ids.size() == 4);
    CHECK(engine.result(leader + 2).token_ids.size() == 4);
  }
}

TEST_CASE("a sequence that needs its tokens on the host waits for them") {
  FakeEngineOptions options = make_options(40, 4);
  options.steps_ahead = 1;
  FakeEngine engine(options);
  FakeRequest waiting = request(5, 6, 5);
  waiting.needs_host_tokens = true;
  const auto id = engine.add(waiting);
  const auto other = engine.add(request(5, 12, 6));
  bool was_planned = false;
  while (engine.num_live() == 2) {
    const std::set<SequenceId> ids = planned_ids(engine.step());
    CHECK(ids.contains(*other));
    CHECK_FALSE((was_planned && ids.contains(*id)));
    was_planned = ids.contains(*id);
  }
  engine.drain();
}

TEST_CASE("one step ahead, an early stop costs one row and no more") {
  for (const std::int32_t steps_ahead : {0, 1}) {
    FakeEngineOptions options = make_options(40, 4);
    options.steps_ahead = steps_ahead;
    options.num_stop_tokens = 200;
    FakeEngine engine(options);
    const auto id = engine.add(request(5, 60, 3));
    std::int64_t num_rows = 0;
    while (engine.num_live() > 0) num_rows += std::ssize(engine.step().rows);
    const auto num_output_tokens = std::ssize(engine.result(*id).token_ids);
    REQUIRE(num_output_tokens < 60);
    CHECK(num_rows == num_output_tokens + steps_ahead);
    engine.check_idle();
  }
}

TEST_CASE("one step ahead, a sequence is never planned past its last token") {
  FakeEngineOptions options = make_options(40, 4);
  options.steps_ahead = 1;
  FakeEngine engine(options);
  REQUIRE(engine.add(request(5, 7, 3)));
  std::int64_t num_rows = 0;
  while (engine.num_live() > 0) num_rows += std::ssize(engine.step().rows);
  CHECK(num_rows == 7);
}

TEST_CASE("prompts are computed in chunks that fill the budget") {
  FakeEngineOptions options = make_options(100, 4);
  options.continuous.max_num_batched_tokens = 10;
  FakeEngine engine(options);
  REQUIRE(engine.add(request(25, 2, 1)));
  REQUIRE(engine.add(request(25, 2, 2)));
  for (const std::size_t num_rows : {1U, 1U, 2U, 2U, 1U}) {
    const PlannedStep batch = engine.step();
    CHECK(batch.num_tokens == 10);
    CHECK(batch.rows.size() == num_rows);
  }
  engine.drain();
}

TEST_CASE("without chunked prefill only prompts longer than the budget are split") {
  FakeEngineOptions options = make_options(100, 4);
  options.continuous.max_num_batched_tokens = 10;
  options.continuous.enable_chunked_prefill = false;
  FakeEngine engine(options);
  const std::vector<std::size_t> sizes = {7, 10, 4, 25, 9, 1};
  for (std::size_t i = 0; i < sizes.size(); ++i) {
    REQUIRE(engine.add(request(sizes[i], 3, static_cast<TokenId>(i))));
  }
  std::set<SequenceId> split;
  while (engine.num_live() > 0) {
    for (const PlannedStep::Row& row : engine.step().rows) {
      if (!row.samples) split.insert(row.id);
    }
  }
  CHECK(split == std::set<SequenceId>{4});
}

TEST_CASE("without chunked prefill, what was split already takes what is left of each step") {
  FakeEngineOptions options = make_options(100, 4);
  options.continuous.max_num_batched_tokens = 8;
  options.continuous.enable_chunked_prefill = false;
  FakeEngine engine(options);
  for (TokenId i = 0; i < 5; ++i) REQUIRE(engine.add(request(1, 40, i)));
  const auto longest = engine.add(request(20, 2, 9));
  engine.drain();
  CHECK(engine.result(*longest).finished_step < 15);
}

TEST_CASE("no more sequences run than a step has tokens") {
  FakeEngineOptions options = make_options(100, 4);
  options.continuous.max_num_batched_tokens = 3;
  options.continuous.max_num_seqs = 8;
  options.steps_ahead = 1;
  FakeEngine engine(options);
  for (TokenId i = 0; i < 8; ++i) {
    FakeRequest waiting = request(2, 6, i);
    waiting.needs_host_tokens = true;  // idle in every second step, and holds its place
    REQUIRE(engine.add(waiting));
  }
  while (engine.num_live() > 0) {
    engine.step();
    REQUIRE(engine.scheduler().stats().num_running <= 3);
  }
}

TEST_CASE("preemption at any step leaves the answers as they are") {
  for (std::int32_t num_blocks = 4; num_blocks <= 24; ++num_blocks) {
    for (const std::int32_t steps_ahead : {0, 1}) {
      FakeEngineOptions options = make_options(num_blocks, 2);
      options.steps_ahead = steps_ahead;
      options.continuous.growth_reserve_blocks = 0;
      FakeEngine engine(options);  // compares every token with the model's
      for (TokenId i = 0; i < 8; ++i) REQUIRE(engine.add(request(3, 5, i)));
      engine.drain();
      CHECK(engine.results().size() == 8);
    }
  }
}

TEST_CASE("steps are retired in the order they were scheduled") {
  KvCacheManager kv_cache(
      {.num_blocks = 10, .block_size = 4, .enable_prefix_caching = true, .hash_key = std::nullopt});
  ContinuousScheduler scheduler(kv_cache, {});
  Sequence sequence({.id = 1, .prompt_token_ids = prompt(3, 0), .max_output_tokens = 4});
  scheduler.add(sequence);
  const ScheduledBatch first = scheduler.schedule();
  const ScheduledBatch second = scheduler.schedule();
  CHECK_THROWS_AS(scheduler.retire(second), Error);
  scheduler.retire(first);
  CHECK_THROWS_AS(scheduler.retire(first), Error);
}

TEST_CASE("sequences arrive in the order of their ids, once") {
  KvCacheManager kv_cache(
      {.num_blocks = 10, .block_size = 4, .enable_prefix_caching = true, .hash_key = std::nullopt});
  ContinuousScheduler scheduler(kv_cache, {});
  Sequence second({.id = 2, .prompt_token_ids = prompt(3, 0), .max_output_tokens = 4});
  Sequence first({.id = 1, .prompt_token_ids = prompt(3, 0), .max_output_tokens = 4});
  scheduler.add(second);
  CHECK_THROWS_AS(scheduler.add(first), Error);
  CHECK_THROWS_AS(scheduler.add(second), Error);
}

}  // namespace
}  // namespace llmrun::testing
