#include "tools/serve_bench/serve_bench.h"

#include <algorithm>
#include <charconv>
#include <chrono>
#include <cmath>
#include <cstdlib>
#include <ctime>
#include <filesystem>
#include <memory>
#include <optional>
#include <string_view>
#include <thread>
#include <utility>

#include <fmt/chrono.h>
#include <fmt/format.h>
#include <sys/resource.h>
#include <unistd.h>

#include "engine/async_engine.h"
#include "engine/core/cpu_info.h"
#include "engine/core/error.h"
#include "engine/core/json.h"
#include "engine/core/random.h"
#include "engine/engine_factory.h"
#include "tools/load_progress.h"
#include "tools/report/report_file.h"
#include "tools/serve_bench/engine_target.h"
#include "tools/serve_bench/http_target.h"
#include "tools/serve_bench/load_run.h"
#include "tools/serve_bench/own_server.h"
#include "tools/serve_bench/serving_report.h"
#include "tools/throughput/throughput_cases.h"
#include "tools/throughput/throughput_run.h"

namespace llmrun {
namespace {

using Clock = std::chrono::steady_clock;

constexpr double kOverheadRate = 1000;  // requests/s that the client is paced at to measure it
constexpr double kOverheadSeconds = 1;
constexpr std::int64_t kDefaultVocabSize = 32000;
constexpr std::int32_t kAnyLength = 1 << 24;  // of a request for a server elsewhere

[[noreturn]] void usage_error(const std::string& message) {
  throw Error(ErrorKind::kUsage, message);
}

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

std::vector<std::string> split(std::string_view text) {
  std::vector<std::string> parts;
  while (!text.empty()) {
    const std::size_t comma = std::min(text.find(','), text.size());
    parts.emplace_back(text.substr(0, comma));
    text.remove_prefix(std::min(comma + 1, text.size()));
  }
  return parts;
}

// Numbers of a list, each in [low, high]; "inf" where it is allowed.
std::vector<double> numbers(const std::string& flag, const std::string& list, double low,
                            double high, bool allows_infinity) {
  std::vector<double> values;
  for (const std::string& part : split(list)) {
    double value = 0;
    const auto result = std::from_chars(part.data(), part.data() + part.size(), value);
    const bool is_number = result.ec == std::errc() && result.ptr == part.data() + part.size();
    const bool is_infinite = is_number && std::isinf(value) && value > 0;
    if (!is_number || (is_infinite ? !allows_infinity : !(value >= low && value <= high))) {
      usage_error(fmt::format("{}: '{}': expected numbers from {:g} to {:g}{}, separated by commas",
                              flag, part, low, high, allows_infinity ? ", or inf" : ""));
    }
    values.push_back(value);
  }
  if (values.empty()) usage_error(flag + ": an empty list");
  return values;
}

std::pair<std::string, std::string> key_and_value(const std::string& flag,
                                                  const std::string& text) {
  const std::size_t equals = text.find('=');
  if (equals == std::string::npos || equals == 0) {
    usage_error(fmt::format("{}: '{}': expected NAME=VALUE", flag, text));
  }
  return {text.substr(0, equals), text.substr(equals + 1)};
}

// Each connection needs a descriptor, two where the server is in this process.
void raise_descriptor_limit() {
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
  limit.rlim_cur = limit.rlim_max;
  ::setrlimit(RLIMIT_NOFILE, &limit);
}

// The own engine on its thread, with what is needed to reach it in each mode.
struct OwnEngine {
  CreatedEngine created;
  std::unique_ptr<AsyncEngine> engine;
  std::unique_ptr<OwnServer> server;
};

class ServeBenchCommand {
 public:
  ServeBenchCommand(const ServeBenchOptions& options, std::string command_line)
      : options_(options),
        progress_({.style = terminal_style(STDERR_FILENO, *color_mode_from(options.color)),
                   .quiet = options.quiet}) {
    check_options();
    const std::time_t now = std::time(nullptr);
    report_.command_line = std::move(command_line);
    report_.date = fmt::format("{:%Y-%m-%dT%H:%M:%SZ}", fmt::gmtime(now));
    report_.date_stamp = fmt::format("{:%Y%m%d-%H%M%S}", fmt::gmtime(now));
    report_.processor = read_cpu_info().model_name;
    report_.label = options.label;
    for (const std::string& pair : options.metadata) {
      report_.metadata.push_back(key_and_value("--metadata", pair));
    }
    report_.seed = options.engine.config.seed;
    report_.has_first_report = options.first_report;
    report_.sampling = {{"temperature", options.temperature},
                        {"top_p", options.top_p},
                        {"top_k", options.top_k},
                        {"ignore_eos", options.ignore_eos}};
  }

