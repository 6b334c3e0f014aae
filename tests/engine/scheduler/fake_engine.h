// FakeEngine: the engine's loop around a scheduler and FakeModel, with every invariant of the KV
// cache and the scheduler checked at every step. Throws Violation at the first that does not hold.
// The names I01-I30 are those of the project's list of invariants; those that are about texts,
// random choices and requests (I23-I25, I27-I29) are checked where these are:
// tests/engine/top/llm_engine_property_test.cpp and tests/tools/generate/generate_run_test.cpp.
#pragma once

#include <algorithm>
#include <array>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <utility>
#include <vector>

#include "engine/kv_cache/kv_cache_manager.h"
#include "engine/scheduler/continuous_scheduler.h"
#include "engine/scheduler/scheduler.h"
#include "engine/scheduler/static_scheduler.h"
#include "tests/support/fake_model.h"
#include "tests/support/random_test.h"

namespace llmrun::testing {

struct FakeEngineOptions {
  KvCacheManager::Options kv_cache = {
      .num_blocks = 64, .block_size = 4, .enable_prefix_caching = true, .hash_key = Hash128{1, 2}};
  ContinuousScheduler::Options continuous;
  bool is_static = false;
  std::int32_t steps_ahead = 0;
  std::int32_t vocab_size = 16;
  std::int32_t num_stop_tokens = 0;  // tokens below this id end a sequence
  bool check_every_step = true;      // the checks that cost O(blocks)
};

struct FakeRequest {
  std::vector<TokenId> prompt_token_ids;
  std::int64_t max_output_tokens = 1;
  std::int32_t num_samples = 1;
  bool needs_host_tokens = false;
  bool needs_all_prompt_logits = false;
  std::uint64_t cache_salt = 0;
};

// What a step planned; unlike ScheduledBatch it outlives the sequences.
struct PlannedStep {
  struct Row {
    SequenceId id = 0;
    std::int32_t num_new_tokens = 0;
    std::int32_t num_padding_tokens = 0;
    bool samples = false;
  };
  std::vector<Row> rows;
  std::int32_t num_tokens = 0;
  std::int32_t num_padding_tokens = 0;
  std::int32_t num_preempted = 0;

  bool empty() const { return rows.empty() && num_padding_tokens == 0; }
};

class FakeEngine {
 public:
  struct Result {
    std::vector<TokenId> token_ids;
    bool cancelled = false;
    std::int32_t num_preemptions = 0;
    std::int64_t num_cached_tokens = 0;
    std::uint64_t finished_step = 0;  // steps collected before it ended
  };

  explicit FakeEngine(const FakeEngineOptions& options)
      : options_(options),
        kv_cache_(options.kv_cache),
        model_(options.kv_cache.num_blocks, options.kv_cache.block_size,
               options.continuous.max_num_seqs, options.vocab_size) {
    if (options.is_static) {
      scheduler_ = std::make_unique<StaticScheduler>(
          kv_cache_, StaticScheduler::Options{
                         .max_num_seqs = options.continuous.max_num_seqs,
                         .max_num_batched_tokens = options.continuous.max_num_batched_tokens});
    } else {
      scheduler_ = std::make_unique<ContinuousScheduler>(kv_cache_, options.continuous);
    }
  }

  // Returns the id of the first sample; the others follow. Nothing when it can never fit.
  std::optional<SequenceId> add(const FakeRequest& request) {
    const auto num_tokens =
        static_cast<std::int64_t>(request.prompt_token_ids.size()) + request.max_output_tokens;
    const std::int64_t block_size = options_.kv_cache.block_size;
    const bool fits =
        (num_tokens + block_size - 1) / block_size <= options_.kv_cache.num_blocks - 1;
    require(scheduler_->can_ever_fit(num_tokens) == fits,
            "I21: {} tokens were wrongly {} for {} blocks of {}", num_tokens,
            fits ? "refused" : "admitted", options_.kv_cache.num_blocks - 1, block_size);
    if (!fits) return std::nullopt;
    const SequenceId first = next_id_;
    const Sequence* leader = nullptr;
    for (std::int32_t i = 0; i < request.num_samples; ++i) {
      const SequenceId id = next_id_++;
      auto sequence = std::make_unique<Sequence>(
          Sequence::Options{.id = id,
                            .prompt_token_ids = request.prompt_token_ids,
                            .max_output_tokens = request.max_output_tokens,
                            .needs_host_tokens = request.needs_host_tokens,
                            .needs_all_prompt_logits = request.needs_all_prompt_logits && i == 0,
                            .cache_salt = request.cache_salt,
                            .prompt_leader = leader});
      scheduler_->add(*sequence);
      if (leader == nullptr) leader = sequence.get();
      live_.emplace(id, Live{std::move(sequence), first, false});
    }
    return first;
  }

