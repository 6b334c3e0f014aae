// Proves the checks of FakeEngine: each is shown the fault it is there for. A Saboteur stands
// between the engine and a sound scheduler and does one thing wrong.
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <doctest/doctest.h>

#include "tests/engine/scheduler/fake_engine.h"

namespace llmrun::testing {
namespace {

enum class Fault {
  kNone,
  kBlockLost,            // a table forgets a block
  kBlockSharedWritable,  // another table holds the block that is written
  kBlockTwice,
  kBlockReserved,
  kBlocksSwapped,
  kBlockStale,  // a block that holds something else
  kTooFewBlocks,
  kPublishedEarly,
  kReleasedInFlight,
  kReleasedTwice,
  kNeverReleased,
  kNothingPlanned,
  kPlannedTwice,
  kPlannedFinished,
  kMiscounted,
  kOverBudget,
  kOldestPreempted,
  kPreemptedTooOften,
  kSlotShared,
  kForgotten,  // a sequence that was added is never planned
  kNeverEnds,
  kTokenSkipped,
  kKeepsBlocks,  // of sequences that ended
  kKeepsRow,     // of a sequence that ended
  kRefusesAll,
};

class Saboteur final : public Scheduler {
 public:
  Saboteur(std::unique_ptr<Scheduler> inner, KvCacheManager& kv_cache, Fault fault)
      : inner_(std::move(inner)), kv_cache_(kv_cache), fault_(fault) {}

  void add(Sequence& sequence) override {
    if (fault_ == Fault::kForgotten && sequence.id() == 2) return;
    inner_->add(sequence);
  }
  bool can_ever_fit(std::int64_t num_tokens) const override {
    return fault_ != Fault::kRefusesAll && inner_->can_ever_fit(num_tokens);
  }
  bool has_unfinished() const override {
    return fault_ == Fault::kNeverEnds || inner_->has_unfinished();
  }
  SchedulerStats stats() const override {
    SchedulerStats stats = inner_->stats();
    if (fault_ == Fault::kKeepsRow && num_finished_ > 0) ++stats.num_running;
    return stats;
  }
  std::optional<std::string> check_integrity() const override { return inner_->check_integrity(); }

  ScheduledBatch schedule() override {
    ++num_plans_;
    if (fault_ == Fault::kNothingPlanned && num_plans_ >= kFirstFaultyPlan) return {};
    ScheduledBatch batch = inner_->schedule();
    if (num_plans_ >= kFirstFaultyPlan) tamper(batch);
    return batch;
  }

  void retire(const ScheduledBatch& batch) override {
    if (batch.step == kFakeStep) return;
    inner_->retire(batch);
  }

  void finish(Sequence& sequence) override {
    BlockTable copy = sequence.block_table;
    if (fault_ == Fault::kReleasedInFlight) kv_cache_.release(sequence.block_table);
    if (fault_ == Fault::kNeverReleased) sequence.block_table.clear();
    inner_->finish(sequence);
    ++num_finished_;
    if (fault_ == Fault::kReleasedTwice) kv_cache_.release(copy);
    if (fault_ == Fault::kKeepsBlocks) static_cast<void>(kv_cache_.grow(kept_, num_finished_));
  }

 private:
  static constexpr int kFirstFaultyPlan = 4;
  static constexpr std::uint64_t kFakeStep = 1U << 20;

  void tamper(ScheduledBatch& batch) {
    if (batch.empty()) {
      if (fault_ == Fault::kNeverEnds) {
        batch.num_padding_tokens = 1;
        batch.step = kFakeStep;
      }
      return;
    }
    if (batch.sequences.size() < 2) return;
    tamper_with_tables(*batch.sequences[0].sequence, *batch.sequences[1].sequence);
    tamper_with_plan(batch);
  }

  void tamper_with_tables(Sequence& first, Sequence& second) {
    BlockTable& table = first.block_table;
    switch (fault_) {
      case Fault::kBlockLost: table.erase(table.begin()); break;
      case Fault::kBlockSharedWritable:
        kv_cache_.release(second.block_table);
        kv_cache_.share(table, second.block_table,
                        std::ssize(table) * std::int64_t{kv_cache_.block_size()});
        break;
      case Fault::kBlockTwice: table.push_back(table.front()); break;
      case Fault::kBlockReserved: table.front() = kReservedBlock; break;
      case Fault::kBlocksSwapped: std::swap(table[0], table[1]); break;
      case Fault::kBlockStale: std::swap(table.front(), second.block_table.front()); break;
      case Fault::kTooFewBlocks: kv_cache_.truncate(table, kv_cache_.block_size()); break;
      case Fault::kPublishedEarly:
        kv_cache_.publish(table, first.token_ids(), 0, first.num_written_tokens,
                          std::ssize(first.token_ids()));
        break;
      case Fault::kSlotShared: second.slot = first.slot; break;
      default: break;
    }
  }

