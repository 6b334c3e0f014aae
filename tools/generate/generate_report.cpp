#include "tools/generate/generate_report.h"

#include <fmt/format.h>

#include "engine/core/counted.h"
#include "engine/core/json.h"
#include "tools/engine_options.h"

namespace llmrun {

std::string opening_report(const EngineDescription& description, const SamplingParams& defaults) {
  std::string text = fmt::format(
      "model: {} ({:.1f} M parameters, {})\ndevice: {}\n{}{}\n", description.config.model,
      static_cast<double>(description.num_parameters) / 1e6, to_string(description.dtype),
      description.device, description.memory_plan.to_text(),
      description.start_up.to_text(description.memory_plan.inputs.weight_bytes));
  for (const std::string& note : description.notes) text += fmt::format("note: {}\n", note);
  text += fmt::format("sampling: {}\n", dump_json(effective_sampling(defaults)));
  return text;
}

std::string closing_report(const GenerateProgress& progress, double seconds) {
  const EngineStats& stats = progress.engine;
  const auto rate = [&](std::int64_t count) {
    return seconds > 0 ? static_cast<double>(count) / seconds : 0.0;
  };
  std::string text = fmt::format(
      "{} in {:.2f} s, {} failed: {:.2f} requests/s, {:.1f} prompt tokens/s, {:.1f} output "
      "tokens/s\n  tokens: {} prompt, {} output",
      counted(progress.num_rows_done, "request"), seconds, progress.num_rows_failed,
      rate(progress.num_rows_done - progress.num_rows_failed), rate(stats.num_prompt_tokens),
      rate(stats.num_output_tokens), stats.num_prompt_tokens, stats.num_output_tokens);
  if (progress.num_rows_skipped > 0) {
    text += fmt::format("; {} there already",
                        counted(progress.num_rows_skipped, "row was", "rows were"));
  }
  text += fmt::format(
      "\n  KV cache: peak {:.1f} % of {}; {}, {} recomputed ({:.1f} % of all "
      "computed); prefix hits {:.1f} % of prompt tokens\n",
      stats.kv_blocks_total == 0 ? 0.0
                                 : 100.0 * static_cast<double>(stats.kv_blocks_peak) /
                                       static_cast<double>(stats.kv_blocks_total),
      counted(stats.kv_blocks_total, "block"), counted(stats.num_preemptions, "preemption"),
      counted(stats.num_recomputed_tokens, "token"), 100.0 * stats.recompute_rate(),
      100.0 * stats.prefix_hit_rate());
  if (stats.num_padding_tokens > 0) {
    text += fmt::format("  padding: of {} {} computed for nobody\n",
                        counted(stats.num_padding_tokens + stats.num_batched_tokens, "row"),
                        counted(stats.num_padding_tokens, "was", "were"));
  }
  if (progress.num_rows_failed > 0) {
    text += fmt::format("  first failure: {}\n", progress.first_failure);
  }
  return text;
}

}  // namespace llmrun
