// One sample of a request while it is being served.
//
// There is no prefill state and no decode state. A sequence has num_tokens() tokens, of which
// num_computed_tokens() have their keys and values in the cache, or will have when the steps in
// flight are done; serving it means closing the gap. When the gap closes, the step samples one more
// token. Source: vLLM V1 scheduler, vllm/v1/core/sched/scheduler.py.
//
// The host plans one step ahead: a token that is sampled in a step which has not been collected yet
// is *pending*. It counts as a token, has a position, and its id is known to the device only.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "engine/core/token_id.h"
#include "engine/kv_cache/block_table.h"

namespace llmrun {

using SequenceId = std::uint64_t;  // unique in a run, ascending in order of arrival

enum class SequenceStatus : std::uint8_t { kWaiting, kRunning, kFinished };

class Sequence {
 public:
  struct Options {
    SequenceId id = 0;
    std::vector<TokenId> prompt_token_ids;
    std::int64_t max_output_tokens =
        0;  // >= 1; prompt + this many never exceeds the model's context
    // The next token cannot be planned before the last one is on the host (bad words, beam search).
    bool needs_host_tokens = false;
    // Prompt tokens whose keys and values must be computed even when they are cached (prompt
    // log-probabilities).
    bool needs_all_prompt_logits = false;
    std::uint64_t cache_salt =
        0;  // sequences share cached prefixes only when their salts are equal
    // The first sample of the same prompt, whose prompt blocks this one shares; null for that one
    // itself. Lives as long as this sequence, finished or not.
    const Sequence* prompt_leader = nullptr;
  };

  explicit Sequence(Options options);

  SequenceId id() const { return options_.id; }
  const Options& options() const { return options_; }

  // Known ids, prompt first. Pending tokens are not in it.
  std::span<const TokenId> token_ids() const { return token_ids_; }
  std::span<const TokenId> output_token_ids() const {
    return std::span(token_ids_).subspan(options_.prompt_token_ids.size());
  }
  std::int64_t num_prompt_tokens() const {
    return static_cast<std::int64_t>(options_.prompt_token_ids.size());
  }
  std::int64_t num_pending_tokens() const { return num_pending_tokens_; }
  std::int64_t num_tokens() const {
    return static_cast<std::int64_t>(token_ids_.size()) + num_pending_tokens_;
  }
  std::int64_t num_output_tokens() const { return num_tokens() - num_prompt_tokens(); }
  std::int64_t num_computed_tokens() const { return num_computed_tokens_; }
  std::int64_t num_uncomputed_tokens() const { return num_tokens() - num_computed_tokens_; }
  // Nothing more is to be planned: all tokens it may have are known or pending.
  bool reached_max_tokens() const { return num_output_tokens() >= options_.max_output_tokens; }
  // The length it may grow to.
  std::int64_t max_num_tokens() const { return num_prompt_tokens() + options_.max_output_tokens; }
  // Whether its next token can be planned before another step is collected.
  bool is_plannable() const {
    return !reached_max_tokens() && (!options_.needs_host_tokens || num_pending_tokens_ == 0);
  }

  // --- called by the scheduler while planning a step ---
  // Plans the next `num_new_tokens` of the gap. Closing it makes one more token pending.
  // REQUIRES: 1 <= num_new_tokens <= num_uncomputed_tokens().
  void plan(std::int64_t num_new_tokens);
  // Starts with `num_tokens` tokens that are in the cache already. REQUIRES: num_computed_tokens()
  // == 0.
  void set_cached_prefix(std::int64_t num_tokens);
  // Forgets the cache, keeps the tokens: they are computed again when scheduled again.
  // REQUIRES: no step in flight.
  void forget_computed();

  // --- called when a step is collected ---
  // Turns the oldest pending token into a known one. REQUIRES: num_pending_tokens() > 0.
  void resolve_pending(TokenId token);
  // Drops pending tokens, when the sequence ended before them.
  void drop_pending() { num_pending_tokens_ = 0; }
  // Replaces all output tokens (a beam that continues another). REQUIRES: no pending token, no step
  // in flight.
  void replace_output(std::span<const TokenId> output_token_ids, std::int64_t num_computed_tokens);

  SequenceStatus status = SequenceStatus::kWaiting;
  BlockTable block_table;
  std::int32_t slot = -1;                // request slot while running, else -1
  std::int32_t num_steps_in_flight = 0;  // planned and not yet collected
  std::int32_t num_preemptions = 0;
  std::int64_t num_cached_tokens = 0;  // prompt tokens found in the cache at first admission
  // Keys and values of the first so many tokens are written: by retired steps, or found in the
  // cache.
  std::int64_t num_written_tokens = 0;
  std::int64_t num_lost_tokens = 0;  // computed, and lost by the last preemption

 private:
  Options options_;
  std::vector<TokenId> token_ids_;
  std::int64_t num_pending_tokens_ = 0;
  std::int64_t num_computed_tokens_ = 0;
};

}  // namespace llmrun
