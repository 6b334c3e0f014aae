// Random requests of every kind, steps and aborts on an engine with a tiny model, and what must be
// true of each answer. A failure prints its seed; LLMRUN_TEST_SEED=<seed> runs it alone. The names
// I14-I30 are those of the project's list of invariants; those of blocks and batches are checked
// where these are, in tests/engine/scheduler/.
#include <algorithm>
#include <array>
#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "tests/engine/top/deltas.h"
#include "tests/engine/top/mixed_requests.h"
#include "tests/support/random_test.h"

namespace llmrun {
namespace {

using testing::describe;
using testing::find_delta_fault;
using testing::make_mixed_requests;
using testing::Random;
using testing::require;
using testing::TestEngine;
using testing::TestEngineOptions;

constexpr std::int32_t kNumKinds = 42;
const std::set<TokenId> kEndTokenIds = {2, 33, 77, 150, 200};  // of TestEngine

// Looks at what the engine hands its scheduler.
class SpyScheduler final : public Scheduler {
 public:
  explicit SpyScheduler(std::unique_ptr<Scheduler> inner) : inner_(std::move(inner)) {}

  void add(Sequence& sequence) override {
    require(sequence.id() > last_id_, "I23: sequence {} comes after {}", sequence.id(), last_id_);
    last_id_ = sequence.id();
    require(inner_->can_ever_fit(sequence.max_num_tokens()), "I21: sequence {} can never fit",
            sequence.id());
    inner_->add(sequence);
  }
  bool can_ever_fit(std::int64_t num_tokens) const override {
    return inner_->can_ever_fit(num_tokens);
  }
  ScheduledBatch schedule() override { return inner_->schedule(); }
  void retire(const ScheduledBatch& batch) override { inner_->retire(batch); }
  void finish(Sequence& sequence) override { inner_->finish(sequence); }
  bool has_unfinished() const override { return inner_->has_unfinished(); }
  SchedulerStats stats() const override { return inner_->stats(); }
  std::optional<std::string> check_integrity() const override { return inner_->check_integrity(); }

 private:
  std::unique_ptr<Scheduler> inner_;
  SequenceId last_id_ = 0;
};

TestEngineOptions random_options(Random& random) {
  TestEngineOptions options;
  options.is_static = random.chance(15);
  options.block_size = random.chance(20) ? 1 : random.draw(2, 16);
  // Some requests can never fit, or all do and some have to give way.
  options.num_blocks = random.draw(80, 250) / options.block_size + 1;
  options.max_num_seqs = random.draw(1, 8);
  options.max_num_batched_tokens = random.draw(options.max_num_seqs, 64);
  options.steps_ahead = random.draw(0, 1);
  options.late_backend = random.chance(30);
  options.prefix_caching = random.chance(60);
  options.wrap_scheduler = [](std::unique_ptr<Scheduler> inner) {
    return std::make_unique<SpyScheduler>(std::move(inner));
  };
  return options;
}

// I28: parameters beyond their limits.
void break_limits(Random& random, SamplingParams& params) {
  switch (random.draw(1, 6)) {
    case 1: params.n = 0; break;
    case 2: params.n = 129; break;
    case 3: params.max_tokens = 0; break;
    case 4: params.min_tokens = *params.max_tokens + 1; break;
    case 5:
      params.n = 100;
      params.max_tokens = 10'001;  // more than kMaxTokensOfAllSamples in all
      break;
    case 6: params.best_of = params.n - 1; break;
  }
}

// I27: the reason a sample ended is the one its tokens and its text give, and it ended there.
void check_finish_reason(const SamplingParams& params, const CompletionOutput& sample) {
  const auto ends_it = [&](std::size_t i) {
    const TokenId token = sample.token_ids[i];
    const bool is_end = !params.ignore_eos && kEndTokenIds.contains(token);
    const bool is_stop =
        std::ranges::find(params.stop_token_ids, token) != params.stop_token_ids.end();
    return std::ssize(sample.token_ids) > params.min_tokens && (is_end || is_stop);
  };
  const std::size_t size = sample.token_ids.size();
  for (std::size_t i = 0; i + 1 < size; ++i) {
    require(!ends_it(i), "I27: tokens follow the end token at {}", i);
  }
  const bool ended_by_token = size > 0 && ends_it(size - 1);
  const bool ended_by_string = !sample.stop_string.empty();
  for (const std::string& stop : params.stop) {
    const std::size_t place = sample.text.find(stop);
    const bool is_asked_for = params.include_stop_str_in_output && stop == sample.stop_string &&
                              place + stop.size() == sample.text.size();
    require(place == std::string::npos || is_asked_for, "I27: stop string '{}' is in the text '{}'",
            stop, sample.text);
  }
  FinishReason expected = FinishReason::kAbort;
  if (ended_by_token || ended_by_string) {
    expected = FinishReason::kStop;
  } else if (std::ssize(sample.token_ids) == *params.max_tokens) {
    expected = FinishReason::kLength;
  }
  require(sample.finish_reason == expected, "I27: a sample ended by '{}' rather than '{}'",
          to_string(sample.finish_reason), to_string(expected));
}

struct Coverage {
  std::int64_t num_operations = 0;
  std::int64_t num_answered = 0;
  std::int64_t num_told = 0;  // token by token
  std::int64_t num_aborted = 0;
  std::int64_t num_aborted_with_tokens = 0;
  std::int64_t num_too_long = 0;
  std::int64_t num_beyond_limits = 0;
  std::int64_t num_preemptions = 0;
  std::int64_t num_hit_tokens = 0;
};

// An engine, and what is known of each request it was given.
class CheckedEngine {
 public:
  CheckedEngine(const TestEngineOptions& options, Coverage& coverage)
      : options_(options), engine_(options), coverage_(coverage) {}

