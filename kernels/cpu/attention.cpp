#include "kernels/cpu/attention.h"

namespace llmrun::kernels {

std::int64_t attention_state_floats(std::int64_t head_dim) {
  return 16 + (head_dim + 15) / 16 * 16;
}

AttentionSpan attention_span(const AttentionArgs& args, const AttentionTask& task) {
  AttentionSpan span;
  if (args.sliding_window > 0 && task.first_position >= args.sliding_window) {
    span.begin = task.first_position - args.sliding_window + 1;
  }
  span.end = task.first_position + task.num_tokens;
  return span;
}

}  // namespace llmrun::kernels