  void cancel(SequenceId id) {
    const auto found = live_.find(id);
    if (found == live_.end()) return;
    end(found->second, true);
    destroy_ended();
    check_blocks();
  }

  // Admits a request and cancels it at once.
  void add_and_cancel(const FakeRequest& request) {
    const auto counts = [this] {
      const KvCacheStats blocks = kv_cache_.stats();
      const SchedulerStats sequences = scheduler_->stats();
      return std::array{blocks.num_free_blocks, blocks.num_cached_blocks, blocks.num_used_blocks,
                        sequences.num_running, sequences.num_waiting};
    };
    const auto before = counts();
    const std::optional<SequenceId> first = add(request);
    if (!first) return;
    for (std::int32_t i = request.num_samples; i-- > 0;) {
      cancel(*first + static_cast<SequenceId>(i));
    }
    require(counts() == before, "I14: an abort left other counts than there were before");
  }

  // One turn of the engine's loop. Returns the step that was planned.
  PlannedStep step() {
    const std::optional<SequenceId> oldest_running = oldest_running_id();
    ScheduledBatch batch = scheduler_->schedule();
    check_plan(batch, oldest_running);
    PlannedStep planned = describe(batch);
    if (!batch.empty()) submit(batch);
    check_blocks();
    const auto num_in_flight = static_cast<std::int32_t>(in_flight_.size());
    if (num_in_flight > options_.steps_ahead || (num_in_flight > 0 && batch.empty())) {
      finish_oldest_step();
    } else {
      require(!batch.empty() || !scheduler_->has_unfinished(), "I16: nothing planned");
    }
    destroy_ended();
    check_blocks();
    return planned;
  }

  // Runs until everything has ended, and checks that nothing is left behind.
  void drain() {
    std::int64_t bound = 10;
    for (const auto& [id, live] : live_) {
      bound += live.sequence->max_num_tokens() * (options_.continuous.max_preemptions + 2) *
               (options_.steps_ahead + 2);
    }
    while (scheduler_->has_unfinished() || !in_flight_.empty()) {
      require(bound-- > 0, "I18: {} sequences do not end", live_.size());
      step();
    }
    check_idle();
  }

  void check_idle() {
    require(live_.empty(), "I30: {} sequences are left", live_.size());
    const KvCacheStats stats = kv_cache_.stats();
    require(stats.num_used_blocks == 0, "I15: {} blocks are used when idle", stats.num_used_blocks);
    check_integrity();
  }

  void check_integrity() {
    const auto fault = scheduler_->check_integrity();
    require(!fault, "integrity: {}", fault.value_or(""));
  }

  Scheduler& scheduler() { return *scheduler_; }
  KvCacheManager& kv_cache() { return kv_cache_; }
  FakeModel& model() { return model_; }
  const std::map<SequenceId, Result>& results() const { return results_; }
  const Result& result(SequenceId id) const { return results_.at(id); }
  std::uint64_t num_steps() const { return num_steps_; }
  std::int32_t num_in_flight() const { return static_cast<std::int32_t>(in_flight_.size()); }
  std::int32_t num_live() const { return static_cast<std::int32_t>(live_.size()); }
  std::vector<SequenceId> live_ids() const {
    std::vector<SequenceId> ids;
    for (const auto& [id, live] : live_) {
      if (!live.ended) ids.push_back(id);
    }
    return ids;
  }
  const Sequence& sequence(SequenceId id) const { return *live_.at(id).sequence; }
  Sequence& sequence(SequenceId id) { return *live_.at(id).sequence; }
  const FakeEngineOptions& options() const { return options_; }
  // Puts another scheduler around this one, to plant a fault.
  void wrap_scheduler(
      const std::function<std::unique_ptr<Scheduler>(std::unique_ptr<Scheduler>)>& wrap) {
    scheduler_ = wrap(std::move(scheduler_));
  }

