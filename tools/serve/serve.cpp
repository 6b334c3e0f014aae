#include "tools/serve/serve.h"

#include <algorithm>
#include <chrono>
#include <fstream>
#include <functional>
#include <memory>
#include <optional>
#include <thread>
#include <utility>

#include <fmt/format.h>
#include <poll.h>
#include <sys/resource.h>
#include <unistd.h>

#include "engine/async_engine.h"
#include "engine/core/counted.h"
#include "engine/core/error.h"
#include "engine/engine_factory.h"
#include "engine/null_engine.h"
#include "tools/demo_model.h"
#include "tools/drain_timeout.h"
#include "tools/flag_checks.h"
#include "tools/generate/generate_report.h"
#include "tools/serve/api_server.h"
#include "tools/serve/server_log.h"
#include "tools/signals.h"
#include "tools/terminal.h"
#include "tools/watchdog.h"

namespace llmrun {
namespace {

using Clock = std::chrono::steady_clock;

constexpr auto kLogInterval = std::chrono::seconds(10);
constexpr auto kPollInterval = std::chrono::milliseconds(100);
constexpr std::size_t kMaxLoggedPath = 128;
constexpr double kAbortSeconds = 2.0;  // for the errors of requests that are ended to be sent
constexpr std::size_t kReservedDescriptors = 64;  // files of the model, the log, threads

// What answers: a model's engine, or the null engine.
struct Served {
  std::optional<CreatedEngine> created;
  std::unique_ptr<NullEngine> null_engine;
  std::shared_ptr<const PromptProcessor> prompts;
  SamplingParams defaults;
  std::int64_t max_model_len = 0;
  SamplingLimits limits;
  std::int64_t max_num_seqs = 0;

  Engine& engine() {
    if (created) return *created->engine;
    return *null_engine;
  }
};

Served load_null_engine(const ServeOptions& options, const EngineConfig& config) {
  Served served;
  NullEngine::Options null_options{.step_seconds = options.null_engine_step_ms / 1e3};
  if (config.max_num_seqs > 0) null_options.max_num_seqs = config.max_num_seqs;
  if (config.max_model_len > 0) null_options.max_model_len = config.max_model_len;
  served.null_engine = std::make_unique<NullEngine>(null_options);
  served.prompts = std::make_shared<PromptProcessor>(
      load_model_tokenizer(config.model), load_chat_template(config.model, options.chat_template));
  served.max_model_len = null_options.max_model_len;
  served.limits = {.vocab_size = null_options.vocab_size, .max_logprobs = config.max_logprobs};
  served.max_num_seqs = null_options.max_num_seqs;
  return served;
}

Served load_engine(const ServeOptions& options, const EngineConfig& config) {
  if (options.null_engine_step_ms >= 0) return load_null_engine(options, config);
  Served served;
  served.created = create_engine(config, options.chat_template);
  const EngineDescription& description = served.created->description;
  if (options.generation_config == "auto") {
    served.defaults = default_sampling_params(description.generation_defaults);
  }
  served.prompts = served.created->prompts;
  served.max_model_len = description.config.max_model_len;
  served.limits = served.created->engine->sampling_limits();
  served.max_num_seqs = description.config.max_num_seqs;
  write_to_stderr(opening_report(description, served.defaults));
  return served;
}

std::vector<std::string> read_api_keys(const ServeOptions& options) {
  std::vector<std::string> keys = options.api_keys;
  if (!options.api_key_file.empty()) {
    std::ifstream file(options.api_key_file);
    if (!file) {
      throw Error(ErrorKind::kUsage, "--api-key-file " + options.api_key_file + ": cannot be read");
    }
    for (std::string line; std::getline(file, line);) {
      while (!line.empty() && (line.back() == '\r' || line.back() == ' ')) line.pop_back();
      if (!line.empty()) keys.push_back(line);
    }
    if (keys.empty()) {
      throw Error(ErrorKind::kUsage, "--api-key-file " + options.api_key_file + ": has no key");
    }
  }
  for (const std::string& key : keys) {
    if (key.empty()) throw Error(ErrorKind::kUsage, "--api-key: a key must not be empty");
  }
  return keys;
}

// As many connections as there are descriptors for, after asking for as many as may be had.
std::size_t raise_connection_limit(std::size_t wanted, ServerLog& log) {
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0) return wanted;
  const rlim_t needed = wanted + kReservedDescriptors;
  if (limit.rlim_cur < needed) {
    limit.rlim_cur = std::min<rlim_t>(limit.rlim_max, needed);
    ::setrlimit(RLIMIT_NOFILE, &limit);
    ::getrlimit(RLIMIT_NOFILE, &limit);
  }
  if (limit.rlim_cur >= needed) return wanted;
  const std::size_t possible = limit.rlim_cur > 2 * kReservedDescriptors
                                   ? limit.rlim_cur - kReservedDescriptors
                                   : limit.rlim_cur / 2;
  log.line(fmt::format("at most {}: more than {} descriptors cannot be had (ulimit -n)",
                       counted(static_cast<std::int64_t>(possible), "connection"), limit.rlim_cur));
  return possible;
}

// A line an answer, in the words of vLLM's (uvicorn's) access log.
std::function<void(const HttpLogEntry&)> access_log(const ServeOptions& options, ServerLog& log) {
  if (options.disable_access_log) return nullptr;
  return [&log](const HttpLogEntry& entry) {
    const std::string_view path = entry.path.substr(0, kMaxLoggedPath);
    log.line(entry.method.empty()
                 ? fmt::format("{} - \"-\" {} {}", entry.client, entry.status,
                               reason_phrase(entry.status))
                 : fmt::format("{} - \"{} {} HTTP/1.1\" {} {}", entry.client, entry.method, path,
                               entry.status, reason_phrase(entry.status)));
  };
}

// What happened in the last seconds, in the words of vLLM's log; nothing when nothing happened.
class StatsLog {
 public:
  StatsLog(const EngineStats& stats, ServerLog& log)
      : log_(log), before_(stats), last_(Clock::now()) {}

