// ContinuousScheduler: continuous batching over a KV cache of blocks. Sequences join and leave at
// any step, and prompts are computed in the token budget that decoding leaves.
//
// Who runs: sequences that run keep running, in order of arrival, one-token rows first; then those
// that wait, in order of arrival. A sequence is admitted when its known tokens fit; after that it
// grows one block at a time. When the blocks run out, the running sequence with the fewest computed
// tokens gives way: its blocks are released and its tokens are computed again later.
//
// Why it always gets on: the oldest running sequence never gives way, so it ends. A sequence that
// gave way max_preemptions times is admitted again only with all the blocks it can ever need, so it
// ends too. No sequence that waits is overtaken more than max_overtakes times while it is the first
// that does not fit. Sequences that wait hold no blocks.
//
// Source: vLLM V1 scheduler, vllm/v1/core/sched/scheduler.py; preemption by recomputation from
// PagedAttention, https://arxiv.org/abs/2309.06180, section 4.5.
#pragma once

#include <cstdint>
#include <deque>
#include <optional>
#include <string>
#include <vector>

#include "engine/kv_cache/kv_cache_manager.h"
#include "engine/scheduler/scheduler.h"

namespace llmrun {

class ContinuousScheduler final : public Scheduler {
 public:
  struct Options {
    std::int32_t max_num_seqs = 256;
    std::int32_t max_num_batched_tokens = 2048;  // of one step
    // Prompts may be computed over several steps. Off: only those longer than the token budget.
    bool enable_chunked_prefill = true;
    // At most so many tokens of a prompt in one step, so that a long one leaves room for others; 0:
    // no limit but the budget.
    std::int32_t long_prefill_token_threshold = 0;
    std::int32_t max_preemptions = 4;
    // Waiting sequences that are tried after the first one that does not fit.
    std::int32_t max_look_ahead = 16;
    std::int32_t max_overtakes = 64;
    // Watermark: admission leaves so many blocks available for each running sequence that can still
    // grow, lest what was just admitted gives way at once.
    std::int32_t growth_reserve_blocks = 1;
  };

  // `kv_cache` outlives the scheduler.
  ContinuousScheduler(KvCacheManager& kv_cache, const Options& options);

  void add(Sequence& sequence) override;
  bool can_ever_fit(std::int64_t num_tokens) const override;
  ScheduledBatch schedule() override;
  void retire(const ScheduledBatch& batch) override;
  void finish(Sequence& sequence) override;
  bool has_unfinished() const override;
  SchedulerStats stats() const override;
  std::optional<std::string> check_integrity() const override;

 private:
  void requeue_preempted();
  bool make_room(ScheduledBatch& batch);
  Sequence* choose_victim() const;
  void preempt(Sequence& sequence);
  std::int64_t num_returning_blocks() const;

  bool plan_running(ScheduledBatch& batch);
  void plan(Sequence& sequence, std::int64_t num_new_tokens, ScheduledBatch& batch);
  std::int64_t chunk_size(const Sequence& sequence, std::int64_t num_uncomputed_tokens,
                          const ScheduledBatch& batch) const;

  void admit_waiting(ScheduledBatch& batch);
  bool try_admit(Sequence& sequence, std::int64_t num_reserved_blocks, ScheduledBatch& batch);
  void start_running(Sequence& sequence, std::int64_t num_cached_tokens);
  std::int64_t reuse_prefix(Sequence& sequence);
  bool waits_for_leader(const Sequence& sequence) const;
  std::int64_t growth_reserve(const Sequence& sequence) const;

  bool needs_block(const Sequence& sequence) const;
  void release(Sequence& sequence);

  KvCacheManager& kv_cache_;
  Options options_;
  // All three by order of arrival, that is by id.
  std::vector<Sequence*> running_;
  std::deque<Sequence*> waiting_;
  // Finished or preempted; their blocks and slots come back when their steps are retired.
  std::vector<Sequence*> leaving_;
  std::vector<Sequence*> slots_;  // by request slot; null: free

  std::uint64_t last_scheduled_step_ = 0;
  std::uint64_t last_retired_step_ = 0;
  std::optional<SequenceId> overtaken_;  // the first waiting sequence that did not fit
  std::int32_t num_overtakes_ = 0;
  SchedulerStats stats_;
};

}  // namespace llmrun