 private:
  struct Live {
    std::unique_ptr<Sequence> sequence;
    SequenceId leader = 0;
    bool ended = false;
  };
  // A block that a step in flight reads or writes.
  struct Use {
    SequenceId sequence = 0;
    bool is_written = false;
  };
  using Holders = std::map<BlockId, std::set<SequenceId>>;
  struct InFlight {
    ScheduledBatch batch;
    std::map<BlockId, std::vector<Use>> uses;
    std::map<std::int32_t, SequenceId> slots;
  };

  static PlannedStep describe(const ScheduledBatch& batch) {
    PlannedStep planned{.rows = {},
                        .num_tokens = batch.num_tokens,
                        .num_padding_tokens = batch.num_padding_tokens,
                        .num_preempted = batch.num_preempted};
    for (const ScheduledSequence& row : batch.sequences) {
      planned.rows.push_back({.id = row.sequence->id(),
                              .num_new_tokens = row.num_new_tokens,
                              .num_padding_tokens = row.num_padding_tokens,
                              .samples = row.samples});
    }
    return planned;
  }

  std::optional<SequenceId> oldest_running_id() const {
    for (const auto& [id, live] : live_) {
      if (live.sequence->status == SequenceStatus::kRunning) return id;
    }
    return std::nullopt;
  }

  void check_plan(const ScheduledBatch& batch, std::optional<SequenceId> oldest_running) const {
    std::int64_t num_tokens = 0;
    std::int64_t num_row_padding = 0;
    std::set<SequenceId> ids;
    for (const ScheduledSequence& row : batch.sequences) {
      const Sequence& sequence = *row.sequence;
      require(sequence.status == SequenceStatus::kRunning, "I22: {} planned, not running",
              sequence.id());
      require(ids.insert(sequence.id()).second, "{} is planned twice", sequence.id());
      require(row.num_new_tokens >= 1, "{} is planned with no token", sequence.id());
      require(row.first_position + row.num_new_tokens == sequence.num_computed_tokens(),
              "{} is planned with a gap", sequence.id());
      require(sequence.num_output_tokens() <= sequence.options().max_output_tokens,
              "{} is planned past its length", sequence.id());
      require(sequence.num_pending_tokens() <= options_.steps_ahead + 1, "{} has {} pending tokens",
              sequence.id(), sequence.num_pending_tokens());
      require(!sequence.options().needs_host_tokens || sequence.num_pending_tokens() <= 1,
              "{} is planned before its last token is known", sequence.id());
      num_tokens += row.num_new_tokens;
      num_row_padding += row.num_padding_tokens;
    }
    require(num_tokens == batch.num_tokens, "I19: {} tokens planned, {} counted", num_tokens,
            batch.num_tokens);
    require(num_tokens + batch.num_padding_tokens <= options_.continuous.max_num_batched_tokens,
            "I19: {} tokens exceed the budget", num_tokens + batch.num_padding_tokens);
    require(num_row_padding <= batch.num_padding_tokens, "padding is not counted");
    require(std::ssize(batch.sequences) <= options_.continuous.max_num_seqs,
            "I19: {} sequences exceed the budget", batch.sequences.size());
    if (oldest_running) {
      require(live_.at(*oldest_running).sequence->status == SequenceStatus::kRunning,
              "I17: the oldest running sequence {} was preempted", *oldest_running);
    }
    for (const auto& [id, live] : live_) {
      require(live.sequence->num_preemptions <= options_.continuous.max_preemptions,
              "I20: {} was preempted {} times", id, live.sequence->num_preemptions);
    }
  }