  void update(const EngineStats& stats) {
    const auto now = Clock::now();
    if (now - last_ < kLogInterval) return;
    const double seconds = std::chrono::duration<double>(now - last_).count();
    const EngineStats delta = stats.since(before_);
    before_ = stats;
    last_ = now;
    const bool is_busy = stats.num_sequences_running + stats.num_sequences_waiting > 0;
    if (delta.num_steps == 0 && !is_busy && !was_busy_) return;
    was_busy_ = is_busy;
    const auto rate = [&](std::int64_t count) {
      return static_cast<double>(std::max<std::int64_t>(count, 0)) / seconds;
    };
    log_.line(fmt::format(
        "Avg prompt throughput: {:.1f} tokens/s, Avg generation throughput: {:.1f} tokens/s, "
        "Running: {} reqs, Waiting: {} reqs, KV cache usage: {:.1f}%, Prefix cache hit rate: "
        "{:.1f}%",
        rate(delta.num_batched_tokens - delta.num_output_tokens), rate(delta.num_output_tokens),
        stats.num_sequences_running, stats.num_sequences_waiting, 100 * stats.kv_usage(),
        100 * delta.prefix_hit_rate()));
  }

 private:
  ServerLog& log_;
  EngineStats before_;
  Clock::time_point last_;
  bool was_busy_ = false;
};

// Waits for a signal or the engine's failure.
void wait_for_stop(AsyncEngine& engine, const SignalWatcher& signals, bool log_stats,
                   ServerLog& log) {
  StatsLog stats_log(engine.status().stats, log);
  bool was_leak_told = false;
  while (signals.stop_request() == StopRequest::kNone) {
    pollfd descriptor{.fd = signals.fd(), .events = POLLIN, .revents = 0};
    ::poll(&descriptor, 1, static_cast<int>(kPollInterval.count()));
    const AsyncEngine::Status status = engine.status();
    if (status.failed) return;
    if (!status.leak.empty() && !std::exchange(was_leak_told, true)) {
      log.line("no more requests are taken: " + status.leak + "; please report this bug");
    }
    if (log_stats) stats_log.update(status.stats);
  }
}

// Lets requests under way finish, as long as they may; then ends them with an error.
void drain(HttpServer& http, AsyncEngine& engine, const SignalWatcher& signals, double timeout_s,
           ServerLog& log) {
  log.line(fmt::format(
      "draining: {} under way",
      counted(static_cast<std::int64_t>(http.num_unanswered()), "request is", "requests are")));
  const auto wait = [&](double seconds, auto stop) {
    const auto end = Clock::now() + std::chrono::duration<double>(seconds);
    while (http.num_unanswered() > 0 && Clock::now() < end && !stop()) {
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
  };
  wait(timeout_s,
       [&] { return signals.stop_request() >= StopRequest::kAbort || engine.status().failed; });
  if (http.num_unanswered() == 0) return;
  log.line("ending " + counted(static_cast<std::int64_t>(http.num_unanswered()), "request"));
  engine.abort_all();
  wait(kAbortSeconds, [] { return false; });
}

void add_access_options(CLI::App& command, ServeOptions& options) {
  const std::string group = "Access";
  command
      .add_option("--api-key", options.api_keys,
                  "Key that clients must send (Authorization: Bearer KEY); may be given again; "
                  "also from LLMRUN_API_KEY")
      ->envname("LLMRUN_API_KEY")
      ->group(group);
  command.add_option("--api-key-file", options.api_key_file, "File with such keys, one a line")
      ->group(group);
  command
      .add_flag("--insecure-no-auth", options.insecure_no_auth,
                "Allow a --host that other machines reach without an --api-key")
      ->group(group);
  command
      .add_option("--allowed-hosts", options.allowed_hosts,
                  "Host names beside localhost that requests may be for; may be given again")
      ->group(group);
  command
      .add_option("--allowed-origins", options.allowed_origins,
                  "Origins (http://host:port) whose pages may ask; may be given again")
      ->group(group);
}

void add_limit_options(CLI::App& command, ServeOptions& options) {
  const std::string group = "Limits";
  command.add_option("--max-connections", options.max_connections, "Connections at once")
      ->check(CLI::Range(1, 1 << 20))
      ->group(group)
      ->capture_default_str();
  command
      .add_option("--max-connections-per-ip", options.max_connections_per_ip,
                  "Connections at once of one address (0: no limit)")
      ->check(CLI::Range(0, 1 << 20))
      ->group(group)
      ->capture_default_str();
  command
      .add_option("--request-timeout", options.request_timeout_s,
                  "Seconds a request may take, waiting included, until it is ended with 504 "
                  "(0: no limit)")
      ->check(number_from(0.0, 1e9))
      ->group(group)
      ->capture_default_str();
  command
      .add_option("--max-waiting-requests", options.max_waiting_requests,
                  "Samples that may wait beside --max-num-seqs running; more are refused with 429")
      ->check(CLI::Range(0, 1 << 24))
      ->group(group)
      ->capture_default_str();
  command.add_option("--io-threads", options.io_threads, "Threads that read and write sockets")
      ->check(CLI::Range(1, 64))
      ->group(group)
      ->capture_default_str();
  command.add_option("--worker-threads", options.worker_threads, "Threads that tokenise prompts")
      ->check(CLI::Range(1, 64))
      ->group(group)
      ->capture_default_str();
  add_drain_timeout_option(command, options.drain_timeout_s, group);
  add_stall_timeout_option(command, options.stall_timeout_s,
                           "Seconds without a step, while there is work, ten times as many for the "
                           "first, after which /health says 503 (0: never)",
                           group);
}

}  // namespace

void add_serve_command(CLI::App& command, ServeOptions& options) {
  const std::string group = "Server";
  command.add_option("--host", options.host, "Address to listen on")
      ->group(group)
      ->capture_default_str();
  command.add_option("--port", options.port, "Port to listen on (0: any free one)")
      ->group(group)
      ->capture_default_str();
  command
      .add_option(
          "--served-model-name", options.served_model_names,
          "Name of the model in requests and answers (default: --model); may be given again")
      ->group(group);
  command
      .add_option("--chat-template", options.chat_template,
                  "auto (the model's), none, the name of a built-in template, or a Jinja file")
      ->group(group)
      ->capture_default_str();
  command
      .add_option("--generation-config", options.generation_config,
                  "auto: the model's generation_config.json gives the defaults; none: it does not")
      ->check(CLI::IsMember({"auto", "none"}))
      ->group(group)
      ->capture_default_str();
  command.add_flag("--disable-access-log", options.disable_access_log, "No line for each request")
      ->group(group);
  command
      .add_flag("--disable-log-stats", options.disable_log_stats,
                "No line of statistics every 10 seconds")
      ->group(group);
  command
      .add_option(
          "--null-engine", options.null_engine_step_ms,
          "Milliseconds a step: answer by a timer instead of a model, to measure the server")
      ->check(number_from(0.0, 1e6))
      ->group("");  // not shown
  add_access_options(command, options);
  add_limit_options(command, options);
  add_engine_options(command, options.engine);
  add_request_limit_options(command, options.engine.config);
}

int run_serve(const ServeOptions& options) {
  EngineConfig config = resolve(options.engine);
  config.model = model_or_demo(config.model);
  const std::vector<std::string> keys = read_api_keys(options);
  const SignalWatcher signals;
  ServerLog log(STDERR_FILENO);
  // The address is taken before the model is loaded: that it is in use is told at once.
  HttpServer http({.host = options.host,
                   .port = options.port,
                   .num_io_threads = options.io_threads,
                   .num_worker_threads = options.worker_threads,
                   .max_connections = raise_connection_limit(options.max_connections, log),
                   .max_connections_per_address = options.max_connections_per_ip,
                   .limits = {},
                   .timeouts = {},
                   .log = access_log(options, log)});
  if (!http.is_loopback() && keys.empty() && !options.insecure_no_auth) {
    throw Error(ErrorKind::kUsage,
                fmt::format("--host {} can be reached from other machines; give an --api-key, or "
                            "--insecure-no-auth to let everybody ask",
                            options.host));
  }
  Served served = load_engine(options, config);
  const Watchdog watchdog(signals, {.drain_timeout_s = options.drain_timeout_s + kAbortSeconds});
  AsyncEngine engine(served.engine(), {.max_unfinished_sequences =
                                           served.max_num_seqs + options.max_waiting_requests,
                                       .max_request_seconds = options.request_timeout_s});
  ApiServer::Options api;
  api.model_names = options.served_model_names;
  if (api.model_names.empty()) api.model_names = {config.model};
  api.defaults = served.defaults;
  api.max_model_len = served.max_model_len;
  api.limits = served.limits;
  api.access = {.api_keys = keys,
                .is_loopback = http.is_loopback(),
                .allowed_hosts = options.allowed_hosts,
                .allowed_origins = options.allowed_origins};
  api.stall_timeout_s = options.stall_timeout_s;
  ApiServer server(http, engine, *served.prompts, api);
  log.line(fmt::format("serving {} on http://{}:{}", api.model_names.front(), options.host,
                       http.port()));

  wait_for_stop(engine, signals, !options.disable_log_stats, log);
  server.start_draining();
  drain(http, engine, signals, options.drain_timeout_s, log);
  http.stop();
  engine.stop();
  if (const std::exception_ptr error = engine.error()) std::rethrow_exception(error);
  if (const std::string leak = engine.status().leak; !leak.empty()) {
    throw Error(ErrorKind::kInternal, leak);
  }
  return exit_code_of_signal(signals.first_signal());
}

}  // namespace llmrun