  void add(Random& random) {
    const std::int32_t kind = random.draw(0, kNumKinds - 1);
    Submitted submitted{.kind = static_cast<std::size_t>(kind)};
    EngineRequest request = requests()[submitted.kind];
    const std::int64_t num_tokens =
        std::ssize(request.prompt_token_ids) + *request.params.max_tokens;
    const std::int64_t num_blocks = (num_tokens + options_.block_size - 1) / options_.block_size;
    if (num_blocks > options_.num_blocks) submitted.refusal = "too_long";
    if (random.chance(5)) {
      break_limits(random, request.params);
      submitted.refusal = "bad_parameter";
    }
    submitted.streams = request.streams = random.chance(70);
    const RequestId id = engine_->add_request(std::move(request));
    require(submitted_.emplace(id, std::move(submitted)).second, "I23: request id {} came twice",
            id);
  }

  void step() { engine_.step(); }

  // One that runs, or one that has ended.
  void abort(Random& random) {
    if (submitted_.empty()) return;
    auto chosen = submitted_.begin();
    std::advance(chosen, random.draw(0, static_cast<std::int32_t>(submitted_.size()) - 1));
    collect();  // what has ended by itself is not aborted
    chosen->second.is_aborted = !chosen->second.has_ended;
    engine_->abort(chosen->first);
  }
  void abort_all() {
    collect();
    for (auto& [id, submitted] : submitted_) submitted.is_aborted |= !submitted.has_ended;
    engine_->abort_all();
  }

  void collect() {
    for (TokenDelta& delta : engine_->take_deltas()) {
      Submitted& submitted = submitted_.at(delta.request_id);
      require(submitted.streams && !submitted.has_ended,
              "I24: a token of request {}, which streams none", delta.request_id);
      submitted.deltas.push_back(std::move(delta));
    }
    for (const RequestOutput& output : engine_->take_outputs()) {
      const auto found = submitted_.find(output.id);
      require(found != submitted_.end(), "I30: an answer to request {}, which nobody asked",
              output.id);
      require(!std::exchange(found->second.has_ended, true), "I22: request {} ended twice",
              output.id);
      check(found->second, output);
    }
  }