  void submit(const ScheduledBatch& batch) {
    InFlight step{batch, {}, {}};
    std::vector<FakeModel::Row> rows;
    for (const ScheduledSequence& scheduled : batch.sequences) {
      const Sequence& sequence = *scheduled.sequence;
      FakeModel::Row row{
          sequence.block_table, sequence.slot, scheduled.first_position, {}, scheduled.samples};
      const std::int64_t end = scheduled.first_position + scheduled.num_new_tokens;
      for (std::int64_t position = scheduled.first_position; position < end; ++position) {
        const auto i = static_cast<std::size_t>(position);
        const bool is_known = i < sequence.token_ids().size();
        row.token_ids.push_back(is_known ? sequence.token_ids()[i] : FakeModel::kFeedback);
      }
      note_uses(sequence, scheduled, step);
      rows.push_back(std::move(row));
    }
    model_.submit(std::move(rows));
    in_flight_.push_back(std::move(step));
  }

  void note_uses(const Sequence& sequence, const ScheduledSequence& scheduled, InFlight& step) {
    const std::int64_t block_size = kv_cache_.block_size();
    const std::int64_t end = scheduled.first_position + scheduled.num_new_tokens;
    require(kv_cache_.num_blocks_for(end) <= std::ssize(sequence.block_table),
            "I09: {} has {} blocks for {} tokens", sequence.id(), sequence.block_table.size(), end);
    for (std::int64_t i = 0; i < kv_cache_.num_blocks_for(end); ++i) {
      const BlockId block = sequence.block_table[static_cast<std::size_t>(i)];
      require(block != kReservedBlock, "I10: {} holds the reserved block", sequence.id());
      const bool is_written = (i + 1) * block_size > scheduled.first_position;
      step.uses[block].push_back({sequence.id(), is_written});
    }
    require(sequence.slot >= 0 && step.slots.emplace(sequence.slot, sequence.id()).second,
            "slot {} of {} is not its own", sequence.slot, sequence.id());
  }

  // What is true of the blocks of all steps in flight taken together.
  void check_blocks() {
    if (!options_.check_every_step) return;
    Holders holders;
    for (const auto& [id, live] : live_) {
      for (const BlockId block : live.sequence->block_table) holders[block].insert(id);
    }
    check_shared_contents(holders);
    std::map<std::int32_t, SequenceId> slots;
    std::map<BlockId, SequenceId> writers;
    std::map<BlockId, std::set<SequenceId>> users;
    for (const InFlight& step : in_flight_) {
      for (const auto& [slot, id] : step.slots) {
        require(slots.emplace(slot, id).first->second == id, "I11: slot {} is reused in flight",
                slot);
      }
      for (const auto& [block, uses] : step.uses) {
        for (const Use& use : uses) {
          users[block].insert(use.sequence);
          if (use.is_written) {
            require(writers.emplace(block, use.sequence).first->second == use.sequence,
                    "I05: block {} is written by two sequences", block);
          }
        }
      }
    }
    // Also where no table shows who holds them: in the rows of a static batch that have ended.
    require(kv_cache_.stats().num_used_blocks >= std::ssize(users),
            "I11: blocks were released before their step was retired");
    for (const auto& [block, writer] : writers) {
      require(users.at(block).size() == 1, "I11: block {} is written and read in flight", block);
      for (const SequenceId holder : holders[block]) {
        require(holder == writer, "I05: block {}, written by {}, is in the table of {}", block,
                writer, holder);
      }
      // A finished row of a static batch leaves its blocks to the batch.
      const bool is_held = !holders[block].empty() || options_.is_static;
      require(is_held, "I11: block {} was released before its step was retired", block);
      require(!kv_cache_.is_published(block), "I06, I07: block {} is published and written", block);
    }
    check_what_is_left(holders);
    check_integrity();
  }

  // Nothing is copied on write, since only full blocks are shared and a sequence writes only after
  // its last full block (kv_cache_manager.h). So what a block holds cannot change while another can
  // read it: as I05 has it, from what the tables say, and here, from the keys and values.
  void check_shared_contents(const Holders& holders) {
    for (BlockId block = 1; block < options_.kv_cache.num_blocks; ++block) {
      const auto found = holders.find(block);
      const bool is_shared = found != holders.end() && found->second.size() > 1;
      if (!is_shared && !kv_cache_.is_published(block)) {
        shared_contents_.erase(block);
        continue;
      }
      const auto contents = model_.contents(block);
      const auto [place, is_new] =
          shared_contents_.try_emplace(block, contents.begin(), contents.end());
      require(is_new || std::ranges::equal(place->second, contents),
              "I12: shared block {} was written", block);
    }
  }

