#include "engine/backend/cpu/cpu_attention.h"

#include <algorithm>

namespace llmrun {
namespace {

// Rows (query tokens times heads of a group) of one task: enough to make up for preparing a tile of
// keys, few enough for the scores and sums to stay in L2.
constexpr std::int64_t kRowsPerTask = 128;
// Tasks a thread that make dividing them further unnecessary.
constexpr std::int64_t kAttentionTasksPerThread = 4;

}  // namespace

void CpuAttention::run(const kernels::AttentionArgs& args, const ForwardBatch& batch) {
  plan(args, batch, args.group_size);
  divide(args);
  // Heads that share keys and values are attended to by several threads only when threads would
  // have nothing to do: each of them reads the keys and values. A row's bits stay the same.
  const std::int64_t tasks_per_group =
      pool_.num_threads() / std::max<std::int64_t>(std::ssize(pieces_), 1);
  if (tasks_per_group > 1 && args.group_size > 1) {
    plan(args, batch, (args.group_size + tasks_per_group - 1) / tasks_per_group);
    divide(args);
  }
  std::int64_t max_rows = 0;
  for (const kernels::AttentionTask& task : tasks_) {
    max_rows = std::max(max_rows, task.num_rows());
  }
  const std::size_t stride = std::max(kernel_.scratch_bytes(max_rows, args.head_dim),
                                      many_rows_kernel_.scratch_bytes(max_rows, args.head_dim));
  scratch_.reserve(stride * static_cast<std::size_t>(pool_.num_threads()));
  const auto scratch_of = [&](std::int32_t thread) {
    return scratch_.as<std::byte>() + static_cast<std::size_t>(thread) * stride;
  };
  pool_.parallel_for(
      static_cast<std::int64_t>(pieces_.size()), [&](std::int64_t index, std::int32_t thread) {
        const Piece& piece = pieces_[static_cast<std::size_t>(index)];
        const kernels::AttentionTask& task = tasks_[piece.task];
        if (piece.split < 0) {
          const bool has_many_rows =
              args.is_bf16 && task.num_tokens * args.group_size >= kernels::CpuKernels::kManyRows;
          (has_many_rows ? many_rows_kernel_ : kernel_).run(args, task, scratch_of(thread));
        } else {
          kernel_.run_split(args, task, piece.split, states_.as<float>() + piece.state_offset,
                            scratch_of(thread));
        }
      });
  pool_.parallel_for(
      static_cast<std::int64_t>(merges_.size()), [&](std::int64_t index, std::int32_t thread) {
        const Merge& merge = merges_[static_cast<std::size_t>(index)];
        kernel_.merge_splits(args, tasks_[merge.task], merge.num_splits,
                             states_.as<float>() + merge.state_offset, scratch_of(thread));
      });
}

void CpuAttention::plan(const kernels::AttentionArgs& args, const ForwardBatch& batch,
                        std::int64_t heads_per_task) {
  const std::int64_t tokens_per_task = std::max<std::int64_t>(kRowsPerTask / args.group_size, 1);
  const auto* query_start = batch.query_start_loc.as<std::int32_t>();
  const auto* seq_lens = batch.seq_lens.as<std::int32_t>();
  const std::int64_t max_blocks = batch.block_tables.dim(1);
  tasks_.clear();
  for (std::int64_t s = 0; s < batch.num_sequences; ++s) {
    const std::int64_t query_len = query_start[s + 1] - query_start[s];
    for (std::int64_t head = 0; head < args.num_kv_heads * args.group_size;) {
      const std::int64_t num_heads =
          std::min(heads_per_task, args.group_size - head % args.group_size);
      for (std::int64_t token = 0; token < query_len; token += tokens_per_task) {
        kernels::AttentionTask task;
        task.first_token = query_start[s] + token;
        task.num_tokens = std::min(tokens_per_task, query_len - token);
        task.first_position = seq_lens[s] - query_len + token;
        task.block_table = batch.block_tables.as<std::int32_t>() + s * max_blocks;
        task.kv_head = head / args.group_size;
        task.first_head = head;
        task.num_heads = num_heads;
        tasks_.push_back(task);
      }
      head += num_heads;
    }
  }
}

// Long contexts of single tokens are divided when there are too few tasks for all threads. The
// result is the same bits either way (kernels/cpu/attention.h).
void CpuAttention::divide(const kernels::AttentionArgs& args) {
  const bool has_enough_tasks =
      static_cast<std::int64_t>(tasks_.size()) >= kAttentionTasksPerThread * pool_.num_threads();
  const std::int64_t state_floats = kernels::attention_state_floats(args.head_dim);
  pieces_.clear();
  merges_.clear();
  std::int64_t num_floats = 0;
  for (std::size_t i = 0; i < tasks_.size(); ++i) {
    const kernels::AttentionTask& task = tasks_[i];
    const kernels::AttentionSpan span = kernels::attention_span(args, task);
    const std::int64_t first = span.begin / kernels::kKvSplit;
    const std::int64_t num_splits = (span.end + kernels::kKvSplit - 1) / kernels::kKvSplit - first;
    if (has_enough_tasks || task.num_tokens > 1 || num_splits < 2 || pool_.num_threads() == 1) {
      pieces_.push_back({.task = i,
                         .split = -1,
                         .state_offset = 0,
                         .num_positions = (span.end - span.begin) * task.num_tokens});
      continue;
    }
    merges_.push_back({.task = i, .num_splits = num_splits, .state_offset = num_floats});
    for (std::int64_t split = 0; split < num_splits; ++split) {
      pieces_.push_back({.task = i,
                         .split = first + split,
                         .state_offset = num_floats,
                         .num_positions = kernels::kKvSplit});
      num_floats += task.num_rows() * state_floats;
    }
  }
  states_.reserve(static_cast<std::size_t>(num_floats) * sizeof(float));
  // The longest first, so that the last to finish is a short one.
  std::stable_sort(pieces_.begin(), pieces_.end(), [](const Piece& a, const Piece& b) {
    return a.num_positions > b.num_positions;
  });
}

}  // namespace llmrun
