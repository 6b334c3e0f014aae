#include "tools/serve_bench/bench_targets.h"

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <mutex>
#include <optional>
#include <utility>

#include <fmt/format.h>

#include "engine/async_engine.h"
#include "engine/core/error.h"
#include "engine/engine_factory.h"
#include "tools/load_progress.h"
#include "tools/report/step_summary.h"
#include "tools/serve_bench/engine_target.h"
#include "tools/serve_bench/own_server.h"
#include "tools/throughput/throughput_cases.h"
#include "tools/watchdog.h"

namespace llmrun {
namespace {

using Clock = std::chrono::steady_clock;

constexpr std::int64_t kDefaultVocabSize = 32000;
constexpr std::int32_t kAnyLength = 1 << 24;  // of a request for a server elsewhere

}  // namespace

// The own engine on its thread, with what is needed to reach it in each mode.
struct BenchTargets::OwnEngine {
  std::mutex steps_mutex;  // they come on the engine's thread
  StepSummary steps;
  CreatedEngine created;
  std::optional<Watchdog> watchdog;
  std::unique_ptr<AsyncEngine> engine;
  std::unique_ptr<OwnServer> server;
};

BenchTargets::BenchTargets(boost::asio::io_context& context, const ServeBenchOptions& options,
                           const std::vector<std::string>& modes, Progress& progress,
                           const SignalWatcher& signals)
    : context_(context), options_(options), progress_(progress) {
  if (options_.server.base_url.empty()) {
    load_engine(signals);
  } else {
    find_server(signals);
  }
  make_targets(modes);
}

BenchTargets::~BenchTargets() = default;

std::int64_t BenchTargets::num_sequences() const {
  return own_ != nullptr ? own_->created.description.config.max_num_seqs : 1;
}

double BenchTargets::kv_usage() const {
  return own_ != nullptr ? own_->engine->status().stats.kv_usage() : 0.0;
}

std::vector<SizeBin> BenchTargets::take_decode_batches() {
  if (own_ == nullptr) return {};
  const std::lock_guard lock(own_->steps_mutex);
  return std::exchange(own_->steps, {}).decode_batches();
}

void BenchTargets::load_engine(const SignalWatcher& signals) {
  EngineConfig config = resolve(options_.engine);
  if (config.model.empty()) config.model = default_throughput_model(config);
  const auto start = Clock::now();
  own_ = std::make_unique<OwnEngine>();
  own_->created = create_engine(config, "none", log_loading(progress_, options_.quiet));
  const EngineDescription& engine = own_->created.description;
  description_.load_s = std::chrono::duration<double>(Clock::now() - start).count();
  description_.device = engine.device;
  description_.model = engine.config.model;
  description_.engine = to_json(engine.config);
  description_.backend = "llmrun";
  description_.endpoint = "in process";
  if (!options_.quiet) {
    for (const std::string& note : engine.notes) progress_.log("note: " + note);
    progress_.log(fmt::format("{}: {}", description_.model, description_.device));
  }
  load_tokenizer(engine.config);
  model_ = {.tokenizer = tokenizer_.get(),
            .vocab_size = own_->created.engine->options().vocab_size,
            .max_model_len = engine.config.max_model_len};
  if (tokenizer_ != nullptr) {
    model_.vocab_size = std::min<std::int64_t>(model_.vocab_size, tokenizer_->vocab_size());
  }
  own_->created.engine->record_steps([own = own_.get()](const StepRecord& step) {
    const std::lock_guard lock(own->steps_mutex);
    own->steps.add(step);
  });
  own_->watchdog.emplace(
      signals,
      Watchdog::Options{.progress = [own = own_.get()] { return own->created.engine->progress(); },
                        .stall_timeout_s = options_.stall_timeout_s,
                        .drain_timeout_s = options_.drain_timeout_s});
  own_->engine = std::make_unique<AsyncEngine>(*own_->created.engine);
}

void BenchTargets::load_tokenizer(const EngineConfig& config) {
  description_.tokenizer = config.tokenizer.empty() ? config.model : config.tokenizer;
  const bool is_folder = std::filesystem::is_directory(description_.tokenizer);
  if (is_folder || !config.tokenizer.empty()) {
    tokenizer_ = load_model_tokenizer(description_.tokenizer);
  }
}

void BenchTargets::find_server(const SignalWatcher& signals) {
  http_.endpoint = options_.endpoint;
  if (!http_.endpoint.starts_with('/')) {
    throw Error(ErrorKind::kUsage, "--endpoint: expected a path from /");
  }
  const EngineConfig& config = options_.engine.config;
  http_.server = find_api_server(options_.server, config.model, [&signals] {
    return signals.stop_request() != StopRequest::kNone;
  });
  description_.model = http_.server.model;
  description_.backend = http_.endpoint.ends_with("/chat/completions") ? "openai-chat" : "openai";
  description_.endpoint = http_.server.base_url.text() + http_.endpoint;
  load_tokenizer(config);
  model_ = {.tokenizer = tokenizer_.get(),
            .vocab_size = options_.vocab_size > 0 ? options_.vocab_size
                          : tokenizer_ != nullptr ? tokenizer_->vocab_size()
                                                  : kDefaultVocabSize,
            .max_model_len = config.max_model_len > 0 ? config.max_model_len : kAnyLength};
  http_.tokenizer = tokenizer_;
  if (tokenizer_ == nullptr && options_.vocab_size <= 0 && !options_.quiet) {
    progress_.log(
        fmt::format("note: without --tokenizer or --vocab-size, prompts are drawn from {} "
                    "token ids; a server with fewer refuses them",
                    kDefaultVocabSize));
  }
}

void BenchTargets::make_targets(const std::vector<std::string>& modes) {
  const SamplingParams sampling = to_params(options_.sampling);
  http_.sampling = sampling;
  http_.keep_text = options_.save_detailed;
  for (const std::string& mode : modes) {
    if (mode == "inproc") {
      targets_.push_back(
          std::make_unique<EngineTarget>(*own_->engine, sampling, options_.save_detailed));
      continue;
    }
    if (mode == "http") serve_own_engine();
    targets_.push_back(std::make_unique<HttpTarget>(context_, http_));
  }
}

void BenchTargets::serve_own_engine() {
  const CreatedEngine& created = own_->created;
  own_->server = std::make_unique<OwnServer>(*own_->engine, *created.prompts, created.description,
                                             created.engine->sampling_limits(), description_.model);
  http_.server.base_url = own_->server->url();
  http_.server.model = description_.model;
  http_.server.extra_body = parse_extra_body(options_.server.extra_body);
  // Tokens without text, as those of random weights, are told too.
  http_.server.extra_body["return_token_ids"] = true;
  description_.endpoint = http_.server.base_url.text() + http_.endpoint;
}

}  // namespace llmrun
