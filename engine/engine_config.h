// EngineConfig: everything that decides how an engine is built, and the presets that people know by
// name. Flag names and defaults follow vLLM's where it has them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>

#include <nlohmann/json.hpp>

#include "engine/sequence/sampling_params.h"

namespace llmrun {

enum class SchedulerKind : std::uint8_t { kContinuous, kStatic };
enum class KvLayout : std::uint8_t { kPaged, kContiguous };
// kPaged: tiled kernels that split long contexts over the device. kPlain: one block of threads a
// query row, no tiles, no splits: what the naive baseline runs.
enum class AttentionKind : std::uint8_t { kPaged, kPlain };

struct EngineConfig {
  // --- model ---
  std::string model;      // folder, Hugging Face id in the local cache, or shape:NAME
  std::string tokenizer;  // empty: the model's
  std::string revision;
  std::string dtype = "auto";           // auto | float32 | bfloat16 | float16
  std::string kv_cache_dtype = "auto";  // auto: the model's | float32 | bfloat16
  std::string load_format = "auto";     // auto | dummy
  bool allow_symlinks = false;          // weight files that are links out of the model's folder
  std::int32_t max_model_len = 0;       // 0: what the model was made for

  // --- device ---
  std::string device = "auto";   // auto | cpu | cuda
  std::int32_t num_threads = 0;  // CPU: 0: all this process may use
  std::string cpu_isa = "auto";  // auto | amx | avx512bf16 | avx2 | portable
  bool deterministic = false;    // one kernel for every batch size

  // --- memory ---
  double memory_utilization =
      0.0;  // share of the device's memory the engine may use; 0: 0.9, CPU 0.5
  std::size_t kv_cache_memory_bytes = 0;    // 0: what is left
  std::int32_t num_kv_blocks_override = 0;  // > 0: exactly so many blocks; for tests of preemption
  std::int32_t block_size = 16;             // tokens per KV block, paged layout

  // --- scheduling ---
  SchedulerKind scheduler = SchedulerKind::kContinuous;
  KvLayout kv_layout = KvLayout::kPaged;
  bool enable_prefix_caching = true;
  bool enable_chunked_prefill = true;
  std::int32_t max_num_seqs = 0;            // 0: 1024; CPU 64
  std::int32_t max_num_batched_tokens = 0;  // 0: 8192; CPU 512
  std::int32_t steps_ahead = -1;            // -1: 1 where the device works by itself, CPU 0
  bool cuda_graphs = true;                  // replay decode steps as CUDA graphs (CUDA only)
  AttentionKind attention = AttentionKind::kPaged;  // which attention kernels (CUDA only)

  // --- requests ---
  std::uint64_t seed = 0;  // of those that have none of their own
  std::int32_t max_logprobs = SamplingLimits{}.max_logprobs;
};

// Sets the parts of `config` that a backend of this name means; the flags can be changed
// afterwards.
//   paged   continuous batching over a paged KV cache, chunked prefill, prefix caching
//   naive   what most people run without an engine: static padded batches, contiguous KV memory
//           reserved at full length, plain attention, no prefix cache, no step ahead, no graphs
// Throws Error(kUsage) for another name.
void apply_backend_preset(EngineConfig& config, const std::string& name);

// Throws Error(kUsage) that names the flag, the value and the range.
void validate(const EngineConfig& config);

// All fields by flag name, for manifests and reports.
nlohmann::ordered_json to_json(const EngineConfig& config);

const char* to_string(SchedulerKind kind);
const char* to_string(KvLayout layout);
const char* to_string(AttentionKind kind);

}  // namespace llmrun