  void drain() {
    for (int i = 0; engine_->has_unfinished(); ++i) {
      require(i < 20'000, "I18: requests do not end");
      step();
    }
    collect();
    std::int64_t num_failed = 0;
    for (const auto& [id, submitted] : submitted_) {
      require(submitted.has_ended, "I30: request {} has no answer", id);
      num_failed += submitted.refusal.empty() ? 0 : 1;
    }
    const EngineStats stats = engine_->stats();
    require(stats.num_requests_finished == std::ssize(submitted_) &&
                stats.num_requests_failed == num_failed,
            "I30: {} finished and {} failed; expected {} and {}", stats.num_requests_finished,
            stats.num_requests_failed, submitted_.size(), num_failed);
    const auto leak = engine_.find_leak();
    require(!leak, "I15: {}", leak.value_or(""));
    coverage_.num_preemptions += stats.num_preemptions;
    coverage_.num_hit_tokens += stats.prefix_hit_tokens;
  }

  // A request that is aborted in whatever state it is leaves an idle engine as it found it.
  void abort_alone(Random& random) {
    const auto counts = [this] {
      const KvCacheStats blocks = engine_.kv_cache().stats();
      const EngineStats stats = engine_->stats();
      return std::array<std::int64_t, 4>{blocks.num_free_blocks + blocks.num_cached_blocks,
                                         blocks.num_used_blocks, stats.num_sequences_running,
                                         stats.num_sequences_waiting};
    };
    const auto before = counts();
    add(random);
    for (int i = random.draw(0, 12); i > 0 && engine_->has_unfinished(); --i) step();
    abort_all();
    for (int i = 0; engine_->has_unfinished(); ++i) {
      require(i <= options_.steps_ahead, "I14: an aborted request goes on");
      step();
    }
    require(counts() == before, "I14: an abort left other counts than there were before");
  }

 private:
  struct Submitted {
    std::size_t kind = 0;
    std::string refusal{};  // the code of the error it must get
    bool streams = false;
    bool is_aborted = false;
    bool has_ended = false;
    std::vector<TokenDelta> deltas{};
  };

  static const std::vector<EngineRequest>& requests() {
    static const std::vector<EngineRequest> requests = make_mixed_requests(kNumKinds);
    return requests;
  }
  static const std::vector<RequestOutput>& expected() {
    static const std::vector<RequestOutput> outputs = testing::run_alone(requests());
    return outputs;
  }

  void check(const Submitted& submitted, const RequestOutput& output) {
    require(output.error.code == submitted.refusal, "I21, I28: request {} got error '{}' {}",
            output.id, output.error.code, output.error.message);
    if (!submitted.refusal.empty()) {
      require(output.outputs.empty() && submitted.deltas.empty(),
              "I28: what is refused has tokens");
      ++(submitted.refusal == "too_long" ? coverage_.num_too_long : coverage_.num_beyond_limits);
      return;
    }
    const RequestOutput& alone = expected()[submitted.kind];
    if (!submitted.is_aborted) {
      ++coverage_.num_answered;
      require(describe(output) == describe(alone), "I25, I26: request {} of kind {} answered\n{}",
              output.id, submitted.kind, describe(output));
    }
    const SamplingParams& params = requests()[submitted.kind].params;
    const bool chooses_at_end = params.use_beam_search || params.num_sequences() > params.n;
    check_samples(params, output);
    if (submitted.is_aborted) {
      ++coverage_.num_aborted;
      if (output.num_output_tokens > 0) ++coverage_.num_aborted_with_tokens;
      if (!chooses_at_end) check_beginnings(output, alone);
    }
    if (chooses_at_end || !submitted.streams) {
      require(submitted.deltas.empty(), "I24: tokens are told that may not be in the answer");
      return;
    }
    const auto fault = find_delta_fault(submitted.deltas, output);
    require(!fault, "I24: request {}: {}", output.id, fault.value_or(""));
    require(std::ssize(submitted.deltas) == output.num_output_tokens,
            "I24: {} tokens told, {} in the usage", submitted.deltas.size(),
            output.num_output_tokens);
    ++coverage_.num_told;
  }

  static void check_samples(const SamplingParams& params, const RequestOutput& output) {
    const bool may_be_fewer = params.use_beam_search;  // aborted before there were n beams
    require(std::ssize(output.outputs) == params.n ||
                (may_be_fewer && std::ssize(output.outputs) < params.n),
            "I28: {} samples of {}", output.outputs.size(), params.n);
    std::int64_t num_tokens = 0;
    for (std::size_t i = 0; i < output.outputs.size(); ++i) {
      const CompletionOutput& sample = output.outputs[i];
      const std::int64_t size = std::ssize(sample.token_ids);
      num_tokens += size;
      require(sample.index == static_cast<std::int32_t>(i), "I28: the samples are out of order");
      const bool is_aborted = sample.finish_reason == FinishReason::kAbort;
      require(size <= *params.max_tokens && (is_aborted || size >= std::max(1, params.min_tokens)),
              "I28: {} tokens, of {} to {}", size, params.min_tokens, *params.max_tokens);
      if (!params.use_beam_search) check_finish_reason(params, sample);
    }
    require(params.num_sequences() == params.n ? output.num_output_tokens == num_tokens
                                               : output.num_output_tokens >= num_tokens,
            "I24: {} tokens in the usage, {} in the samples", output.num_output_tokens, num_tokens);
  }

  static void check_beginnings(const RequestOutput& output, const RequestOutput& alone) {
    for (std::size_t i = 0; i < output.outputs.size(); ++i) {
      const std::vector<TokenId>& tokens = output.outputs[i].token_ids;
      const std::vector<TokenId>& all = alone.outputs[i].token_ids;
      require(tokens.size() <= all.size() && std::equal(tokens.begin(), tokens.end(), all.begin()),
              "I25: an aborted sample chose other tokens");
    }
  }

  TestEngineOptions options_;
  TestEngine engine_;
  Coverage& coverage_;
  std::map<RequestId, Submitted> submitted_;
};

void run_engine_episode(std::uint64_t seed, Coverage& coverage) {
  constexpr int kNumOperations = 100;
  Random random(seed);
  CheckedEngine engine(random_options(random), coverage);
  for (int i = 0; i < kNumOperations; ++i) {
    const int operation = random.draw(1, 100);
    if (operation <= 20) {
      engine.add(random);
    } else if (operation <= 26) {
      engine.abort(random);
    } else if (operation <= 27) {
      engine.abort_all();
    } else if (operation <= 40) {
      engine.collect();
    } else {
      engine.step();
    }
  }
  engine.drain();
  engine.abort_alone(random);
  engine.drain();
  coverage.num_operations += kNumOperations;
}

TEST_CASE("I14, I21-I28, I30: random requests, steps and aborts") {
  constexpr int kNumEpisodes = testing::kIsSanitized ? 60 : 300;
  Coverage coverage;
  const bool ran_all = testing::run_episodes(
      kNumEpisodes, [&](std::uint64_t seed) { run_engine_episode(seed, coverage); });
  if (!ran_all) return;
  // Far below what is seen, and far above what an idle test would see.
  CHECK(coverage.num_answered > 5 * kNumEpisodes);
  CHECK(coverage.num_told > 2 * kNumEpisodes);
  CHECK(coverage.num_aborted > kNumEpisodes);
  CHECK(coverage.num_aborted_with_tokens * 2 > kNumEpisodes);
  CHECK(coverage.num_too_long * 10 > kNumEpisodes);
  CHECK(coverage.num_beyond_limits * 4 > kNumEpisodes);
  CHECK(coverage.num_preemptions * 2 > kNumEpisodes);
  CHECK(coverage.num_hit_tokens > kNumEpisodes);
  MESSAGE(coverage.num_answered << " answered, " << coverage.num_told << " told, "
                                << coverage.num_aborted << " aborted, "
                                << coverage.num_aborted_with_tokens << " with tokens, "
                                << coverage.num_too_long << " too long, "
                                << coverage.num_beyond_limits << " beyond limits, "
                                << coverage.num_preemptions << " preemptions, "
                                << coverage.num_hit_tokens << " hit tokens");
}

}  // namespace
}  // namespace llmrun
