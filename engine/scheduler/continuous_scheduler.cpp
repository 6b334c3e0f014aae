#include "engine/scheduler/continuous_scheduler.h"

#include <algorithm>

#include <fmt/format.h>

#include "engine/core/error.h"

namespace llmrun {

namespace {

// Bounds the look at sequences that only wait for their prompt's leader; they stand right behind
// it.
constexpr std::size_t kMaxExaminedSequences = 1024;

bool arrived_before(const Sequence* a, const Sequence* b) {
  return a->id() < b->id();
}

template <typename Queue>
void insert_by_arrival(Queue& queue, Sequence& sequence) {
  queue.insert(std::lower_bound(queue.begin(), queue.end(), &sequence, arrived_before), &sequence);
}

template <typename Queue>
bool erase_by_arrival(Queue& queue, const Sequence& sequence) {
  const auto found = std::lower_bound(queue.begin(), queue.end(), &sequence, arrived_before);
  if (found == queue.end() || *found != &sequence) return false;
  queue.erase(found);
  return true;
}

}  // namespace

ContinuousScheduler::ContinuousScheduler(KvCacheManager& kv_cache, const Options& options)
    : kv_cache_(kv_cache), options_(options) {
  LLMRUN_CHECK(options.max_num_seqs >= 1 && options.max_num_batched_tokens >= 1);
  LLMRUN_CHECK(options.max_preemptions >= 0 && options.max_look_ahead >= 0);
  // Every running sequence gets its token in every step, so no more may run than the step has
  // tokens.
  const auto num_slots = std::min(options.max_num_seqs, options.max_num_batched_tokens);
  slots_.resize(static_cast<std::size_t>(num_slots));
}

void ContinuousScheduler::add(Sequence& sequence) {
  LLMRUN_CHECK(sequence.status == SequenceStatus::kWaiting && sequence.block_table.empty());
  LLMRUN_CHECK(can_ever_fit(sequence.max_num_tokens()));
  LLMRUN_CHECK(waiting_.empty() || waiting_.back()->id() < sequence.id());
  waiting_.push_back(&sequence);
}

bool ContinuousScheduler::can_ever_fit(std::int64_t num_tokens) const {
  return num_tokens <= kv_cache_.capacity_tokens();
}

ScheduledBatch ContinuousScheduler::schedule() {
  ScheduledBatch batch;
  requeue_preempted();
  const bool had_room = make_room(batch);
  const bool all_planned = plan_running(batch);
  // What is available belongs to the sequences that run.
  if (had_room && all_planned) admit_waiting(batch);
  if (batch.empty()) {
    const bool is_step_in_flight = last_scheduled_step_ > last_retired_step_;
    LLMRUN_CHECK(is_step_in_flight || !has_unfinished());
    return batch;
  }
  batch.step = ++last_scheduled_step_;
  return batch;
}

void ContinuousScheduler::retire(const ScheduledBatch& batch) {
  LLMRUN_CHECK(batch.step == last_retired_step_ + 1 && batch.step <= last_scheduled_step_);
  last_retired_step_ = batch.step;
  for (const ScheduledSequence& scheduled : batch.sequences) {
    Sequence& sequence = *scheduled.sequence;
    LLMRUN_CHECK(sequence.num_steps_in_flight > 0);
    --sequence.num_steps_in_flight;
    if (sequence.status == SequenceStatus::kFinished) {
      if (sequence.num_steps_in_flight > 0) continue;
      release(sequence);
      erase_by_arrival(leaving_, sequence);
      continue;
    }
    const std::int64_t num_written_tokens = scheduled.first_position + scheduled.num_new_tokens;
    kv_cache_.publish(sequence.block_table, sequence.token_ids(), sequence.options().cache_salt,
                      sequence.num_written_tokens, num_written_tokens);
    sequence.num_written_tokens = num_written_tokens;
  }
}

void ContinuousScheduler::finish(Sequence& sequence) {
  if (sequence.status == SequenceStatus::kFinished) return;
  sequence.status = SequenceStatus::kFinished;
  if (!erase_by_arrival(running_, sequence) && !erase_by_arrival(leaving_, sequence)) {
    erase_by_arrival(waiting_, sequence);
  }
  if (sequence.num_steps_in_flight > 0) {
    insert_by_arrival(leaving_, sequence);
  } else {
    release(sequence);
  }
}

bool ContinuousScheduler::has_unfinished() const {
  return !running_.empty() || !waiting_.empty() ||
         std::ranges::any_of(leaving_, [](const Sequence* sequence) {
           return sequence->status != SequenceStatus::kFinished;
         });
}

SchedulerStats ContinuousScheduler::stats() const {
  SchedulerStats stats = stats_;
  stats.num_running = static_cast<std::int32_t>(running_.size());
  stats.num_waiting = static_cast<std::int32_t>(waiting_.size());
  return stats;
}

// --- giving way ---------------------------------------------------------------------------------

void ContinuousScheduler::requeue_preempted() {
  std::erase_if(leaving_, [&](Sequence* sequence) {
    if (sequence->num_steps_in_flight > 0) return false;
    release(*sequence);
    sequence->forget_computed();
    insert_by_arrival(waiting_, *sequence);
    return true;
  });
}

// Preempts until every running sequence's next token has room, now or as soon as the steps in
// flight are retired. Returns whether nothing had to give way.
bool ContinuousScheduler::make_room(ScheduledBatch& batch) {
  std::int64_t num_needed = std::ranges::count_if(
      running_, [&](const Sequence* s) { return s->is_plannable() && needs_block(*s); });
  std::int64_t num_available = kv_cache_.num_available_blocks();
  if (num_needed <= num_available) return true;
  // Blocks of steps in flight come back by themselves. Without counting them, every further call
  // would preempt another sequence for the same shortage.
  num_available += num_returning_blocks();
  while (num_needed > num_available) {
    Sequence* victim = choose_victim();
    if (victim == nullptr) break;
    if (victim->is_plannable() && needs_block(*victim)) --num_needed;
    num_available += kv_cache_.num_releasable_blocks(victim->block_table);
    preempt(*victim);
    ++batch.num_preempted;
  }
  return batch.num_preempted == 0;
}

std::int64_t ContinuousScheduler::num_returning_blocks() const {
  std::int64_t num_blocks = 0;
  for (const Sequence* sequence : leaving_) {
    num_blocks += kv_cache_.num_releasable_blocks(sequence->block_table);
  }
  for (const Sequence* sequence : running_) {
    if (!sequence->reached_max_tokens()) continue;
    num_blocks += kv_cache_.num_releasable_blocks(sequence->block_table);
  }
  return num_blocks;
}

// The fewest computed tokens lose the least work; among equals the latest arrival has waited least.
Sequence* ContinuousScheduler::choose_victim() const {
  Sequence* victim = nullptr;
  for (std::size_t i = 1; i < running_.size(); ++i) {
    Sequence* sequence = running_[i];
    if (sequence->num_preemptions >= options_.max_preemptions) continue;
    if (sequence->reached_max_tokens()) continue;  // ends with the steps in flight
    if (victim == nullptr || sequence->num_computed_tokens() <= victim->num_computed_tokens()) {
      victim = sequence;
    }
  }
  return victim;
}

void ContinuousScheduler::preempt(Sequence& sequence) {
  erase_by_arrival(running_, sequence);
  sequence.status = SequenceStatus::kWaiting;
  sequence.num_lost_tokens = sequence.num_computed_tokens();
  ++sequence.num_preemptions;
  ++stats_.num_preemptions;
  if (sequence.num_steps_in_flight > 0) {
    insert_by_arrival(leaving_, sequence);
    return;
  }
  release(sequence);
  sequence.forget_computed();
  insert_by_arrival(waiting_, sequence);
}

void ContinuousScheduler::release(Sequence& sequence) {
  kv_cache_.release(sequence.block_table);
  sequence.num_written_tokens = 0;
  if (sequence.slot >= 0) slots_[static_cast<std::size_t>(sequence.slot)] = nullptr;
  sequence.slot = -1;
}

// --- running ------------------------------------------------------------------------------------

bool ContinuousScheduler::needs_block(const Sequence& sequence) const {
  return kv_cache_.num_blocks_for(sequence.num_computed_tokens() + 1) >
         static_cast<std::int64_t>(sequence.block_table.size());
}

// Plans the running sequences: those that decode before those whose prompt is not computed yet, so
// that no prompt holds up an answer. Returns whether every one got its block.
bool ContinuousScheduler::plan_running(ScheduledBatch& batch) {
  bool all_planned = true;
  for (const bool decoding : {true, false}) {
    for (Sequence* sequence : running_) {
      // Planning a row closes its gap, which leaves it one pending token: so none is planned twice.
      const std::int64_t num_uncomputed_tokens = sequence->num_uncomputed_tokens();
      if (!sequence->is_plannable() || (num_uncomputed_tokens == 1) != decoding) continue;
      const std::int64_t num_new_tokens = chunk_size(*sequence, num_uncomputed_tokens, batch);
      if (num_new_tokens == 0) continue;
      if (!kv_cache_.grow(sequence->block_table,
                          sequence->num_computed_tokens() + num_new_tokens)) {
        all_planned = false;
        continue;
      }
      plan(*sequence, num_new_tokens, batch);
    }
  }
  return all_planned;
}

// How much of a gap fits into the step; 0: nothing. What has begun may always go on in part.
std::int64_t ContinuousScheduler::chunk_size(const Sequence& sequence,
                                             std::int64_t num_uncomputed_tokens,
                                             const ScheduledBatch& batch) const {
  const std::int64_t budget = options_.max_num_batched_tokens - batch.num_tokens;
  const bool may_split = options_.enable_chunked_prefill ||
                         sequence.status == SequenceStatus::kRunning ||
                         num_uncomputed_tokens > options_.max_num_batched_tokens;
  if (!may_split && num_uncomputed_tokens > budget) return 0;
  const std::int64_t threshold = options_.long_prefill_token_threshold;
  const std::int64_t limit = may_split && threshold > 0 ? std::min(threshold, budget) : budget;
  return std::min(num_uncomputed_tokens, limit);
}

void ContinuousScheduler::plan(Sequence& sequence, std::int64_t num_new_tokens,
                               ScheduledBatch& batch) {
  batch.sequences.push_back({.sequence = &sequence,
                             .first_position = sequence.num_computed_tokens(),
                             .num_new_tokens = static_cast<std::int32_t>(num_new_tokens),
                             .samples = num_new_tokens == sequence.num_uncomputed_tokens(),
                             .num_padding_tokens = 0});
  batch.num_tokens += static_cast<std::int32_t>(num_new_tokens);
  sequence.plan(num_new_tokens);
  ++sequence.num_steps_in_flight;
}

// --- admission ----------------------------------------------------------------------------------

void ContinuousScheduler::admit_waiting(ScheduledBatch& batch) {
  if (waiting_.empty()) return;
  std::int64_t num_reserved_blocks = 0;
  for (const Sequence* sequence : running_) num_reserved_blocks += growth_reserve(*sequence);
  auto num_free_slots = std::ranges::count(slots_, nullptr);
  std::int32_t num_refused = 0;
  std::size_t num_examined = 0;
  for (std::size_t i = 0; i < waiting_.size() && num_examined < kMaxExaminedSequences;) {
    // Each admission takes a slot, at least one token and at least one block.
    if (num_free_slots == 0 || batch.num_tokens >= options_.max_num_batched_tokens) return;
    if (kv_cache_.num_available_blocks() == 0) return;
    ++num_examined;
    Sequence& sequence = *waiting_[i];
    if (waits_for_leader(sequence)) {
      ++i;
      continue;
    }
    if (try_admit(sequence, num_reserved_blocks, batch)) {
      --num_free_slots;
      num_reserved_blocks += growth_reserve(sequence);
      waiting_.erase(waiting_.begin() + static_cast<std::ptrdiff_t>(i));
      if (num_refused > 0 && ++num_overtakes_ >= options_.max_overtakes) return;
      continue;
    }
    if (num_refused == 0 && overtaken_ != sequence.id()) {
      overtaken_ = sequence.id();
      num_overtakes_ = 0;
    }
    ++num_refused;
    if (num_refused > options_.max_look_ahead || num_overtakes_ >= options_.max_overtakes) return;
    ++i;
  }
}

bool ContinuousScheduler::try_admit(Sequence& sequence, std::int64_t num_reserved_blocks,
                                    ScheduledBatch& batch) {
  const std::int64_t num_cached_tokens = reuse_prefix(sequence);
  const std::int64_t num_new_tokens =
      chunk_size(sequence, sequence.num_tokens() - num_cached_tokens, batch);
  // A sequence that gave way too often gets all it can ever need, and never gives way again.
  const bool is_pinned = sequence.num_preemptions >= options_.max_preemptions;
  const std::int64_t num_tokens = is_pinned ? sequence.max_num_tokens() : sequence.num_tokens();
  const std::int64_t num_new_blocks =
      kv_cache_.num_blocks_for(num_tokens) - static_cast<std::int64_t>(sequence.block_table.size());
  if (num_new_tokens == 0 ||
      num_new_blocks + num_reserved_blocks > kv_cache_.num_available_blocks() ||
      !kv_cache_.grow(sequence.block_table, num_tokens)) {
    kv_cache_.release(sequence.block_table);
    return false;
  }
  start_running(sequence, num_cached_tokens);
  plan(sequence, num_new_tokens, batch);
  return true;
}

void ContinuousScheduler::start_running(Sequence& sequence, std::int64_t num_cached_tokens) {
  sequence.set_cached_prefix(num_cached_tokens);
  sequence.num_written_tokens = num_cached_tokens;
  if (sequence.num_preemptions == 0) {
    sequence.num_cached_tokens = num_cached_tokens;
    kv_cache_.record_prefix_query(sequence.num_tokens(), num_cached_tokens);
  } else {
    stats_.num_recomputed_tokens +=
        std::max<std::int64_t>(0, sequence.num_lost_tokens - num_cached_tokens);
  }
  const auto slot = std::ranges::find(slots_, nullptr);
  LLMRUN_CHECK(slot != slots_.end());
  *slot = &sequence;
  sequence.slot = static_cast<std::int32_t>(slot - slots_.begin());
  sequence.status = SequenceStatus::kRunning;
  insert_by_arrival(running_, sequence);
}

// Fills the sequence's table with blocks that hold its first tokens already; returns how many.
std::int64_t ContinuousScheduler::reuse_prefix(Sequence& sequence) {
  const Sequence::Options& options = sequence.options();
  // The prompt's logits have been seen once there is an output token.
  if (options.needs_all_prompt_logits && sequence.output_token_ids().empty()) return 0;
  const std::int64_t num_matched_tokens =
      kv_cache_.match_prefix(sequence.block_table, sequence.token_ids(), options.cache_salt);
  const Sequence* leader = options.prompt_leader;
  if (leader == nullptr) return num_matched_tokens;
  const std::int64_t num_leader_tokens = std::min(
      {sequence.num_prompt_tokens(), sequence.num_tokens() - 1, leader->num_written_tokens});
  const std::int64_t num_shared_tokens =
      num_leader_tokens / kv_cache_.block_size() * kv_cache_.block_size();
  if (num_shared_tokens <= num_matched_tokens) return num_matched_tokens;
  kv_cache_.release(sequence.block_table);
  kv_cache_.share(leader->block_table, sequence.block_table, num_shared_tokens);
  return num_shared_tokens;
}

// A sample of a prompt waits until the prompt's leader has written the full blocks they will share.
bool ContinuousScheduler::waits_for_leader(const Sequence& sequence) const {
  const Sequence* leader = sequence.options().prompt_leader;
  if (leader == nullptr || leader->status == SequenceStatus::kFinished) return false;
  const std::int64_t num_full_blocks = (sequence.num_prompt_tokens() - 1) / kv_cache_.block_size();
  return leader->num_written_tokens < num_full_blocks * kv_cache_.block_size();
}

std::int64_t ContinuousScheduler::growth_reserve(const Sequence& sequence) const {
  const std::int64_t num_growth_blocks = kv_cache_.num_blocks_for(sequence.max_num_tokens()) -
                                         static_cast<std::int64_t>(sequence.block_table.size());
  return std::clamp<std::int64_t>(num_growth_blocks, 0, options_.growth_reserve_blocks);
}

// --- checks -------------------------------------------------------------------------------------

std::optional<std::string> ContinuousScheduler::check_integrity() const {
  std::vector<const BlockTable*> tables;
  std::size_t num_slots_taken = 0;
  for (const auto* holders : {&running_, &leaving_}) {
    for (const Sequence* sequence : *holders) {
      tables.push_back(&sequence->block_table);
      if (sequence->slot >= 0) ++num_slots_taken;
      if (static_cast<std::int64_t>(sequence->block_table.size()) <
          kv_cache_.num_blocks_for(sequence->num_computed_tokens())) {
        return fmt::format("sequence {} has {} computed tokens in {} blocks", sequence->id(),
                           sequence->num_computed_tokens(), sequence->block_table.size());
      }
    }
  }
  for (const Sequence* sequence : running_) {
    if (sequence->status != SequenceStatus::kRunning || sequence->slot < 0 ||
        slots_[static_cast<std::size_t>(sequence->slot)] != sequence) {
      return fmt::format("running sequence {} has status {} and slot {}", sequence->id(),
                         static_cast<int>(sequence->status), sequence->slot);
    }
  }
  for (const Sequence* sequence : waiting_) {
    if (sequence->status != SequenceStatus::kWaiting || !sequence->block_table.empty() ||
        sequence->slot >= 0 || sequence->num_steps_in_flight > 0) {
      return fmt::format("waiting sequence {} holds blocks, a slot or a step", sequence->id());
    }
  }
  const auto num_slots_free = static_cast<std::size_t>(std::ranges::count(slots_, nullptr));
  if (num_slots_taken + num_slots_free != slots_.size()) {
    return fmt::format("{} slots are taken and {} free, of {}", num_slots_taken, num_slots_free,
                       slots_.size());
  }
  return kv_cache_.check_integrity(tables);
}

}  // namespace llmrun
