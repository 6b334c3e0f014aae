// StaticScheduler: the batching of a plain model.generate(), the baseline of the benchmarks. A
// batch is formed, computed in lockstep until its longest sequence ends, and only then comes the
// next.
//
// It is a fair baseline: a batch closes only when the KV memory or max_num_seqs is full. Each
// sequence reserves prompt + max_output_tokens when it joins, so none ever gives way.
//
// A round computes the next tokens of every row: the first round the prompts, padded to the
// longest; each later one a token per row, rows that have ended included, as padding. A round that
// exceeds the token budget takes several steps. Prefixes are neither shared nor cached.
//
// Source: transformers' GenerationMixin.generate on a padded batch.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <optional>
#include <string>
#include <vector>

#include "engine/kv_cache/kv_cache_manager.h"
#include "engine/scheduler/scheduler.h"

namespace llmrun {

class StaticScheduler final : public Scheduler {
 public:
  struct Options {
    std::int32_t max_num_seqs = 256;             // rows of a batch
    std::int32_t max_num_batched_tokens = 2048;  // of one step, padding included
  };

  // `kv_cache` outlives the scheduler.
  StaticScheduler(KvCacheManager& kv_cache, const Options& options);

  void add(Sequence& sequence) override;
  bool can_ever_fit(std::int64_t num_tokens) const override;
  ScheduledBatch schedule() override;
  void retire(const ScheduledBatch& batch) override;
  void finish(Sequence& sequence) override;
  bool has_unfinished() const override;
  SchedulerStats stats() const override;
  std::optional<std::string> check_integrity() const override;

 private:
  struct Row {
    Sequence* sequence = nullptr;  // null: it has ended
    BlockTable block_table;        // of a sequence that has ended: kept until the batch ends
  };

  void form_batch();
  void release_ended_batch();
  bool plan_row(ScheduledBatch& batch);

  KvCacheManager& kv_cache_;
  Options options_;
  std::deque<Sequence*> waiting_;  // by order of arrival, that is by id
  std::vector<Row> rows_;          // by request slot

  // The round in progress: rows before `row_` are planned, and `row_` up to `num_row_tokens_`.
  bool is_first_round_ = true;
  std::int64_t round_length_ = 0;  // tokens per row, padding included
  std::size_t row_ = 0;
  std::int64_t num_row_tokens_ = 0;

  std::uint64_t last_scheduled_step_ = 0;
  std::uint64_t last_retired_step_ = 0;
};

}  // namespace llmrun
