// An engine on one of the tiny checkpoints, with its parts in reach of a test, and the requests
// that tests give it.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "engine/backend/cpu/cpu_backend.h"
#include "engine/backend/cuda/cuda_backend.h"
#include "engine/llm_engine.h"
#include "engine/models/model_registry.h"
#include "engine/scheduler/continuous_scheduler.h"
#include "engine/scheduler/static_scheduler.h"
#include "tests/engine/top/fake_tokenizer.h"
#include "tests/support/late_backend.h"

namespace llmrun::testing {

// The vocabulary of the tests: a to z, space, then pairs of letters.
inline std::shared_ptr<const Tokenizer> make_letter_tokenizer(std::int32_t vocab_size) {
  std::vector<FakeTokenizer::Token> tokens;
  for (char letter = 'a'; letter <= 'z'; ++letter) tokens.push_back({std::string(1, letter)});
  tokens.push_back({" "});
  for (std::int32_t pair = 0; std::ssize(tokens) < vocab_size; ++pair) {
    tokens.push_back({{static_cast<char>('a' + pair % 26), static_cast<char>('a' + pair / 26)}});
  }
  return std::make_shared<FakeTokenizer>(std::move(tokens));
}

struct TestEngineOptions {
  std::filesystem::path folder = LLMRUN_SOURCE_DIR "/tests/data/models/llama_gqa";
  bool is_static = false;
  std::int32_t block_size = 16;
  std::int32_t num_blocks = 200;  // the reserved one not counted
  std::int32_t max_num_seqs = 8;
  std::int32_t max_num_batched_tokens = 64;
  std::int32_t max_model_len = 200;
  std::int32_t steps_ahead = 0;
  std::int32_t max_logits_rows = 5;
  std::int32_t num_threads = 1;
  bool prefix_caching = true;
  bool chunked_prefill = true;
  bool late_backend = false;
  std::optional<CpuIsa> isa = std::nullopt;
  std::string dtype = "float32";  // of the weights; the KV cache is float32
  bool deterministic = false;
  std::uint64_t seed = 7;
  std::int32_t max_logprobs = SamplingLimits{}.max_logprobs;
  // On a GPU instead: dtype is also that of activations and of the KV cache.
  bool cuda = false;
  bool cuda_graphs = true;
  bool plain_attention = false;
  // Puts another scheduler around the engine's, to look at what it is handed.
  std::function<std::unique_ptr<Scheduler>(std::unique_ptr<Scheduler>)> wrap_scheduler = nullptr;
};

class TestEngine {
 public:
  explicit TestEngine(const TestEngineOptions& options) {
    LlmEngine::Parts parts;
    const DType cuda_dtype = options.dtype == "float32" ? DType::kF32 : DType::kBf16;
    if (options.cuda) {
      parts.backend = make_cuda_backend({.dtype = cuda_dtype,
                                         .plain_attention = options.plain_attention,
                                         .graphs = options.cuda_graphs,
                                         .deterministic = options.deterministic});
    } else {
      CpuBackendOptions cpu;
      cpu.num_threads = options.num_threads;
      cpu.isa = options.isa;
      cpu.deterministic = options.deterministic;
      parts.backend = make_cpu_backend(cpu);
    }
    if (options.late_backend) {
      parts.backend = std::make_unique<LateBackend>(std::move(parts.backend));
    }
    parts.model = load_model(find_model(options.folder.string(), {}), *parts.backend,
                             {.dtype = options.dtype})
                      .model;
    const std::int64_t vocab_size = parts.model->config().vocab_size;
    parts.runner = std::make_unique<ModelRunner>(
        *parts.backend, *parts.model,
        ModelRunner::Options{.num_blocks = options.num_blocks + 1,
                             .block_size = options.block_size,
                             .max_model_len = options.max_model_len,
                             .max_num_seqs = options.max_num_seqs,
                             .max_num_batched_tokens = options.max_num_batched_tokens,
                             .pads_batches = options.is_static,
                             .max_logits_rows = options.max_logits_rows,
                             .vocab_size = vocab_size,
                             .kv_cache_dtype = options.cuda ? cuda_dtype : DType::kF32});
    parts.kv_cache = std::make_unique<KvCacheManager>(
        KvCacheManager::Options{.num_blocks = options.num_blocks + 1,
                                .block_size = options.block_size,
                                .enable_prefix_caching = options.prefix_caching,
                                .hash_key = std::nullopt});
    parts.scheduler = make_scheduler(options, *parts.kv_cache);
    if (options.wrap_scheduler) {
      parts.scheduler = options.wrap_scheduler(std::move(parts.scheduler));
    }
    parts.tokenizer = make_letter_tokenizer(static_cast<std::int32_t>(vocab_size));
    kv_cache_ = parts.kv_cache.get();
    scheduler_ = parts.scheduler.get();
    engine_ = std::make_unique<LlmEngine>(std::move(parts),
                                          LlmEngine::Options{.max_model_len = options.max_model_len,
                                                             .steps_ahead = options.steps_ahead,
                                                             .seed = options.seed,
                                                             .eos_token_ids = {2, 33, 77, 150, 200},
                                                             .vocab_size = vocab_size,
                                                             .max_logprobs = options.max_logprobs});
  }

