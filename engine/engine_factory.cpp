#include "engine/engine_factory.h"

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <optional>
#include <utility>

#include <fmt/format.h>

#include "engine/backend/cpu/cpu_backend.h"
#include "engine/backend/cuda/cuda_backend.h"
#include "engine/core/counted.h"
#include "engine/core/error.h"
#include "engine/kv_cache/kv_cache_manager.h"
#include "engine/models/model_registry.h"
#include "engine/scheduler/continuous_scheduler.h"
#include "engine/scheduler/static_scheduler.h"
#include "engine/tokenizer/tokenizer_description.h"
#include "engine/weights/model_location.h"

namespace llmrun {
namespace {

// Logits are computed and sampled for so many rows at a time; more only costs memory.
std::int32_t max_logits_rows(const EngineConfig& config, bool is_cuda) {
  return is_cuda ? std::clamp(config.max_num_seqs, 64, 1024) : 64;
}

// Whether the engine runs on a GPU. Throws Error(kUsage) when one is asked for and there is none.
bool choose_cuda(const EngineConfig& config, std::vector<std::string>& notes) {
  if (config.device == "cpu") return false;
  const std::string problem = cuda_unavailable_reason();
  if (problem.empty()) return true;
  if (config.device == "cuda") {
    throw Error(ErrorKind::kUsage,
                fmt::format("--device cuda: {}; --device cpu runs without", problem));
  }
  notes.push_back(fmt::format("device: cpu ({})", problem));
  return false;
}

std::unique_ptr<Backend> create_backend(const EngineConfig& config, bool is_cuda, DType dtype) {
  if (is_cuda) {
    return make_cuda_backend({.dtype = dtype,
                              .plain_attention = config.attention == AttentionKind::kPlain,
                              .graphs = config.cuda_graphs,
                              .deterministic = config.deterministic});
  }
  CpuBackendOptions options;
  options.num_threads = config.num_threads;
  if (config.cpu_isa != "auto") options.isa = parse_cpu_isa(config.cpu_isa);
  options.deterministic = config.deterministic;
  return make_cpu_backend(options);
}

ModelLocation locate(const EngineConfig& config) {
  const std::string name =
      config.revision.empty() ? config.model : config.model + "@" + config.revision;
  return find_model(name, ModelCaches::from_environment());
}

// Replaces every 0 and "auto" by what the model and the device want.
void resolve_sizes(EngineConfig& config, const ModelConfig& model, bool is_cuda,
                   std::vector<std::string>& notes) {
  const auto model_positions =
      static_cast<std::int32_t>(std::min<std::int64_t>(model.max_positions, 1 << 24));
  if (config.max_model_len > model_positions) {
    throw Error(ErrorKind::kUsage,
                fmt::format("--max-model-len {} is more than the {} positions of the model",
                            config.max_model_len, model_positions));
  }
  if (config.max_model_len == 0) config.max_model_len = model_positions;
  if (config.max_num_seqs == 0) config.max_num_seqs = is_cuda ? 1024 : 64;
  if (config.max_num_batched_tokens == 0) config.max_num_batched_tokens = is_cuda ? 8192 : 512;
  if (config.memory_utilization == 0.0) config.memory_utilization = is_cuda ? 0.9 : 0.5;
  if (config.steps_ahead < 0) config.steps_ahead = is_cuda ? 1 : 0;
  if (!is_cuda) {
    config.cuda_graphs = false;
    config.attention = AttentionKind::kPaged;
  }
  if (config.kv_layout == KvLayout::kContiguous) {
    // One block a sequence; GPU kernels like whole groups of 8 tokens.
    config.block_size = is_cuda ? (config.max_model_len + 7) / 8 * 8 : config.max_model_len;
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
  return weights;
}

ModelRunner::Options runner_options(const EngineDescription& description, std::int64_t vocab_size,
                                    bool is_cuda) {
  const EngineConfig& config = description.config;
  return {.num_blocks = description.memory_plan.num_blocks,
          .block_size = config.block_size,
          .max_model_len = config.max_model_len,
          .max_num_seqs = config.max_num_seqs,
          .max_num_batched_tokens = config.max_num_batched_tokens,
          .pads_batches = config.scheduler == SchedulerKind::kStatic,
          .max_logits_rows = max_logits_rows(config, is_cuda),
          .vocab_size = vocab_size,
          .kv_cache_dtype = description.kv_cache_dtype};
}

MemoryPlan make_memory_plan(const EngineConfig& config, const StepLimits& limits,
                            const ModelFootprint& footprint, const Backend& backend) {
  const auto logits_bytes = static_cast<std::size_t>(limits.max_logits_rows) *
                            static_cast<std::size_t>(limits.vocab_size) * sizeof(float);
  return plan_memory(
      {.total_bytes = backend.total_bytes(),
       .free_bytes = backend.free_bytes(),
       .memory_utilization = config.memory_utilization,
       .weight_bytes = footprint.weight_bytes,
       .activation_bytes = footprint.workspace_bytes + logits_bytes + backend.step_bytes(limits),
       .reserve_bytes = 0,
       .kv_cache_memory_bytes = config.kv_cache_memory_bytes,
       .num_kv_blocks_override = config.num_kv_blocks_override,
       .bytes_per_token = limits.kv_cache.bytes_per_token(),
       .block_size = config.block_size,
       .max_model_len = config.max_model_len,
       .max_num_seqs = config.max_num_seqs});
}

// What the CUDA backend does not take, told before anything is loaded.
void check_cuda_can_run(const ModelConfig& model, const EngineConfig& config, DType dtype) {
  if (resolve_kv_cache_dtype(config, dtype) != dtype) {
    throw Error(ErrorKind::kUsage,
                fmt::format("--kv-cache-dtype {}: a GPU keeps the KV cache in the model's dtype, "
                            "here {}; use auto",
                            config.kv_cache_dtype, to_string(dtype)));
  }
  if (model.head_dim % 4 != 0 || model.intermediate_size % 8 != 0) {
    throw Error(ErrorKind::kModel,
                fmt::format("the CUDA backend needs head_dim to be a multiple of 4 and "
                            "intermediate_size of 8; this model has {} and {}; use --device cpu",
                            model.head_dim, model.intermediate_size));
  }
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

// "byte-level BPE of tokenizer.json; 151646 tokens, adds no BOS; normalizer NFC; ...".
std::string describe_tokenizer_of(const EngineConfig& config, const Tokenizer& tokenizer,
                                  const ModelLocation& location, std::int64_t num_rows) {
  std::string tokens = fmt::format("{} tokens", tokenizer.vocab_size());
  if (tokenizer.vocab_size() < num_rows) {
    tokens += fmt::format(" (the other {} never sampled)",
                          counted(num_rows - tokenizer.vocab_size(), "row of the vocabulary is",
                                  "rows of the vocabulary are"));
  }
  const std::optional<TokenId> bos = tokenizer.special_token_ids().bos;
  tokens += tokenizer.adds_bos() && bos
                ? fmt::format(", adds BOS {} ({})", tokenizer.piece(*bos), *bos)
                : ", adds no BOS";
  const bool is_folder = std::filesystem::is_directory(config.tokenizer);
  if (!config.tokenizer.empty() && !is_folder) return tokens + ", of " + config.tokenizer;
  const TokenizerDescription described =
      describe_tokenizer(is_folder ? std::filesystem::path(config.tokenizer) : location.folder);
  return fmt::format("{} of {}; {}; {}", described.kind->name, described.kind->files, tokens,
                     described.steps);
}

std::optional<ChatTemplate> make_chat_template(const ModelLocation& location,
                                               const std::string& choice) {
  if (location.is_shape() && choice == "auto") return std::nullopt;
  return load_chat_template(location.folder, choice);
}

// Ids that both the model and the tokenizer know.
std::int64_t known_vocab_size(const ModelConfig& model, const Tokenizer* tokenizer) {
  if (tokenizer == nullptr) return model.vocab_size;
  return std::min(model.vocab_size, tokenizer->vocab_size());
}

// Ids that end a sequence: those of generation_config.json, else of config.json, and the
// tokenizer's. Of ids that cannot be generated none.
std::vector<TokenId> eos_token_ids(const ModelConfig& model, const GenerationDefaults& defaults,
                                   const Tokenizer* tokenizer) {
  std::vector<TokenId> ids =
      defaults.eos_token_ids.empty() ? model.eos_token_ids : defaults.eos_token_ids;
  if (tokenizer != nullptr) {
    if (const auto eos = tokenizer->special_token_ids().eos) ids.push_back(*eos);
  }
  std::sort(ids.begin(), ids.end());
  ids.erase(std::unique(ids.begin(), ids.end()), ids.end());
  const std::int64_t vocab_size = known_vocab_size(model, tokenizer);
  std::erase_if(ids, [&](TokenId id) { return id >= vocab_size; });
  return ids;
}

class Stopwatch {
 public:
  // Seconds since the last lap, or since this was made.
  double lap() {
    const auto now = std::chrono::steady_clock::now();
    return std::chrono::duration<double>(now - std::exchange(last_, now)).count();
  }

 private:
  std::chrono::steady_clock::time_point last_ = std::chrono::steady_clock::now();
};

// Everything that is decided before weights are loaded.
struct Preparation {
  ModelLocation location;
  ModelConfig model;
  bool is_cuda = false;
  std::unique_ptr<Backend> backend;
  std::shared_ptr<const Tokenizer> tokenizer;
  std::optional<ChatTemplate> chat_template;
  ModelFootprint footprint;
  EngineDescription description;  // but for the memory plan

  ModelRunner::Options runner_options() const {
    return llmrun::runner_options(description, known_vocab_size(model, tokenizer.get()), is_cuda);
  }
  MemoryPlan plan_memory() const {
    return make_memory_plan(description.config, ModelRunner::step_limits(runner_options(), model),
                            footprint, *backend);
  }
};

// `tokenizer_problem`: takes what is wrong with the tokenizer, which is then left out; null: that
// is an error.
Preparation prepare(const EngineConfig& requested, const std::string& chat_template,
                    std::string* tokenizer_problem = nullptr) {
  validate(requested);
  Preparation prepared;
  EngineDescription& description = prepared.description;
  description.config = requested;
  EngineConfig& config = description.config;

  prepared.location = locate(config);
  prepared.model = read_model_config(prepared.location);
  prepared.is_cuda = choose_cuda(config, description.notes);
  resolve_sizes(config, prepared.model, prepared.is_cuda, description.notes);
  try {
    prepared.tokenizer = make_tokenizer(config, prepared.location);
  } catch (const Error& error) {
    if (tokenizer_problem == nullptr) throw;
    *tokenizer_problem = error.what();
  }
  prepared.chat_template = make_chat_template(prepared.location, chat_template);
  if (!prepared.location.is_shape()) {
    description.generation_defaults =
        read_generation_defaults(prepared.location.folder, prepared.model.vocab_size);
  }
  description.eos_token_ids =
      eos_token_ids(prepared.model, description.generation_defaults, prepared.tokenizer.get());
  const ModelFootprint footprint = measure_model(
      prepared.location, prepared.model,
      {.dtype = config.dtype,
       .float16_supported = prepared.is_cuda,  // the CPU's kernels know bfloat16 and float32
       .dummy_weights = config.load_format == "dummy",
       .allow_symlinks = config.allow_symlinks,
       .activation_dtype = prepared.is_cuda ? std::nullopt : std::optional(DType::kF32),
       .max_tokens = config.max_num_batched_tokens,
       .max_logits_rows = config.max_num_batched_tokens});
  if (prepared.is_cuda) check_cuda_can_run(prepared.model, config, footprint.dtype.dtype);
  prepared.backend = create_backend(config, prepared.is_cuda, footprint.dtype.dtype);
  description.device = prepared.backend->description();
  description.dtype = footprint.dtype.dtype;
  description.num_parameters = footprint.num_parameters;
  description.kv_cache_dtype = resolve_kv_cache_dtype(config, footprint.dtype.dtype);
  prepared.footprint = footprint;
  return prepared;
}

LoadedModel load_weights(const Preparation& prepared,
                         const std::function<void(LoadProgressReport)>& progress) {
  const EngineConfig& config = prepared.description.config;
  ModelLoadOptions options;
  options.dtype = config.dtype;
  options.float16_supported = prepared.is_cuda;
  options.dummy_weights = config.load_format == "dummy";
  options.seed = config.seed;
  options.allow_symlinks = config.allow_symlinks;
  options.max_positions = config.max_model_len;
  if (progress) {
    options.progress = [&](std::uint64_t done, std::uint64_t total) { progress({done, total}); };
  }
  return load_model(prepared.location, *prepared.backend, options);
}

}  // namespace

std::string StartUpTimes::to_text(std::size_t weight_bytes) const {
  return fmt::format("start-up: device {:.2f} s, weights {:.2f} s ({:.1f} GB/s), memory {:.2f} s",
                     device_s, weights_s,
                     static_cast<double>(weight_bytes) / 1e9 / std::max(weights_s, 1e-9), memory_s);
}

CreatedEngine create_engine(const EngineConfig& requested, const std::string& chat_template,
                            const std::function<void(LoadProgressReport)>& progress) {
  Stopwatch watch;
  Preparation prepared = prepare(requested, chat_template);
  EngineDescription& description = prepared.description;
  description.memory_plan = prepared.plan_memory();
  description.start_up.device_s = watch.lap();
  LoadedModel loaded = load_weights(prepared, progress);
  description.start_up.weights_s = watch.lap();
  description.notes.insert(description.notes.end(), loaded.notes.begin(), loaded.notes.end());
  description.model_fingerprint = loaded.fingerprint;

  const EngineConfig& config = description.config;
  const ModelRunner::Options runner = prepared.runner_options();
  LlmEngine::Parts parts;
  parts.backend = std::move(prepared.backend);
  parts.model = std::move(loaded.model);
  parts.runner = std::make_unique<ModelRunner>(*parts.backend, *parts.model, runner);
  parts.kv_cache = std::make_unique<KvCacheManager>(
      KvCacheManager::Options{.num_blocks = description.memory_plan.num_blocks,
                              .block_size = config.block_size,
                              .enable_prefix_caching = config.enable_prefix_caching,
                              .hash_key = std::nullopt});
  parts.scheduler = make_scheduler(config, *parts.kv_cache);
  parts.tokenizer = prepared.tokenizer;
  const LlmEngine::Options options{.max_model_len = config.max_model_len,
                                   .steps_ahead = config.steps_ahead,
                                   .seed = config.seed,
                                   .eos_token_ids = description.eos_token_ids,
                                   .vocab_size = runner.vocab_size,
                                   .max_logprobs = config.max_logprobs};

  CreatedEngine created;
  created.engine = std::make_unique<LlmEngine>(std::move(parts), options);
  description.start_up.memory_s = watch.lap();
  created.prompts = std::make_shared<const PromptProcessor>(prepared.tokenizer,
                                                            std::move(prepared.chat_template));
  created.description = std::move(description);
  return created;
}

std::string resolved_device(const EngineConfig& config) {
  std::vector<std::string> notes;
  return choose_cuda(config, notes) ? "cuda" : "cpu";
}

std::vector<ArchitectureDescription> supported_models() {
  return describe_architectures();
}

ModelDescription describe_model(const EngineConfig& config, const std::string& chat_template) {
  std::string tokenizer_problem;
  Preparation prepared = prepare(config, chat_template, &tokenizer_problem);
  ModelDescription described;
  try {
    prepared.description.memory_plan = prepared.plan_memory();
  } catch (const Error& error) {
    if (error.kind() != ErrorKind::kMemory) throw;
    described.memory_problem = error.what();
  }
  const std::vector<std::string>& notes = prepared.model.notes;
  prepared.description.notes.insert(prepared.description.notes.end(), notes.begin(), notes.end());
  if (const std::string& note = prepared.footprint.dtype.note; !note.empty()) {
    prepared.description.notes.push_back(note);
  }
  if (prepared.tokenizer != nullptr) {
    described.tokenizer = describe_tokenizer_of(config, *prepared.tokenizer, prepared.location,
                                                prepared.model.vocab_size);
  } else {
    described.tokenizer = tokenizer_problem.empty() ? "none: prompts must be token ids"
                                                    : "none: " + tokenizer_problem;
  }
  described.model = std::move(prepared.model);
  described.engine = std::move(prepared.description);
  described.chat_template =
      prepared.chat_template ? prepared.chat_template->name() : "none: messages cannot be rendered";
  return described;
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
