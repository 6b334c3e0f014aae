#include "engine/engine_config.h"

#include <algorithm>
#include <array>
#include <initializer_list>
#include <string_view>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "engine/core/error.h"

namespace llmrun {
namespace {

void require_one_of(const char* flag, const std::string& value,
                    std::initializer_list<std::string_view> allowed) {
  if (std::find(allowed.begin(), allowed.end(), value) != allowed.end()) return;
  throw Error(ErrorKind::kUsage,
              fmt::format("{} must be one of {}, got '{}'", flag, fmt::join(allowed, ", "), value));
}

template <typename T>
void require_range(const char* flag, T value, T low, T high) {
  if (value >= low && value <= high) return;
  throw Error(ErrorKind::kUsage,
              fmt::format("{} must be between {} and {}, got {}", flag, low, high, value));
}

}  // namespace

const char* to_string(SchedulerKind kind) {
  return kind == SchedulerKind::kContinuous ? "continuous" : "static";
}

const char* to_string(KvLayout layout) {
  return layout == KvLayout::kPaged ? "paged" : "contiguous";
}

const char* to_string(AttentionKind kind) {
  return kind == AttentionKind::kPaged ? "paged" : "plain";
}

void apply_backend_preset(EngineConfig& config, const std::string& name) {
  require_one_of("--backend", name, {"paged", "naive"});
  const bool naive = name == "naive";
  config.scheduler = naive ? SchedulerKind::kStatic : SchedulerKind::kContinuous;
  config.kv_layout = naive ? KvLayout::kContiguous : KvLayout::kPaged;
  config.enable_prefix_caching = !naive;
  config.enable_chunked_prefill =
      true;  // a static batch's prompts are computed within the token budget
  config.steps_ahead = naive ? 0 : -1;
  config.cuda_graphs = !naive;
  config.attention = naive ? AttentionKind::kPlain : AttentionKind::kPaged;
}

void validate(const EngineConfig& config) {
  require_one_of("--dtype", config.dtype, {"auto", "float32", "bfloat16", "float16"});
  require_one_of("--kv-cache-dtype", config.kv_cache_dtype, {"auto", "float32", "bfloat16"});
  require_one_of("--load-format", config.load_format, {"auto", "dummy"});
  require_one_of("--device", config.device, {"auto", "cpu", "cuda"});
  require_one_of("--cpu-isa", config.cpu_isa, {"auto", "amx", "avx512bf16", "avx2", "portable"});
  require_range("--max-model-len", config.max_model_len, 0, 1 << 24);
  require_range("--threads", config.num_threads, 0, 4096);
  require_range("--memory-utilization", config.memory_utilization, 0.0, 1.0);
  require_range("--block-size", config.block_size, 1, 1 << 16);
  require_range("--num-kv-blocks-override", config.num_kv_blocks_override, 0, 1 << 30);
  require_range("--max-num-seqs", config.max_num_seqs, 0, 1 << 16);
  require_range("--max-num-batched-tokens", config.max_num_batched_tokens, 0, 1 << 20);
  require_range("--steps-ahead", config.steps_ahead, -1, 1);
  require_range("--max-logprobs", config.max_logprobs, -1, 1 << 30);
  if (config.model.empty()) {
    throw Error(ErrorKind::kUsage, "no model given; use --model FOLDER or --model shape:NAME");
  }
  if (config.kv_layout == KvLayout::kContiguous && config.enable_prefix_caching) {
    throw Error(ErrorKind::kUsage,
                "--kv-layout contiguous cannot share prefixes; add --no-enable-prefix-caching");
  }
}

nlohmann::ordered_json to_json(const EngineConfig& config) {
  return {{"model", config.model},
          {"tokenizer", config.tokenizer},
          {"revision", config.revision},
          {"dtype", config.dtype},
          {"kv_cache_dtype", config.kv_cache_dtype},
          {"load_format", config.load_format},
          {"allow_symlinks", config.allow_symlinks},
          {"max_model_len", config.max_model_len},
          {"device", config.device},
          {"threads", config.num_threads},
          {"cpu_isa", config.cpu_isa},
          {"deterministic", config.deterministic},
          {"memory_utilization", config.memory_utilization},
          {"kv_cache_memory_bytes", config.kv_cache_memory_bytes},
          {"num_kv_blocks_override", config.num_kv_blocks_override},
          {"block_size", config.block_size},
          {"scheduler", to_string(config.scheduler)},
          {"kv_layout", to_string(config.kv_layout)},
          {"enable_prefix_caching", config.enable_prefix_caching},
          {"enable_chunked_prefill", config.enable_chunked_prefill},
          {"max_num_seqs", config.max_num_seqs},
          {"max_num_batched_tokens", config.max_num_batched_tokens},
          {"steps_ahead", config.steps_ahead},
          {"cuda_graphs", config.cuda_graphs},
          {"attention", to_string(config.attention)},
          {"seed", config.seed},
          {"max_logprobs", config.max_logprobs}};
}

}  // namespace llmrun