  const ServingReport& run() {
    raise_descriptor_limit();
    if (options_.base_url.empty()) {
      load_engine();
    } else {
      find_server();
    }
    make_requests(report_.seed);
    make_targets();
    if (!options_.skip_overhead) {
      report_.overhead = measure_overhead(kOverheadRate, kOverheadSeconds);
    }
    warm_up();
    if (options_.find_rate) {
      search();
    } else {
      for (const double rate : rates_) {
        for (const std::int32_t concurrency : concurrencies_) {
          for (std::size_t mode = 0; mode < modes_.size(); ++mode) {
            run_point(mode, rate, concurrency);
          }
        }
      }
    }
    return report_;
  }

 private:
  void check_options() {
    modes_ = options_.base_url.empty() ? split(options_.modes) : std::vector<std::string>{"url"};
    for (const std::string& mode : modes_) {
      if (mode != "inproc" && mode != "http" && mode != "url") {
        usage_error(fmt::format("--modes: '{}': expected inproc, http or inproc,http", mode));
      }
    }
    if (modes_.empty()) usage_error("--modes: an empty list");
    rates_ = numbers("--request-rate", options_.request_rates, 1e-3, 1e6, true);
    arrivals_ = options_.arrivals;
    arrivals_.burstiness = numbers("--burstiness", options_.burstiness, 1e-3, 1e6, true).front();
    concurrencies_ = {0};
    if (!options_.max_concurrency.empty()) {
      concurrencies_.clear();
      for (const double value :
           numbers("--max-concurrency", options_.max_concurrency, 1, 1 << 20, false)) {
        concurrencies_.push_back(static_cast<std::int32_t>(value));
      }
    }
    const bool ramps = !arrivals_.ramp_up_strategy.empty();
    if (ramps && (arrivals_.ramp_up_start_rps <= 0 || arrivals_.ramp_up_end_rps <= 0)) {
      usage_error("--ramp-up-strategy needs --ramp-up-start-rps and --ramp-up-end-rps");
    }
    if (ramps && (rates_.size() > 1 || std::isfinite(rates_.front()))) {
      usage_error("--ramp-up-strategy says the rate itself: --request-rate must not be given");
    }
    if (options_.duration_s > 0 && std::isinf(rates_.front()) && !ramps &&
        options_.trace.path.empty() && options_.max_concurrency.empty() && !options_.find_rate) {
      usage_error(
          "--duration needs a --request-rate or --max-concurrency: otherwise all requests "
          "are sent at once");
    }
    serving_.percentiles =
        numbers("--metric-percentiles", options_.metric_percentiles, 0, 100, false);
    serving_.goodput = parse_service_level(options_.goodput);
    report_.has_goodput = serving_.goodput.is_set();
    if (options_.find_rate && !report_.has_goodput) usage_error("--find-rate needs --goodput");
    if (options_.find_rate && (modes_.size() > 1 || concurrencies_.size() > 1)) {
      usage_error("--find-rate takes one mode and one --max-concurrency");
    }
    if (options_.search_max_rate < options_.search_min_rate) {
      usage_error("--search-max-rate is below --search-min-rate");
    }
    const std::vector<std::string> known = {
        "ttft", "tpot", "itl", "e2el", "client_queue_time", "e2el_including_client_queue"};
    report_.shown_latencies = split(options_.percentile_metrics);
    for (const std::string& name : report_.shown_latencies) {
      if (std::find(known.begin(), known.end(), name) == known.end()) {
        usage_error(
            fmt::format("--percentile-metrics: '{}': expected ttft, tpot, itl, e2el, "
                        "client_queue_time or e2el_including_client_queue",
                        name));
      }
    }
    if (!options_.max_concurrency.empty() && !is_shown("client_queue_time")) {
      report_.shown_latencies.emplace_back("client_queue_time");
    }
    extra_body_ = nlohmann::json::object();
    if (!options_.extra_body.empty()) {
      extra_body_ = parse_json(options_.extra_body, "--extra-body",
                               {.max_depth = 64, .error_kind = ErrorKind::kUsage});
      if (!extra_body_.is_object()) usage_error("--extra-body: expected a JSON object");
    }
  }