  // What has ended, in whatever state it was, holds nothing once its steps are retired.
  void check_what_is_left(const Holders& holders) {
    std::int32_t num_unfinished = 0;
    for (const auto& [id, live] : live_) {
      // One that gives way has its slot while steps name it, and is counted again when it waits.
      const bool gives_way =
          live.sequence->status == SequenceStatus::kWaiting && live.sequence->slot >= 0;
      num_unfinished += live.ended || gives_way ? 0 : 1;
    }
    const SchedulerStats stats = scheduler_->stats();
    require(stats.num_running + stats.num_waiting == num_unfinished,
            "I14, I30: {} run and {} wait, of {} sequences that have not ended", stats.num_running,
            stats.num_waiting, num_unfinished);
    // The rows of a static batch keep their blocks until all of them have ended.
    const std::int32_t num_used = kv_cache_.stats().num_used_blocks;
    require(options_.is_static || num_used == std::ssize(holders),
            "I14: {} blocks are used, and {} are in tables", num_used, holders.size());
  }

  void finish_oldest_step() {
    const ScheduledBatch batch = std::move(in_flight_.front().batch);
    in_flight_.pop_front();
    const std::vector<TokenId> sampled = model_.collect();
    ++num_steps_;
    scheduler_->retire(batch);
    for (std::size_t i = 0; i < batch.sequences.size(); ++i) {
      const ScheduledSequence& scheduled = batch.sequences[i];
      Live& live = live_.at(scheduled.sequence->id());
      if (live.ended || !scheduled.samples) continue;
      Sequence& sequence = *live.sequence;
      const TokenId expected = FakeModel::next_token(sequence.token_ids(), options_.vocab_size);
      require(sampled[i] == expected, "sequence {} sampled token {} at position {}, expected {}",
              sequence.id(), sampled[i], sequence.token_ids().size(), expected);
      sequence.resolve_pending(sampled[i]);
      const bool is_last =
          std::ssize(sequence.output_token_ids()) == sequence.options().max_output_tokens;
      if (is_last || sampled[i] < options_.num_stop_tokens) end(live, false);
    }
  }

  void end(Live& live, bool cancelled) {
    Sequence& sequence = *live.sequence;
    if (live.ended) {
      scheduler_->finish(sequence);  // idempotent
      return;
    }
    live.ended = true;
    const auto output = sequence.output_token_ids();
    require(results_
                .emplace(sequence.id(), Result{{output.begin(), output.end()},
                                               cancelled,
                                               sequence.num_preemptions,
                                               sequence.num_cached_tokens,
                                               num_steps_})
                .second,
            "I22: {} ended twice", sequence.id());
    sequence.drop_pending();
    scheduler_->finish(sequence);
    require(sequence.status == SequenceStatus::kFinished, "I22: {} is not finished", sequence.id());
  }

  // As early as the contract allows, so that a sanitizer sees who still looks.
  void destroy_ended() {
    std::set<SequenceId> needed_leaders;
    for (const auto& [id, live] : live_) {
      if (!live.ended && live.leader != id) needed_leaders.insert(live.leader);
    }
    std::erase_if(live_, [&](const auto& entry) {
      return entry.second.ended && entry.second.sequence->num_steps_in_flight == 0 &&
             !needed_leaders.contains(entry.first);
    });
  }

  FakeEngineOptions options_;
  KvCacheManager kv_cache_;
  FakeModel model_;
  std::unique_ptr<Scheduler> scheduler_;
  std::map<SequenceId, Live> live_;  // by order of arrival
  std::map<SequenceId, Result> results_;
  std::deque<InFlight> in_flight_;
  std::map<BlockId, std::vector<std::uint64_t>> shared_contents_;  // when they became shared
  SequenceId next_id_ = 1;
  std::uint64_t num_steps_ = 0;
};

}  // namespace llmrun::testing
