#include "engine/scheduler/static_scheduler.h"

#include <algorithm>
#include <utility>

#include <fmt/format.h>

#include "engine/core/error.h"

namespace llmrun {

StaticScheduler::StaticScheduler(KvCacheManager& kv_cache, const Options& options)
    : kv_cache_(kv_cache), options_(options) {
  LLMRUN_CHECK(options.max_num_seqs >= 1 && options.max_num_batched_tokens >= 1);
}

void StaticScheduler::add(Sequence& sequence) {
  LLMRUN_CHECK(sequence.status == SequenceStatus::kWaiting && sequence.block_table.empty());
  LLMRUN_CHECK(can_ever_fit(sequence.max_num_tokens()));
  LLMRUN_CHECK(waiting_.empty() || waiting_.back()->id() < sequence.id());
  waiting_.push_back(&sequence);
}

bool StaticScheduler::can_ever_fit(std::int64_t num_tokens) const {
  return num_tokens <= kv_cache_.capacity_tokens();
}

ScheduledBatch StaticScheduler::schedule() {
  ScheduledBatch batch;
  const bool is_step_in_flight = last_scheduled_step_ > last_retired_step_;
  const bool has_ended = std::ranges::none_of(rows_, [](const Row& row) {
    return row.sequence != nullptr && !row.sequence->reached_max_tokens();
  });
  if (has_ended) {
    // The last tokens of this batch may not be on the host yet.
    if (is_step_in_flight) return batch;
    form_batch();
  }
  if (row_ == rows_.size()) {
    is_first_round_ = false;
    round_length_ = 1;
    row_ = 0;
  }
  while (row_ < rows_.size() && plan_row(batch)) {
  }
  if (batch.empty()) {
    LLMRUN_CHECK(is_step_in_flight || !has_unfinished());
    return batch;
  }
  batch.step = ++last_scheduled_step_;
  return batch;
}

// Takes waiting sequences for as long as they fit.
void StaticScheduler::form_batch() {
  LLMRUN_CHECK(rows_.empty());
  is_first_round_ = true;
  round_length_ = 0;
  row_ = 0;
  num_row_tokens_ = 0;
  while (!waiting_.empty() && rows_.size() < static_cast<std::size_t>(options_.max_num_seqs)) {
    Sequence& sequence = *waiting_.front();
    if (!kv_cache_.grow(sequence.block_table, sequence.max_num_tokens())) break;
    waiting_.pop_front();
    sequence.status = SequenceStatus::kRunning;
    sequence.slot = static_cast<std::int32_t>(rows_.size());
    round_length_ = std::max(round_length_, sequence.num_prompt_tokens());
    rows_.push_back({.sequence = &sequence, .block_table = {}});
  }
}

// Gives the batch's memory back when its last sequence has ended and its last step is retired.
void StaticScheduler::release_ended_batch() {
  if (last_scheduled_step_ > last_retired_step_) return;
  if (std::ranges::any_of(rows_, [](const Row& row) { return row.sequence != nullptr; })) return;
  for (Row& row : rows_) kv_cache_.release(row.block_table);
  rows_.clear();
}

// Plans what the budget allows of the current row. Returns whether the row's part of the round is
// done.
bool StaticScheduler::plan_row(ScheduledBatch& batch) {
  const std::int64_t budget =
      options_.max_num_batched_tokens - batch.num_tokens - batch.num_padding_tokens;
  const std::int64_t num_tokens = std::min(round_length_ - num_row_tokens_, budget);
  if (num_tokens == 0) return false;
  std::int64_t num_new_tokens = 0;
  Sequence* sequence = rows_[row_].sequence;
  if (sequence != nullptr && is_first_round_) {
    num_new_tokens =
        std::clamp<std::int64_t>(sequence->num_prompt_tokens() - num_row_tokens_, 0, num_tokens);
  } else if (sequence != nullptr && !sequence->reached_max_tokens()) {
    if (!sequence->is_plannable()) return false;
    num_new_tokens = 1;
  }
  const auto num_padding_tokens = static_cast<std::int32_t>(num_tokens - num_new_tokens);
  if (num_new_tokens > 0) {
    batch.sequences.push_back({.sequence = sequence,
                               .first_position = sequence->num_computed_tokens(),
                               .num_new_tokens = static_cast<std::int32_t>(num_new_tokens),
                               .samples = num_new_tokens == sequence->num_uncomputed_tokens(),
                               .num_padding_tokens = num_padding_tokens});
    sequence->plan(num_new_tokens);
    ++sequence->num_steps_in_flight;
  }
  batch.num_tokens += static_cast<std::int32_t>(num_new_tokens);
  batch.num_padding_tokens += num_padding_tokens;
  num_row_tokens_ += num_tokens;
  if (num_row_tokens_ < round_length_) return false;
  num_row_tokens_ = 0;
  ++row_;
  return true;
}

void StaticScheduler::retire(const ScheduledBatch& batch) {
  LLMRUN_CHECK(batch.step == last_retired_step_ + 1 && batch.step <= last_scheduled_step_);
  last_retired_step_ = batch.step;
  for (const ScheduledSequence& scheduled : batch.sequences) {
    Sequence& sequence = *scheduled.sequence;
    LLMRUN_CHECK(sequence.num_steps_in_flight > 0);
    --sequence.num_steps_in_flight;
    if (sequence.status == SequenceStatus::kFinished) {
      if (sequence.num_steps_in_flight == 0) sequence.slot = -1;
    } else {
      sequence.num_written_tokens = scheduled.first_position + scheduled.num_new_tokens;
    }
  }
  release_ended_batch();
}

void StaticScheduler::finish(Sequence& sequence) {
  if (sequence.status == SequenceStatus::kRunning) {
    // The row goes on as padding, and its memory stays with the batch.
    Row& row = rows_[static_cast<std::size_t>(sequence.slot)];
    row.sequence = nullptr;
    row.block_table = std::exchange(sequence.block_table, {});
    if (sequence.num_steps_in_flight == 0) sequence.slot = -1;
  } else if (sequence.status == SequenceStatus::kWaiting) {
    std::erase(waiting_, &sequence);
  }
  sequence.status = SequenceStatus::kFinished;
  release_ended_batch();
}

bool StaticScheduler::has_unfinished() const {
  return !waiting_.empty() ||
         std::ranges::any_of(rows_, [](const Row& row) { return row.sequence != nullptr; });
}

SchedulerStats StaticScheduler::stats() const {
  SchedulerStats stats;
  stats.num_running = static_cast<std::int32_t>(
      std::ranges::count_if(rows_, [](const Row& row) { return row.sequence != nullptr; }));
  stats.num_waiting = static_cast<std::int32_t>(waiting_.size());
  return stats;
}

std::optional<std::string> StaticScheduler::check_integrity() const {
  std::vector<const BlockTable*> tables;
  for (std::size_t i = 0; i < rows_.size(); ++i) {
    const Sequence* sequence = rows_[i].sequence;
    tables.push_back(sequence != nullptr ? &sequence->block_table : &rows_[i].block_table);
    if (sequence != nullptr && sequence->slot != static_cast<std::int32_t>(i)) {
      return fmt::format("sequence {} is in row {} with slot {}", sequence->id(), i,
                         sequence->slot);
    }
  }
  for (const Sequence* sequence : waiting_) {
    if (sequence->status != SequenceStatus::kWaiting || !sequence->block_table.empty()) {
      return fmt::format("waiting sequence {} holds blocks", sequence->id());
    }
  }
  return kv_cache_.check_integrity(tables);
}

}  // namespace llmrun