  bool is_shown(const std::string& name) const {
    return std::find(report_.shown_latencies.begin(), report_.shown_latencies.end(), name) !=
           report_.shown_latencies.end();
  }

  void log(std::string_view line) {
    if (!options_.quiet) progress_.log(line);
  }

  // ---- what is measured ----

  void load_engine() {
    EngineConfig config = resolve(options_.engine);
    if (config.model.empty()) config.model = default_throughput_model(config);
    const auto start = Clock::now();
    own_ = std::make_unique<OwnEngine>();
    own_->created = create_engine(config, "none", log_loading(progress_, options_.quiet));
    report_.load_s = seconds_since(start);
    const EngineDescription& description = own_->created.description;
    for (const std::string& note : description.notes) log("note: " + note);
    report_.device = description.device;
    report_.model = description.config.model;
    report_.engine = to_json(description.config);
    report_.backend = "llmrun";
    report_.endpoint = "in process";
    log(fmt::format("{}: {}", report_.model, report_.device));
    load_tokenizer(description.config);
    model_ = {.tokenizer = tokenizer_.get(),
              .vocab_size = own_->created.engine->options().vocab_size,
              .max_model_len = description.config.max_model_len};
    if (tokenizer_ != nullptr) {
      model_.vocab_size = std::min<std::int64_t>(model_.vocab_size, tokenizer_->vocab_size());
    }
    own_->engine = std::make_unique<AsyncEngine>(*own_->created.engine);
  }

  void load_tokenizer(const EngineConfig& config) {
    report_.tokenizer = config.tokenizer.empty() ? config.model : config.tokenizer;
    const bool is_folder = std::filesystem::is_directory(report_.tokenizer);
    if (is_folder || !config.tokenizer.empty()) {
      tokenizer_ = load_model_tokenizer(report_.tokenizer);
    }
  }

  void find_server() {
    http_.base_url = parse_http_url(options_.base_url, "--base-url");
    http_.endpoint = options_.endpoint;
    if (http_.base_url.path.ends_with("/v1")) {
      http_.base_url.path.resize(http_.base_url.path.size() - 3);
    }
    if (!http_.endpoint.starts_with('/')) usage_error("--endpoint: expected a path from /");
    http_.client.verify_certificate = !options_.insecure;
    http_.client.timeout =
        std::chrono::milliseconds(static_cast<std::int64_t>(1e3 * options_.timeout_s));
    if (const char* key = std::getenv("OPENAI_API_KEY"); key != nullptr && *key != '\0') {
      http_.headers.emplace_back("Authorization", std::string("Bearer ") + key);
    }
    for (const std::string& header : options_.headers) {
      http_.headers.push_back(key_and_value("--header", header));
    }
    http_.extra_body = extra_body_;
    wait_until_ready();
    http_.model = !options_.served_model_name.empty()     ? options_.served_model_name
                  : !options_.engine.config.model.empty() ? options_.engine.config.model
                                                          : first_served_model(http_);
    report_.model = http_.model;
    report_.backend = http_.endpoint.ends_with("/chat/completions") ? "openai-chat" : "openai";
    report_.endpoint = http_.base_url.text() + http_.endpoint;
    load_tokenizer(options_.engine.config);
    if (options_.engine.config.max_model_len > 0) {
      model_.max_model_len = options_.engine.config.max_model_len;
    } else {
      model_.max_model_len = kAnyLength;
    }
    model_.tokenizer = tokenizer_.get();
    model_.vocab_size = options_.vocab_size > 0 ? options_.vocab_size
                        : tokenizer_ != nullptr ? tokenizer_->vocab_size()
                                                : kDefaultVocabSize;
    http_.tokenizer = tokenizer_;
  }

