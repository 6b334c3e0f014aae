// ModelRunner: turns a ScheduledBatch into device work and device results into tokens. Owns the
// memory of the KV cache and the logits; knows nothing of policy, requests or text.
//
// submit() queues a step and returns; collect() waits for the oldest step. Between them the caller
// may plan and submit the next step: a token that was sampled but not collected is read by the
// device itself.
#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <span>
#include <vector>

#include "engine/backend/backend.h"
#include "engine/models/causal_lm.h"
#include "engine/sequence/scheduled_batch.h"

namespace llmrun {

// How one scheduled sequence is sampled, beyond its tokens.
struct SamplingPlan {
  SamplingRow row;                        // slot is filled in by the runner
  std::int32_t num_prompt_logprobs = -1;  // >= 0: also report the prompt's log-probabilities
};

// What a step gave for one of its sequences.
struct SequenceOutput {
  struct PromptLogprob {
    std::int64_t position = 0;  // of the prompt token that is rated, >= 1
    std::vector<TokenLogprob> logprobs;
  };
  SampledToken sampled;  // meaningful when the scheduled sequence samples
  std::vector<PromptLogprob> prompt_logprobs;
  bool is_finite = true;  // false: some row of this sequence held non-finite logits
};

class ModelRunner {
 public:
  struct Options {
    std::int32_t num_blocks = 0;  // of the KV pool, the reserved block included
    std::int32_t block_size = 0;
    std::int32_t max_model_len = 0;           // tokens of the longest sequence
    std::int32_t max_num_seqs = 0;            // request slots
    std::int32_t max_num_batched_tokens = 0;  // tokens of one step, padding included
    bool pads_batches = false;                // batches with padding tokens will come
    std::int32_t max_logits_rows = 0;  // logits are computed and sampled this many rows at a time
    std::int64_t vocab_size = 0;       // ids that may be sampled; <= the model's vocabulary rows
    DType kv_cache_dtype = DType::kBf16;
  };

  // The largest step of a runner with these options.
  static StepLimits step_limits(const Options& options, const ModelConfig& config);

  // Allocates the KV cache, the activations and the logits. The backend and the model must outlive
  // this. Throws Error(kMemory).
  ModelRunner(Backend& backend, CausalLm& model, const Options& options);

  // Queues a step. `plans` has one entry per sequence of the batch. The spans inside the plans must
  // stay valid until the step is collected.
  void submit(const ScheduledBatch& batch, std::span<const SamplingPlan> plans);

  // Waits for the oldest submitted step; one entry per sequence of its batch.
  std::vector<SequenceOutput> collect();

  std::int32_t num_steps_in_flight() const { return static_cast<std::int32_t>(in_flight_.size()); }

 private:
  // One row of logits: which sequence of the batch it belongs to and what it rates.
  struct LogitsRow {
    std::int32_t sequence_idx = 0;
    std::int64_t prompt_position =
        -1;  // >= 1: rates this prompt token; else it is the sampling row
  };
  struct StepInFlight {
    std::int32_t num_sequences = 0;
    std::vector<LogitsRow> rows;
    std::vector<std::uint64_t> tickets;  // one per slice of rows, at least one
  };

  void build_inputs(const ScheduledBatch& batch, std::span<const SamplingPlan> plans);
  void append_sequence(const ScheduledSequence& scheduled);
  void append_logits_rows(const ScheduledSequence& scheduled, const SamplingPlan& plan,
                          std::int32_t sequence_idx);
  void append_padding(std::int32_t num_padding_tokens);
  void reset_penalties(const ScheduledBatch& batch);

  Backend& backend_;
  CausalLm& model_;
  Options options_;
  std::vector<DeviceTensor> kv_memory_;
  std::vector<KvCacheView> kv_layers_;
  DeviceTensor logits_;  // [max_logits_rows, V] f32

  // The step being built; kept to reuse their memory.
  StepInputs inputs_;
  std::vector<SamplingRow> sampling_rows_;
  std::vector<LogitsRow> logits_rows_;
  std::deque<StepInFlight> in_flight_;
  std::vector<std::uint64_t> slot_owner_;  // [max_num_seqs] sequence whose penalties the slot holds
};

}  // namespace llmrun
