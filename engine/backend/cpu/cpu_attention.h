// Divides one layer's attention into tasks for the attention kernel and runs them on a thread pool.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "engine/backend/cpu/cpu_memory.h"
#include "engine/backend/forward_batch.h"
#include "engine/core/thread_pool.h"
#include "kernels/cpu/cpu_kernels.h"

namespace llmrun {

class CpuAttention {
 public:
  // `deterministic`: one kernel whatever the number of rows. It matters on AMX only.
  CpuAttention(ThreadPool& pool, const kernels::CpuKernels& kernels, bool deterministic)
      : pool_(pool),
        kernel_(kernels.attention),
        many_rows_kernel_(deterministic ? kernels.attention : kernels.attention_bf16_many_rows) {}

  void run(const kernels::AttentionArgs& args, const ForwardBatch& batch);

 private:
  // A piece of work: a whole task, or one split of it.
  struct Piece {
    std::size_t task = 0;
    std::int64_t split = -1;         // -1: the whole task
    std::int64_t state_offset = 0;   // floats into states_
    std::int64_t num_positions = 0;  // a measure of its cost
  };
  // A task that was divided, and where the states of its splits are.
  struct Merge {
    std::size_t task = 0;
    std::int64_t num_splits = 0;
    std::int64_t state_offset = 0;
  };

  void plan(const kernels::AttentionArgs& args, const ForwardBatch& batch,
            std::int64_t heads_per_task);
  void divide(const kernels::AttentionArgs& args);

  ThreadPool& pool_;
  const kernels::AttentionKernel& kernel_;
  const kernels::AttentionKernel& many_rows_kernel_;
  // Of the call in progress; members so that their memory is reused.
  std::vector<kernels::AttentionTask> tasks_;
  std::vector<Piece> pieces_;
  std::vector<Merge> merges_;
  HostBuffer states_;
  HostBuffer scratch_;
};

}  // namespace llmrun