  void wait_until_ready() {
    const auto start = Clock::now();
    for (;;) {
      try {
        static_cast<void>(http_fetch(
            http_.base_url, {.target = "/v1/models", .headers = http_.headers}, http_.client));
        return;
      } catch (const Error&) {
        if (seconds_since(start) >= options_.ready_timeout_s) throw;
      }
      std::this_thread::sleep_for(std::chrono::milliseconds(200));
    }
  }

  SamplingParams sampling() const {
    SamplingParams params;
    params.temperature = options_.temperature;
    params.top_p = options_.top_p;
    params.top_k = options_.top_k;
    params.ignore_eos = options_.ignore_eos;
    return params;
  }

  void make_targets() {
    http_.sampling = sampling();
    http_.keep_text = options_.save_detailed;
    for (const std::string& mode : modes_) {
      if (mode == "inproc") {
        targets_.push_back(
            std::make_unique<EngineTarget>(*own_->engine, sampling(), options_.save_detailed));
        continue;
      }
      if (mode == "http") serve_own_engine();
      targets_.push_back(std::make_unique<HttpTarget>(context_, http_));
    }
  }

  void serve_own_engine() {
    const CreatedEngine& created = own_->created;
    own_->server = std::make_unique<OwnServer>(*own_->engine, *created.prompts, created.description,
                                               created.engine->options().vocab_size, report_.model);
    http_.base_url = own_->server->url();
    http_.model = report_.model;
    http_.extra_body = extra_body_;
    // Tokens without text, as those of random weights, are told too.
    http_.extra_body["return_token_ids"] = true;
    report_.endpoint = http_.base_url.text() + http_.endpoint;
  }

  // ---- the load ----

  void make_requests(std::uint64_t seed) {
    if (!options_.trace.path.empty()) {
      TraceOptions trace = options_.trace;
      TraceWorkload read = read_trace(trace, seed, model_);
      workload_ = std::move(read.workload);
      trace_arrivals_ = std::move(read.arrivals_s);
    } else {
      WorkloadOptions workload = options_.workload;
      for (const double rate : rates_) {
        if (options_.duration_s > 0 && std::isfinite(rate)) {
          workload.num_prompts =
              std::max(workload.num_prompts, num_prompts_for(rate, options_.duration_s));
        }
      }
      workload_ = make_workload(workload, seed, model_);
    }
    for (const std::string& warning : workload_.warnings) log("warning: " + warning);
    report_.workload_description = workload_.description;
    report_.workload_sha256 = workload_.sha256();
    log(fmt::format("workload: {} requests, {} prompt and {} output tokens: {}",
                    workload_.requests.size(), workload_.num_prompt_tokens(),
                    workload_.num_output_tokens(), workload_.description));
  }

  static std::int32_t num_prompts_for(double rate, double duration_s) {
    return static_cast<std::int32_t>(std::min(std::ceil(rate * duration_s), double{1 << 24}));
  }