  LlmEngine& engine() { return *engine_; }
  LlmEngine* operator->() { return engine_.get(); }
  KvCacheManager& kv_cache() { return *kv_cache_; }

  // One step, after which blocks, tables, slots and queues must be consistent.
  void step() {
    engine_->step();
    const auto fault = scheduler_->check_integrity();
    if (fault) throw Error(ErrorKind::kInternal, *fault);
  }

  void step_until_idle() {
    for (std::int64_t i = 0; engine_->has_unfinished(); ++i) {
      LLMRUN_CHECK(i < 100'000);  // a hang
      step();
    }
  }

  // Runs them all; outputs in the order of the requests.
  std::vector<RequestOutput> run(const std::vector<EngineRequest>& requests) {
    std::map<RequestId, std::size_t> index;
    for (std::size_t i = 0; i < requests.size(); ++i) {
      index[engine_->add_request(requests[i])] = i;
    }
    step_until_idle();
    std::vector<RequestOutput> outputs(requests.size());
    std::vector<bool> seen(requests.size());
    for (RequestOutput& output : engine_->take_outputs()) {
      const std::size_t i = index.at(output.id);
      LLMRUN_CHECK(!seen[i]);
      seen[i] = true;
      outputs[i] = std::move(output);
    }
    for (const bool was_seen : seen) LLMRUN_CHECK(was_seen);
    return outputs;
  }
  RequestOutput run(const EngineRequest& request) { return run(std::vector{request}).front(); }

  // What an engine without work still holds, or nothing.
  std::optional<std::string> find_leak() const {
    if (engine_->has_unfinished()) return "it has work";
    if (const auto leak = engine_->find_leak()) return leak;
    if (const auto fault = scheduler_->check_integrity()) return fault;
    if (const auto fault = kv_cache_->check_integrity({})) return fault;
    const KvCacheStats stats = kv_cache_->stats();
    if (stats.num_used_blocks != 0) return fmt::format("{} blocks are used", stats.num_used_blocks);
    if (stats.num_free_blocks + stats.num_cached_blocks != stats.num_total_blocks) {
      return "blocks are missing";
    }
    if (scheduler_->has_unfinished()) return "the scheduler has work";
    return std::nullopt;
  }

 private:
  static std::unique_ptr<Scheduler> make_scheduler(const TestEngineOptions& options,
                                                   KvCacheManager& kv_cache) {
    if (options.is_static) {
      return std::make_unique<StaticScheduler>(
          kv_cache,
          StaticScheduler::Options{.max_num_seqs = options.max_num_seqs,
                                   .max_num_batched_tokens = options.max_num_batched_tokens});
    }
    return std::make_unique<ContinuousScheduler>(
        kv_cache,
        ContinuousScheduler::Options{.max_num_seqs = options.max_num_seqs,
                                     .max_num_batched_tokens = options.max_num_batched_tokens,
                                     .enable_chunked_prefill = options.chunked_prefill});
  }

  std::unique_ptr<LlmEngine> engine_;
  KvCacheManager* kv_cache_ = nullptr;  // of the engine
  Scheduler* scheduler_ = nullptr;
};

inline std::string describe(const TokenLogprobs& rated) {
  std::string text = fmt::format("{}:{:.9g}#{}", rated.token_id, rated.logprob, rated.rank);
  for (const auto& entry : rated.top) {
    text += fmt::format(" {}:{:.9g}#{}", entry.token_id, entry.logprob, entry.rank);
  }
  return text;
}

inline std::string describe(const CompletionOutput& completion) {
  std::string text = fmt::format("  {}: {} stop '{}' {} '{}' [", completion.index,
                                 to_string(completion.finish_reason), completion.stop_string,
                                 completion.stop_token_id.value_or(-1), completion.text);
  for (const TokenId id : completion.token_ids) text += fmt::format(" {}", id);
  text += "]";
  if (completion.has_cumulative_logprob) {
    text += fmt::format(" sum {:.17g}", completion.cumulative_logprob);
  }
  text += "\n";
  for (const TokenLogprobs& rated : completion.logprobs) {
    text += fmt::format("    {}\n", describe(rated));
  }
  return text;
}

// Everything about an output that must not depend on how it was computed, bit for bit.
inline std::string describe(const RequestOutput& output) {
  std::string text =
      fmt::format("error '{}' {} tokens\n", output.error.code, output.num_output_tokens);
  for (const TokenLogprobs& rated : output.prompt_logprobs) {
    text += fmt::format("  prompt {}\n", describe(rated));
  }
  for (const CompletionOutput& completion : output.outputs) text += describe(completion);
  return text;
}

inline std::vector<std::string> describe(const std::vector<RequestOutput>& outputs) {
  std::vector<std::string> texts;
  for (const RequestOutput& output : outputs) texts.push_back(describe(output));
  return texts;
}

// `length` tokens of a stream that depends on `seed` only; equal seeds give equal prefixes.
inline std::vector<TokenId> make_prompt(std::uint64_t seed, std::size_t length) {
  std::vector<TokenId> ids;
  std::uint64_t state = seed * 0x9e3779b97f4a7c15U + 1;
  while (ids.size() < length) {
    state = state * 6364136223846793005U + 1442695040888963407U;
    ids.push_back(static_cast<TokenId>((state >> 33) % 263));
  }
  return ids;
}

}  // namespace llmrun::testing
