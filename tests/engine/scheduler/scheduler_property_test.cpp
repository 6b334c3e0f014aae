// Random and exhaustive runs of both schedulers against FakeModel. A failure prints its seed;
// LLMRUN_TEST_SEED=<seed> runs that episode alone, LLMRUN_TEST_EPISODES=<n> as many as n.
#include <algorithm>
#include <string>
#include <vector>

#include "tests/engine/scheduler/fake_engine.h"

namespace llmrun::testing {
namespace {

constexpr int kNumEpisodes = 5000;
constexpr int kNumOperations = 200;  // of one episode

FakeEngineOptions random_options(Random& random) {
  FakeEngineOptions options;
  options.kv_cache.num_blocks = random.draw(2, random.chance(70) ? 12 : 40);
  options.kv_cache.block_size = random.chance(10) ? 64 : random.draw(1, 6);
  options.kv_cache.enable_prefix_caching = random.chance(60);
  options.continuous.max_num_seqs = random.draw(1, 8);
  options.continuous.max_num_batched_tokens = random.draw(1, random.chance(50) ? 12 : 60);
  options.continuous.enable_chunked_prefill = random.chance(70);
  options.continuous.long_prefill_token_threshold = random.chance(30) ? random.draw(1, 8) : 0;
  options.continuous.max_preemptions = random.chance(70) ? 4 : random.draw(0, 2);
  options.continuous.max_look_ahead = random.draw(0, 4);
  options.continuous.max_overtakes = random.draw(0, 8);
  options.continuous.growth_reserve_blocks = random.draw(0, 2);
  options.is_static = random.chance(15);
  options.steps_ahead = random.draw(0, 2);
  options.vocab_size = random.chance(50) ? 4 : 50;
  options.num_stop_tokens = random.chance(50) ? 1 : 0;
  return options;
}

FakeRequest random_request(Random& random, const FakeEngineOptions& options) {
  FakeRequest request;
  const std::int32_t max_length = random.chance(80) ? 12 : 40;
  request.prompt_token_ids.resize(static_cast<std::size_t>(random.draw(1, max_length)));
  // Prompts of one or two different tokens share prefixes of all lengths.
  const std::int32_t num_different = random.chance(70) ? random.draw(1, 2) : options.vocab_size;
  for (TokenId& token : request.prompt_token_ids) token = random.draw(0, num_different - 1);
  request.max_output_tokens = random.draw(1, random.chance(80) ? 8 : 30);
  request.num_samples = random.chance(20) ? random.draw(2, 5) : 1;
  request.needs_host_tokens = random.chance(10);
  request.needs_all_prompt_logits = random.chance(10);
  request.cache_salt = random.chance(10) ? 7 : 0;
  return request;
}

// The output of a request that runs alone, without any engine.
std::vector<TokenId> expected_output(const FakeRequest& request, const FakeEngineOptions& options) {
  std::vector<TokenId> tokens = request.prompt_token_ids;
  std::vector<TokenId> output;
  while (std::ssize(output) < request.max_output_tokens) {
    output.push_back(FakeModel::next_token(tokens, options.vocab_size));
    tokens.push_back(output.back());
    if (output.back() < options.num_stop_tokens) break;
  }
  return output;
}

// What the episodes went through; a property that never meets its case proves nothing.
struct Coverage {
  std::int64_t num_steps = 0;
  std::int64_t num_planned_rows = 0;
  std::int64_t num_finished = 0;
  std::int64_t num_cancelled = 0;
  // Of these, in each state: not yet planned, preempted, running, with a step in flight.
  std::int64_t num_cancelled_new = 0;
  std::int64_t num_cancelled_preempted = 0;
  std::int64_t num_cancelled_running = 0;
  std::int64_t num_cancelled_in_flight = 0;
  std::int64_t num_refused = 0;
  std::int64_t num_preemptions = 0;
  std::int64_t num_pinned = 0;  // sequences that gave way as often as they may
  std::int64_t num_recomputed_tokens = 0;
  std::int64_t num_hit_tokens = 0;
  std::int64_t num_evicted_blocks = 0;
  std::int64_t num_empty_plans = 0;  // with a step in flight
  std::int64_t num_padding_tokens = 0;
};

void cancel_one(Random& random, FakeEngine& engine, Coverage& coverage) {
  const std::vector<SequenceId> ids = engine.live_ids();
  if (ids.empty()) return;
  const SequenceId id = random.choose(ids);
  const Sequence& sequence = engine.sequence(id);
  if (sequence.num_steps_in_flight > 0) {
    ++coverage.num_cancelled_in_flight;
  } else if (sequence.status == SequenceStatus::kRunning) {
    ++coverage.num_cancelled_running;
  } else {
    ++(sequence.num_preemptions > 0 ? coverage.num_cancelled_preempted
                                    : coverage.num_cancelled_new);
  }
  engine.cancel(id);
}

void run_episode(std::uint64_t seed, Coverage& coverage) {
  Random random(seed);
  const FakeEngineOptions options = random_options(random);
  FakeEngine engine(options);
  std::vector<std::pair<SequenceId, FakeRequest>> accepted;
  const std::int32_t arrivals_percent = random.draw(2, 40);
  for (int i = 0; i < kNumOperations; ++i) {
    if (random.chance(arrivals_percent)) {
      const FakeRequest request = random_request(random, options);
      if (const auto id = engine.add(request)) {
        accepted.emplace_back(*id, request);
      } else {
        ++coverage.num_refused;
      }
    } else if (random.chance(4)) {
      cancel_one(random, engine, coverage);
    } else if (random.chance(2)) {
      engine.add_and_cancel(random_request(random, options));
    } else if (random.chance(1)) {
      engine.kv_cache().flush();
    } else {
      const PlannedStep batch = engine.step();
      coverage.num_planned_rows += std::ssize(batch.rows);
      coverage.num_padding_tokens += batch.num_padding_tokens;
      if (batch.empty() && engine.num_live() > 0) ++coverage.num_empty_plans;
    }
  }
  engine.drain();
  coverage.num_steps += static_cast<std::int64_t>(engine.num_steps());
  coverage.num_preemptions += engine.scheduler().stats().num_preemptions;
  coverage.num_recomputed_tokens += engine.scheduler().stats().num_recomputed_tokens;
  coverage.num_hit_tokens += engine.kv_cache().stats().num_hit_tokens;
  coverage.num_evicted_blocks += engine.kv_cache().stats().num_evicted_blocks;
  for (const auto& [id, result] : engine.results()) {
    ++(result.cancelled ? coverage.num_cancelled : coverage.num_finished);
    if (result.num_preemptions >= 4) ++coverage.num_pinned;
  }
  for (const auto& [first_id, request] : accepted) {
    const std::vector<TokenId> expected = expected_output(request, options);
    for (std::int32_t i = 0; i < request.num_samples; ++i) {
      const FakeEngine::Result& result = engine.result(first_id + static_cast<SequenceId>(i));
      const bool is_prefix =
          result.token_ids.size() <= expected.size() &&
          std::equal(result.token_ids.begin(), result.token_ids.end(), expected.begin());
      require(is_prefix && (result.cancelled || result.token_ids.size() == expected.size()),
              "I26: sequence {} has the wrong output", first_id + static_cast<SequenceId>(i));
    }
  }
  engine.kv_cache().flush();
  const KvCacheStats stats = engine.kv_cache().stats();
  require(stats.num_free_blocks == stats.num_total_blocks, "I15: {} of {} blocks are free at last",
          stats.num_free_blocks, stats.num_total_blocks);
}

TEST_CASE("a million random operations keep every invariant") {
  Coverage coverage;
  const bool ran_all =
      run_episodes(kNumEpisodes, [&](std::uint64_t seed) { run_episode(seed, coverage); });
  if (!ran_all) return;
  // Far below what is seen, and far above what an idle test would see.
  CHECK(coverage.num_steps > 100 * kNumEpisodes);
  CHECK(coverage.num_planned_rows > 100 * kNumEpisodes);
  CHECK(coverage.num_finished > 20 * kNumEpisodes);
  CHECK(coverage.num_cancelled > 2 * kNumEpisodes);
  CHECK(coverage.num_cancelled_new * 5 > kNumEpisodes);
  CHECK(coverage.num_cancelled_preempted * 100 > kNumEpisodes);
  CHECK(coverage.num_cancelled_running * 20 > kNumEpisodes);
  CHECK(coverage.num_cancelled_in_flight * 5 > kNumEpisodes);
  CHECK(coverage.num_refused > kNumEpisodes);
  CHECK(coverage.num_preemptions > kNumEpisodes);
  CHECK(coverage.num_pinned * 200 > kNumEpisodes);
  CHECK(coverage.num_recomputed_tokens > 5 * kNumEpisodes);
  CHECK(coverage.num_hit_tokens > 20 * kNumEpisodes);
  CHECK(coverage.num_evicted_blocks > 10 * kNumEpisodes);
  CHECK(coverage.num_empty_plans > 2 * kNumEpisodes);
  CHECK(coverage.num_padding_tokens > 5 * kNumEpisodes);
}

// Small scope, every order: three sequences, at most four blocks, all interleavings of arrivals,
// steps and cancellations to a depth.
struct Scope {
  std::int32_t num_blocks;  // the reserved one included
  std::int32_t block_size;
  std::int32_t max_num_seqs;
  std::int32_t max_num_batched_tokens;
  std::int32_t max_preemptions;
  std::int32_t steps_ahead;
  bool enable_prefix_caching;
  bool is_static;
};

enum class Event { kStep, kAdd, kCancelFirst, kCancelSecond, kCancelThird };
constexpr int kNumEvents = 5;

FakeEngine make_small_engine(const Scope& scope) {
  FakeEngineOptions options;
  options.kv_cache.num_blocks = scope.num_blocks;
  options.kv_cache.block_size = scope.block_size;
  options.kv_cache.enable_prefix_caching = scope.enable_prefix_caching;
  options.continuous.max_num_seqs = scope.max_num_seqs;
  options.continuous.max_num_batched_tokens = scope.max_num_batched_tokens;
  options.continuous.max_preemptions = scope.max_preemptions;
  options.continuous.growth_reserve_blocks = 0;
  options.is_static = scope.is_static;
  options.steps_ahead = scope.steps_ahead;
  options.vocab_size = 3;
  options.num_stop_tokens = 1;
  return FakeEngine(options);
}

// Runs one order of events, to the end. The three sequences: two that begin alike and one alone.
void run_events(const Scope& scope, const std::vector<Event>& events) {
  const std::vector<FakeRequest> requests = {
      {.prompt_token_ids = {1, 1}, .max_output_tokens = 2},
      {.prompt_token_ids = {1, 1, 2}, .max_output_tokens = scope.block_size == 1 ? 1 : 3},
      {.prompt_token_ids = {2}, .max_output_tokens = 2}};
  FakeEngine engine = make_small_engine(scope);
  std::size_t num_added = 0;
  for (const Event event : events) {
    if (event == Event::kStep) {
      engine.step();
    } else if (event == Event::kAdd) {
      engine.add(requests[num_added++]);
    } else {
      engine.cancel(static_cast<SequenceId>(event) - static_cast<SequenceId>(Event::kAdd));
    }
  }
  engine.drain();
  require(engine.results().size() == num_added, "I30: {} of {} sequences ended",
          engine.results().size(), num_added);
}

// All orders of `depth` events that add at most three sequences and cancel each at most once, after
// it was added. Returns their number.
std::int64_t explore(const Scope& scope, std::vector<Event>& events, std::size_t depth) {
  if (events.size() == depth) {
    run_events(scope, events);
    return 1;
  }
  const auto num_added = std::ranges::count(events, Event::kAdd);
  std::int64_t num_orders = 0;
  for (int i = 0; i < kNumEvents; ++i) {
    const auto event = static_cast<Event>(i);
    if (event == Event::kAdd && num_added == 3) continue;
    const int cancelled = i - static_cast<int>(Event::kAdd);
    if (cancelled > 0 && (num_added < cancelled || std::ranges::count(events, event) > 0)) continue;
    events.push_back(event);
    num_orders += explore(scope, events, depth);
    events.pop_back();
  }
  return num_orders;
}

TEST_CASE("all orders of events on three sequences and four blocks keep every invariant") {
  constexpr std::size_t kDepth = kIsSanitized ? 6 : 11;
  // 4 usable blocks of 1 token, 3 of 2, 3 of 4; budgets that bind and budgets that do not.
  const std::vector<Scope> scopes = {
      {5, 1, 3, 8, 4, 0, true, false},  {5, 1, 3, 8, 4, 1, true, false},
      {5, 1, 3, 2, 1, 1, false, false}, {4, 2, 3, 8, 4, 0, false, false},
      {4, 2, 3, 8, 4, 1, true, false},  {4, 2, 2, 3, 0, 1, true, false},
      {4, 4, 3, 3, 4, 1, true, false},  {4, 2, 3, 8, 4, 0, false, true},
      {5, 1, 2, 3, 4, 1, false, true},
  };
  for (const Scope& scope : scopes) {
    std::vector<Event> events;
    try {
      CHECK(explore(scope, events, kDepth) > 100);
    } catch (const std::exception& error) {
      std::string order;
      for (const Event event : events) order += fmt::format(" {}", static_cast<int>(event));
      FAIL(fmt::format("scope {}, events{}: {}", &scope - scopes.data(), order, error.what()));
    }
  }
}

}  // namespace
}  // namespace llmrun::testing