  static std::vector<BenchRequest> bench_requests(const Workload& workload, std::size_t count,
                                                  std::uint64_t seed) {
    std::vector<BenchRequest> requests;
    for (std::size_t i = 0; i < std::min(count, workload.requests.size()); ++i) {
      requests.push_back({.prompt_token_ids = &workload.requests[i].prompt_token_ids,
                          .output_len = workload.requests[i].output_len,
                          .seed = derive_seed(seed, i)});
    }
    return requests;
  }

  void warm_up() {
    const std::int64_t default_count =
        own_ != nullptr ? own_->created.description.config.max_num_seqs : 1;
    const std::int64_t wanted = options_.num_warmups >= 0 ? options_.num_warmups : default_count;
    if (wanted == 0) return;
    const Workload warm = warm_up_workload(workload_, wanted, model_.vocab_size);
    const auto requests = bench_requests(warm, warm.requests.size(), warm.seed);
    const auto start = Clock::now();
    for (const auto& target : targets_) {
      const LoadMeasurement measurement =
          run_load(context_, *target, requests,
                   {.arrivals_s = std::vector<double>(requests.size(), 0.0),
                    .max_concurrency = concurrencies_.back()},
                   nullptr);
      refuse_if_all_failed(measurement);
    }
    report_.warm_up_s = seconds_since(start);
    report_.num_warm_up_requests = std::ssize(requests) * std::ssize(targets_);
  }

  // A load of which nothing can be answered is not worth its time.
  void refuse_if_all_failed(const LoadMeasurement& measurement) const {
    for (const RequestRecord& record : measurement.records) {
      if (record.succeeded()) return;
    }
    const BenchOutcome& outcome = measurement.records.front().outcome;
    throw Error(ErrorKind::kInput,
                fmt::format("{}: no request of the warm-up was answered; the first: {}: {}",
                            report_.endpoint, outcome.failure, outcome.message));
  }

  // ---- runs ----

  const ServingPoint& run_point(std::size_t mode, double rate, std::int32_t concurrency) {
    // A server elsewhere may remember prompts of the run before.
    if (own_ == nullptr && !report_.points.empty() && workload_.path.empty()) {
      make_requests(derive_seed(report_.seed, report_.points.size()));
    }
    std::size_t count = workload_.requests.size();
    if (std::isfinite(rate) && options_.duration_s > 0 && trace_arrivals_.empty()) {
      count = std::max(static_cast<std::size_t>(num_prompts_for(rate, options_.duration_s)),
                       static_cast<std::size_t>(options_.workload.num_prompts));
    }
    const auto requests = bench_requests(workload_, count, report_.seed);
    arrivals_.request_rate = rate;
    LoadOptions load{
        .arrivals_s = trace_arrivals_.empty()
                          ? make_arrivals(arrivals_, std::ssize(requests), report_.seed)
                          : trace_arrivals_,
        .max_concurrency = concurrency,
        .queries_per_second = options_.queries_per_second,
        .batch_size = options_.batch_size,
        .num_retries = options_.num_retries};
    if (options_.duration_s > 0) load.duration_s = options_.duration_s;
    if (own_ != nullptr) {
      load.kv_usage = [this] { return own_->engine->status().stats.kv_usage(); };
    }

    ServingPoint point{.mode = modes_[mode],
                       .request_rate = trace_arrivals_.empty() ? rate : std::nan(""),
                       .burstiness = arrivals_.burstiness,
                       .ramp_up_strategy = arrivals_.ramp_up_strategy,
                       .ramp_up_start_rps = arrivals_.ramp_up_start_rps,
                       .ramp_up_end_rps = arrivals_.ramp_up_end_rps,
                       .max_concurrency = concurrency,
                       .metrics = {},
                       .checks = {}};
    const bool has_schedule =
        std::isfinite(rate) || !arrivals_.ramp_up_strategy.empty() || !trace_arrivals_.empty();
    serving_.is_closed_loop = !has_schedule && (concurrency > 0 || options_.batch_size > 0 ||
                                                options_.queries_per_second > 0);
    report_.is_closed_loop = serving_.is_closed_loop;
    const LoadMeasurement measurement =
        run_load(context_, *targets_[mode], requests, load, &progress_);
    point.metrics = measure_serving(measurement, requests, serving_);
    const bool held_back = options_.queries_per_second > 0 || options_.batch_size > 0;
    point.checks = check_serving(point, options_.ignore_eos, serving_.is_closed_loop || held_back);
    log(fmt::format("{}: {} answered, {} failed in {:.2f} s", point.name(),
                    point.metrics.num_completed, point.metrics.num_failed,
                    point.metrics.duration_s));
    if (options_.save_result) save(point, measurement, requests);
    report_.points.push_back(std::move(point));
    return report_.points.back();
  }

