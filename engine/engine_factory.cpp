#include "engine/engine_factory.h"

#include <algorithm>
#include <filesystem>
#include <optional>
#include <utility>

#include <fmt/format.h>

#include "engine/backend/cpu/cpu_backend.h"
#include "engine/core/error.h"
#include "engine/kv_cache/kv_cache_manager.h"
#include "engine/models/model_registry.h"
#include "engine/scheduler/continuous_scheduler.h"
#include "engine/scheduler/static_scheduler.h"
#include "engine/weights/model_location.h"

namespace llmrun {
namespace {

// Logits are computed and sampled for so many rows at a time; more only costs memory.
constexpr std::int32_t kMaxLogitsRows = 64;

std::unique_ptr<Backend> create_backend(const EngineConfig& config,
                                        std::vector<std::string>& notes) {
  if (config.device == "cuda") {
    throw Error(ErrorKind::kUsage,
                "--device cuda: this build of llmrun has no CUDA backend; use --device cpu");
  }
  if (config.device == "auto") notes.push_back("device: cpu (this build has no CUDA backend)");
  CpuBackendOptions options;
  options.num_threads = config.num_threads;
  options.isa = config.cpu_isa;
  options.deterministic = config.deterministic;
  return make_cpu_backend(options);
}

ModelLocation locate(const EngineConfig& config) {
  const std::string name =
      config.revision.empty() ? config.model : config.model + "@" + config.revision;
  return find_model(name, ModelCaches::from_environment());
}

// Replaces every 0 and "auto" by what the model and the device want.
void resolve_sizes(EngineConfig& config, const ModelConfig& model,
                   std::vector<std::string>& notes) {
  const auto model_positions =
      static_cast<std::int32_t>(std::min<std::int64_t>(model.max_positions, 1 << 24));
  if (config.max_model_len > model_positions) {
    throw Error(ErrorKind::kUsage,
                fmt::format("--max-model-len {} is more than the {} positions of the model",
                            config.max_model_len, model_positions));
  }
  if (config.max_model_len == 0) config.max_model_len = model_positions;
  if (config.max_num_seqs == 0) config.max_num_seqs = 64;
  if (config.max_num_batched_tokens == 0) config.max_num_batched_tokens = 512;
  if (config.memory_utilization == 0.0) config.memory_utilization = 0.5;
  if (config.steps_ahead < 0) config.steps_ahead = 0;
  if (config.kv_layout == KvLayout::kContiguous) {
    config.block_size = config.max_model_len;  // one block a sequence
  }
  if (config.max_num_batched_tokens < config.max_num_seqs) {
    notes.push_back(
        fmt::format("--max-num-batched-tokens {} is raised to --max-num-seqs {}: every running "
                    "sequence needs a token a step",
                    config.max_num_batched_tokens, config.max_num_seqs));
    config.max_num_batched_tokens = config.max_num_seqs;
  }
  if (!config.enable_chunked_prefill && config.max_num_batched_tokens < config.max_model_len) {
    config.max_num_batched_tokens = config.max_model_len;
  }
}

DType resolve_kv_cache_dtype(const EngineConfig& config, DType weights) {
  if (config.kv_cache_dtype == "float32") return DType::kF32;
  if (config.kv_cache_dtype == "bfloat16") return DType::kBf16;
  return weights == DType::kF32 ? DType::kF32 : DType::kBf16;
}

MemoryPlan make_memory_plan(const EngineConfig& config, const ModelConfig& model,
                            DType kv_cache_dtype, std::size_t weight_bytes,
                            std::size_t activation_bytes, std::size_t total_bytes,
                            std::size_t free_bytes) {
  const KvCacheShape shape{.num_layers = model.num_layers,
                           .num_blocks = 1,
                           .block_size = config.block_size,
                           .num_kv_heads = model.num_kv_heads,
                           .head_dim = model.head_dim,
                           .dtype = kv_cache_dtype};
  const auto logits_bytes = static_cast<std::size_t>(kMaxLogitsRows) *
                            static_cast<std::size_t>(model.vocab_size) * sizeof(float);
  return plan_memory({.total_bytes = total_bytes,
                      .free_bytes = free_bytes,
                      .memory_utilization = config.memory_utilization,
                      .weight_bytes = weight_bytes,
                      .activation_bytes = activation_bytes + logits_bytes,
                      .reserve_bytes = 0,
                      .kv_cache_memory_bytes = config.kv_cache_memory_bytes,
                      .num_kv_blocks_override = config.num_kv_blocks_override,
                      .bytes_per_token = shape.bytes_per_token(),
                      .block_size = config.block_size,
                      .max_model_len = config.max_model_len,
                      .max_num_seqs = config.max_num_seqs});
}

std::unique_ptr<Scheduler> make_scheduler(const EngineConfig& config, KvCacheManager& kv_cache) {
  if (config.scheduler == SchedulerKind::kStatic) {
    return std::make_unique<StaticScheduler>(
        kv_cache,
        StaticScheduler::Options{.max_num_seqs = config.max_num_seqs,
                                 .max_num_batched_tokens = config.max_num_batched_tokens});
  }
  return std::make_unique<ContinuousScheduler>(
      kv_cache,
      ContinuousScheduler::Options{.max_num_seqs = config.max_num_seqs,
                                   .max_num_batched_tokens = config.max_num_batched_tokens,
                                   .enable_chunked_prefill = config.enable_chunked_prefill});
}

std::shared_ptr<const Tokenizer> make_tokenizer(const EngineConfig& config,
                                                const ModelLocation& location) {
  if (!config.tokenizer.empty()) return load_model_tokenizer(config.tokenizer);
  if (location.is_shape()) return nullptr;
  return load_tokenizer(location.folder);
}

std::optional<ChatTemplate> make_chat_template(const ModelLocation& location,
                                               const std::string& choice) {
  if (location.is_shape() && choice == "auto") return std::nullopt;
  return load_chat_template(location.folder, choice);
}

// Ids that end a sequence: those of generation_config.json, else of config.json, and the
// tokenizer's.
std::vector<TokenId> eos_token_ids(const ModelConfig& model, const GenerationDefaults& defaults,
                                   const Tokenizer* tokenizer) {
  std::vector<TokenId> ids =
      defaults.eos_token_ids.empty() ? model.eos_token_ids : defaults.eos_token_ids;
  if (tokenizer != nullptr) {
    if (const auto eos = tokenizer->special_token_ids().eos) ids.push_back(*eos);
  }
  std::sort(ids.begin(), ids.end());
  ids.erase(std::unique(ids.begin(), ids.end()), ids.end());
  return ids;
}

}  // namespace

CreatedEngine create_engine(const EngineConfig& requested, const std::string& chat_template,
                            const std::function<void(LoadProgressReport)>& progress) {
  validate(requested);
  CreatedEngine created;
  EngineDescription& description = created.description;
  description.config = requested;
  EngineConfig& config = description.config;

  const ModelLocation location = locate(config);
  const ModelConfig model_config = read_model_config(location);
  resolve_sizes(config, model_config, description.notes);
  const std::shared_ptr<const Tokenizer> tokenizer = make_tokenizer(config, location);
  created.prompts = std::make_shared<const PromptProcessor>(
      tokenizer, make_chat_template(location, chat_template));
  if (!location.is_shape()) {
    description.generation_defaults =
        read_generation_defaults(location.folder, model_config.vocab_size);
  }

  LlmEngine::Parts parts;
  parts.backend = create_backend(config, description.notes);
  description.device = parts.backend->description();
  const std::size_t free_bytes = parts.backend->free_bytes();
  ModelLoadOptions load_options;
  load_options.dtype = config.dtype;
  load_options.float16_supported = parts.backend->name() != "cpu";
  load_options.dummy_weights = config.load_format == "dummy";
  load_options.seed = config.seed;
  load_options.max_positions = config.max_model_len;
  if (progress) {
    load_options.progress = [&](std::uint64_t done, std::uint64_t total) {
      progress({done, total});
    };
  }
  LoadedModel loaded = load_model(location, *parts.backend, load_options);
  description.notes.insert(description.notes.end(), loaded.notes.begin(), loaded.notes.end());
  description.model_fingerprint = loaded.fingerprint;
  description.dtype = loaded.dtype;
  description.num_parameters = num_parameters(model_config);
  description.kv_cache_dtype = resolve_kv_cache_dtype(config, loaded.dtype);

  const std::int32_t max_tokens = config.max_num_batched_tokens;
  description.memory_plan = make_memory_plan(
      config, model_config, description.kv_cache_dtype, loaded.model->weight_bytes(),
      loaded.model->workspace_bytes(parts.backend->activation_dtype(), max_tokens, max_tokens),
      parts.backend->total_bytes(), free_bytes);
  const MemoryPlan& plan = description.memory_plan;

  std::int64_t vocab_size = model_config.vocab_size;
  if (tokenizer != nullptr)
    vocab_size = std::min<std::int64_t>(vocab_size, tokenizer->vocab_size());
  parts.model = std::move(loaded.model);
  parts.runner = std::make_unique<ModelRunner>(
      *parts.backend, *parts.model,
      ModelRunner::Options{.num_blocks = plan.num_blocks,
                           .block_size = config.block_size,
                           .max_num_seqs = config.max_num_seqs,
                           .max_num_batched_tokens = max_tokens,
                           .max_logits_rows = kMaxLogitsRows,
                           .vocab_size = vocab_size,
                           .kv_cache_dtype = description.kv_cache_dtype});
  parts.kv_cache = std::make_unique<KvCacheManager>(
      KvCacheManager::Options{.num_blocks = plan.num_blocks,
                              .block_size = config.block_size,
                              .enable_prefix_caching = config.enable_prefix_caching,
                              .hash_key = std::nullopt});
  parts.scheduler = make_scheduler(config, *parts.kv_cache);
  parts.tokenizer = tokenizer;
  LlmEngine::Options options{.max_model_len = config.max_model_len,
                             .steps_ahead = config.steps_ahead,
                             .seed = config.seed,
                             .eos_token_ids = eos_token_ids(
                                 model_config, description.generation_defaults, tokenizer.get()),
                             .vocab_size = vocab_size};
  created.engine = std::make_unique<LlmEngine>(std::move(parts), options);
  return created;
}

SamplingParams default_sampling_params(const GenerationDefaults& defaults) {
  SamplingParams params;
  // As in vLLM: do_sample is not read, but a model that says false is meant to be greedy.
  if (defaults.do_sample == false) params.temperature = 0.0;
  if (defaults.temperature && defaults.do_sample != false)
    params.temperature = *defaults.temperature;
  if (defaults.top_p && defaults.do_sample != false) params.top_p = *defaults.top_p;
  if (defaults.top_k && defaults.do_sample != false) params.top_k = *defaults.top_k;
  if (defaults.min_p && defaults.do_sample != false) params.min_p = *defaults.min_p;
  if (defaults.repetition_penalty) params.repetition_penalty = *defaults.repetition_penalty;
  if (defaults.max_new_tokens) params.max_tokens = *defaults.max_new_tokens;
  return params;
}

}  // namespace llmrun
