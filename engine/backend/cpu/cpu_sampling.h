// Sampling on the CPU, as engine/backend/sampling_batch.h defines it.
//
// Each row is chosen by one thread, and nothing it computes depends on other rows or threads. All
// filters are lower bounds on a logit (engine/backend/cpu/sampling_bounds.h), so the draw is one
// pass over the row.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "engine/backend/cpu/penalty_state.h"
#include "engine/backend/cpu/sampling_bounds.h"
#include "engine/backend/sampling_batch.h"
#include "engine/core/cpu_info.h"
#include "engine/core/thread_pool.h"
#include "engine/core/token_id.h"
#include "kernels/cpu/sampling.h"

namespace llmrun {

class CpuSampler {
 public:
  // `pool` must outlive the sampler. `isa` must be supported; it changes speed, never results.
  CpuSampler(ThreadPool& pool, CpuIsa isa);

  // Chooses one token from each row. Row r is logits[r * row_stride, ...): `vocab_size` logits,
  // then padding that is never looked at. At most one row that samples (target_token < 0) per slot.
  std::vector<SampledToken> sample(const float* logits, std::int64_t row_stride,
                                   std::int64_t vocab_size, std::span<const SamplingRow> rows);

  // See Backend::reset_penalty_state.
  void reset_penalty_state(std::int32_t slot, std::span<const TokenId> prompt_tokens,
                           std::span<const TokenId> output_tokens);

  // The token chosen last for the slot. REQUIRES: there is one.
  TokenId feedback_token(std::int32_t slot) const;

 private:
  struct Slot {
    TokenId feedback_token = -1;
    std::optional<PenaltyState> penalties;
  };
  // A row's greatest logit and the lowest token that has it.
  struct Peak {
    float logit;
    TokenId id;
  };

  Slot& slot(std::int32_t index);
  SampledToken sample_row(std::span<const float> logits, const SamplingRow& row,
                          SamplingScratch& scratch) const;
  // -1 when every token is masked.
  TokenId choose(std::span<const float> logits, Peak peak, const SamplingRow& row,
                 SamplingScratch& scratch) const;
  TokenId draw(std::span<const float> logits, Peak peak, const SamplingRow& row,
               SamplingScratch& scratch) const;
  Peak find_peak(std::span<const float> logits) const;
  void modify(std::span<float> logits, const SamplingRow& row) const;
  std::vector<TokenLogprob> logprobs(std::span<const float> logits, Peak peak, TokenId chosen,
                                     std::int32_t num_best, SamplingScratch& scratch) const;

  ThreadPool& pool_;
  const kernels::SamplingKernels& kernels_;
  std::vector<SamplingScratch> scratch_;  // one a thread
  std::vector<Slot> slots_;
};

}  // namespace llmrun