  void save(const ServingPoint& point, const LoadMeasurement& measurement,
            const std::vector<BenchRequest>& requests) const {
    nlohmann::ordered_json json = serving_point_json(report_, point);
    if (options_.save_detailed) add_details(measurement, requests, json);
    const std::string name = options_.result_filename.empty() ? result_file_name(report_, point)
                                                              : options_.result_filename;
    write_text_file((std::filesystem::path(options_.result_dir) / name).string(),
                    dump_json(json) + "\n");
  }

  // Doubles the rate until the limits do not hold, then halves the interval between.
  void search() {
    double held = 0;
    double not_held = 0;
    double rate = options_.search_min_rate;
    while (rate <= options_.search_max_rate) {
      if (!try_rate(rate)) {
        not_held = rate;
        break;
      }
      held = rate;
      if (rate == options_.search_max_rate) break;
      rate = std::min(2 * rate, options_.search_max_rate);
    }
    while (held > 0 && not_held > 0 && not_held / held - 1 > options_.search_tolerance) {
      const double middle = std::sqrt(held * not_held);
      (try_rate(middle) ? held : not_held) = middle;
    }
    report_.highest_rate = held;
  }

  bool try_rate(double rate) {
    const ServingPoint& point = run_point(0, rate, concurrencies_.front());
    const bool held = point.metrics.goodput_share >= options_.attainment;
    report_.search.emplace_back(rate, held);
    log(fmt::format("{:.3g} requests/s: {:.1f} % within the limits, {}", rate,
                    100 * point.metrics.goodput_share, held ? "held" : "not held"));
    return held;
  }

  const ServeBenchOptions& options_;
  Progress progress_;
  std::vector<std::string> modes_;
  std::vector<double> rates_;
  std::vector<std::int32_t> concurrencies_;
  ArrivalOptions arrivals_;
  ServingOptions serving_;
  nlohmann::json extra_body_;

  boost::asio::io_context context_{1};
  std::unique_ptr<OwnEngine> own_;  // null: a server elsewhere
  std::shared_ptr<Tokenizer> tokenizer_;
  WorkloadModel model_;
  HttpTargetOptions http_;
  std::vector<std::unique_ptr<BenchTarget>> targets_;  // one a mode
  Workload workload_;
  std::vector<double> trace_arrivals_;  // empty: no trace
  ServingReport report_;
};

}  // namespace

int run_serve_bench(const ServeBenchOptions& options, const std::string& command_line) {
  require_writable(options.report);
  if (options.save_result && !std::filesystem::is_directory(options.result_dir)) {
    throw Error(ErrorKind::kUsage, "--result-dir " + options.result_dir + ": not a folder");
  }
  ServeBenchCommand command(options, command_line);
  const ServingReport& report = command.run();
  write_report(options.report, {.text = [&] { return render_serving_text(report); },
                                .markdown = [&] { return render_serving_markdown(report); },
                                .json = [&] { return render_serving_json(report); },
                                .json_lines = [&] { return render_serving_jsonl(report); },
                                .records = [&] { return serving_records(report); }});
  return report.is_valid() ? 0 : 1;
}

}  // namespace llmrun