  void tamper_with_plan(ScheduledBatch& batch) {
    Sequence& first = *batch.sequences[0].sequence;
    switch (fault_) {
      case Fault::kPlannedTwice: batch.sequences[1] = batch.sequences[0]; break;
      case Fault::kPlannedFinished: first.status = SequenceStatus::kFinished; break;
      case Fault::kMiscounted: --batch.num_tokens; break;
      case Fault::kOverBudget: batch.num_padding_tokens += 1000; break;
      case Fault::kOldestPreempted:
        first.status = SequenceStatus::kWaiting;
        batch.num_tokens -= batch.sequences[0].num_new_tokens;
        batch.sequences.erase(batch.sequences.begin());
        break;
      case Fault::kPreemptedTooOften: first.num_preemptions = 5; break;
      case Fault::kTokenSkipped: --batch.sequences[0].first_position; break;
      default: break;
    }
  }

  std::unique_ptr<Scheduler> inner_;
  KvCacheManager& kv_cache_;
  Fault fault_;
  int num_plans_ = 0;
  int num_finished_ = 0;
  BlockTable kept_;
};

// What the checks say of a run in which the saboteur is at work; empty when they say nothing.
std::string verdict(Fault fault, bool check_every_step = true) {
  FakeEngineOptions options;
  options.check_every_step = check_every_step;
  options.kv_cache.num_blocks = 30;
  options.kv_cache.block_size = 3;
  options.continuous.max_num_seqs = 4;
  options.continuous.max_num_batched_tokens = 32;
  options.steps_ahead = 1;
  options.vocab_size = 1000;
  FakeEngine engine(options);
  engine.wrap_scheduler([&](std::unique_ptr<Scheduler> inner) {
    return std::make_unique<Saboteur>(std::move(inner), engine.kv_cache(), fault);
  });
  try {
    for (TokenId i = 0; i < 4; ++i) {
      FakeRequest request;
      request.prompt_token_ids = {i, 10, 20, 30, 40 + i};
      request.max_output_tokens = 6 + i;
      engine.add(request);
    }
    for (int i = 0; i < 6; ++i) engine.step();
    engine.cancel(3);
    engine.drain();
  } catch (const std::exception& error) {
    return error.what();
  }
  return "";
}

TEST_CASE("a sound scheduler passes every check") {
  CHECK(verdict(Fault::kNone) == "");
}

TEST_CASE("each planted fault is caught by the check that is there for it") {
  const std::vector<std::pair<Fault, std::string>> faults = {
      {Fault::kBlockLost, "I09"},
      {Fault::kBlockSharedWritable, "I05"},
      {Fault::kBlockTwice, "holds block"},
      {Fault::kBlockReserved, "I10"},
      {Fault::kBlocksSwapped, "sampled token"},
      {Fault::kBlockStale, "sampled token"},
      {Fault::kTooFewBlocks, "I09"},
      {Fault::kPublishedEarly, "I06, I07"},
      {Fault::kReleasedInFlight, "I11"},
      {Fault::kReleasedTwice, "I11: blocks were released"},
      {Fault::kNeverReleased, "I11"},
      {Fault::kNothingPlanned, "I16"},
      {Fault::kPlannedTwice, "planned twice"},
      {Fault::kPlannedFinished, "I22"},
      {Fault::kMiscounted, "I19"},
      {Fault::kOverBudget, "I19"},
      {Fault::kOldestPreempted, "I17"},
      {Fault::kPreemptedTooOften, "I20"},
      {Fault::kSlotShared, "is not its own"},
      {Fault::kForgotten, "I30"},
      {Fault::kNeverEnds, "I18"},
      {Fault::kTokenSkipped, "with a gap"},
      {Fault::kKeepsBlocks, "I14"},
      {Fault::kKeepsRow, "I14"},
      {Fault::kRefusesAll, "I21"},
  };
  for (const auto& [fault, expected] : faults) {
    const std::string message = verdict(fault);
    CAPTURE(static_cast<int>(fault));
    CAPTURE(message);
    CHECK(message.find(expected) != std::string::npos);
  }
}

TEST_CASE("a key or value that changes in a block which others can read is seen") {
  FakeEngine engine(FakeEngineOptions{});
  engine.add({.prompt_token_ids = {1, 2, 3, 4, 5, 6}, .max_output_tokens = 8});
  engine.step();
  engine.step();
  const BlockId block = engine.sequence(1).block_table.front();
  REQUIRE(engine.kv_cache().is_published(block));
  engine.model().contents(block)[1] ^= 1;
  CHECK_THROWS_WITH_AS(engine.step(),
                       fmt::format("I12: shared block {} was written", block).c_str(), Violation);
}

TEST_CASE("wrong contents are seen in the answers, without any look at the blocks") {
  for (const Fault fault : {Fault::kBlocksSwapped, Fault::kBlockStale}) {
    CAPTURE(static_cast<int>(fault));
    const std::string message = verdict(fault, false);
    CAPTURE(message);
    CHECK(message.find("sampled token") != std::string::npos);
  }
}

}  // namespace
}  // namespace llmrun::testing
