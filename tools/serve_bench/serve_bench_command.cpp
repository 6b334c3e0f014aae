#include "tools/serve_bench/serve_bench_command.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <ctime>
#include <filesystem>
#include <optional>
#include <utility>

#include <fmt/chrono.h>
#include <fmt/format.h>
#include <sys/resource.h>
#include <unistd.h>

#include "engine/core/cpu_info.h"
#include "engine/core/error.h"
#include "engine/core/json.h"
#include "engine/core/random.h"
#include "tools/report/report_file.h"
#include "tools/throughput/throughput_run.h"

namespace llmrun {
namespace {

using Clock = std::chrono::steady_clock;

constexpr double kOverheadRate = 1000;  // requests/s that the client is paced at to measure it
constexpr double kOverheadSeconds = 1;

// Each connection needs a descriptor, two where the server is in this process.
void raise_descriptor_limit() {
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
  limit.rlim_cur = limit.rlim_max;
  ::setrlimit(RLIMIT_NOFILE, &limit);
}

std::int32_t num_prompts_for(double rate, double duration_s) {
  return static_cast<std::int32_t>(std::min(std::ceil(rate * duration_s), double{1 << 24}));
}

// The first `count` requests of the workload, or all it has: none is sent twice.
std::vector<BenchRequest> bench_requests(const Workload& workload, std::size_t count,
                                         std::uint64_t seed) {
  std::vector<BenchRequest> requests;
  for (std::size_t i = 0; i < std::min(count, workload.requests.size()); ++i) {
    requests.push_back({.prompt_token_ids = &workload.requests[i].prompt_token_ids,
                        .output_len = workload.requests[i].output_len,
                        .seed = derive_seed(seed, i)});
  }
  return requests;
}

}  // namespace

ServeBenchCommand::ServeBenchCommand(const ServeBenchOptions& options, std::string command_line)
    : options_(options),
      progress_({.style = terminal_style(STDERR_FILENO, *color_mode_from(options.color)),
                 .quiet = options.quiet}),
      plan_(make_load_plan(options)) {
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
  report_.has_goodput = plan_.serving.goodput.is_set();
  report_.shown_latencies = plan_.shown_latencies;
  report_.sampling = to_json(options.sampling);
}

void ServeBenchCommand::log(std::string_view line) {
  if (!options_.quiet) progress_.log(line);
}

const ServingReport& ServeBenchCommand::run() {
  raise_descriptor_limit();
  std::optional<BenchTargets> targets;
  try {
    targets.emplace(context_, options_, plan_.modes, progress_, signals_);
  } catch (const Error&) {
    if (!is_stopped()) throw;  // else it was a server that was waited for
  }
  if (targets) measure(*targets);
  report_.was_stopped = is_stopped();
  return report_;
}

void ServeBenchCommand::measure(BenchTargets& targets) {
  describe(targets.description());
  make_requests(targets, report_.seed, plan_.rates);
  if (!options_.skip_overhead && !is_stopped()) {
    report_.overhead = measure_overhead(kOverheadRate, kOverheadSeconds);
  }
  if (!is_stopped()) warm_up(targets);
  if (options_.find_rate) {
    search(targets);
  } else {
    run_all(targets);
  }
}

void ServeBenchCommand::describe(const TargetDescription& target) {
  report_.load_s = target.load_s;
  report_.device = target.device;
  report_.model = target.model;
  report_.tokenizer = target.tokenizer;
  report_.endpoint = target.endpoint;
  report_.backend = target.backend;
  report_.engine = target.engine;
}

void ServeBenchCommand::make_requests(BenchTargets& targets, std::uint64_t seed,
                                      std::span<const double> rates) {
  if (!options_.trace.path.empty()) {
    TraceWorkload read = read_trace(options_.trace, seed, targets.workload_model());
    workload_ = std::move(read.workload);
    trace_arrivals_ = std::move(read.arrivals_s);
  } else {
    WorkloadOptions workload = options_.workload;
    for (const double rate : rates) {
      if (options_.duration_s > 0 && std::isfinite(rate)) {
        workload.num_prompts =
            std::max(workload.num_prompts, num_prompts_for(rate, options_.duration_s));
      }
    }
    workload_ = make_workload(workload, seed, targets.workload_model());
  }
  for (const std::string& warning : workload_.warnings) log("warning: " + warning);
  report_.workload_description = workload_.description;
  report_.workload_sha256 = workload_.sha256();
  log(fmt::format("workload: {}: {}", size_text(workload_), workload_.description));
}

void ServeBenchCommand::warm_up(BenchTargets& targets) {
  const std::int64_t wanted =
      options_.num_warmups >= 0 ? options_.num_warmups : targets.num_sequences();
  if (wanted == 0) return;
  const Workload warm = warm_up_workload(workload_, wanted, targets.workload_model().vocab_size);
  const auto requests = bench_requests(warm, warm.requests.size(), warm.seed);
  const auto start = Clock::now();
  LoadOptions load;
  load.arrivals_s.assign(requests.size(), 0.0);
  load.limits.max_concurrency = plan_.concurrencies.back();
  load.stop_level = [this] { return 2 * static_cast<int>(signals_.stop_request()); };
  for (std::size_t i = 0; i < targets.num_targets() && !is_stopped(); ++i) {
    const LoadMeasurement measurement =
        run_load(context_, targets.target(i), requests, load, nullptr);
    if (!is_stopped()) refuse_if_all_failed(measurement);
  }
  report_.warm_up_s = std::chrono::duration<double>(Clock::now() - start).count();
  report_.num_warm_up_requests =
      std::ssize(requests) * static_cast<std::int64_t>(plan_.modes.size());
}

// A load of which nothing can be answered is not worth its time.
void ServeBenchCommand::refuse_if_all_failed(const LoadMeasurement& measurement) const {
  for (const RequestRecord& record : measurement.records) {
    if (record.succeeded()) return;
  }
  const BenchOutcome& outcome = measurement.records.front().outcome;
  throw Error(ErrorKind::kInput,
              fmt::format("{}: no request of the warm-up was answered; the first: {}: {}{}",
                          report_.endpoint, outcome.failure, outcome.message,
                          report_.tokenizer.empty()
                              ? " (prompts are random token ids: --tokenizer DIR or --vocab-size N "
                                "tells which the model has)"
                              : ""));
}

void ServeBenchCommand::run_all(BenchTargets& targets) {
  for (const double rate : plan_.rates) {
    for (const std::int32_t concurrency : plan_.concurrencies) {
      for (std::size_t mode = 0; mode < plan_.modes.size(); ++mode) {
        if (is_stopped()) return;
        run_point(targets, mode, rate, concurrency);
      }
    }
  }
}

std::size_t ServeBenchCommand::num_requests_for(double rate) const {
  if (!std::isfinite(rate) || options_.duration_s <= 0 || !trace_arrivals_.empty()) {
    return workload_.requests.size();
  }
  return static_cast<std::size_t>(
      std::max(num_prompts_for(rate, options_.duration_s), options_.workload.num_prompts));
}

LoadOptions ServeBenchCommand::load_options(double rate, std::int32_t concurrency,
                                            std::size_t num_requests) const {
  ArrivalOptions arrivals = plan_.arrivals;
  arrivals.request_rate = rate;
  LoadOptions load;
  load.arrivals_s =
      trace_arrivals_.empty()
          ? make_arrivals(arrivals, static_cast<std::int64_t>(num_requests), report_.seed)
          : trace_arrivals_;
  load.limits = options_.limits;
  load.limits.max_concurrency = concurrency;
  if (options_.duration_s > 0) load.duration_s = options_.duration_s;
  load.stop_level = [this] { return static_cast<int>(signals_.stop_request()); };
  load.drain_timeout_s = options_.drain_timeout_s;
  return load;
}

const ServingPoint* ServeBenchCommand::run_point(BenchTargets& targets, std::size_t mode,
                                                 double rate, std::int32_t concurrency) {
  // A server elsewhere may remember prompts of the run before; a search comes to rates that need
  // more than were made. Those of a file are what they are.
  const bool may_be_known = !targets.is_own_engine() && !report_.points.empty();
  const bool are_too_few = workload_.requests.size() < num_requests_for(rate);
  if (workload_.path.empty() && (may_be_known || are_too_few)) {
    make_requests(targets, derive_seed(report_.seed, report_.points.size()), {{rate}});
  } else if (are_too_few) {
    log(
        fmt::format("warning: {} of the {} requests of {:.3g} requests/s for {:g} s: the file has "
                    "no more",
                    workload_.requests.size(), num_requests_for(rate), rate, options_.duration_s));
  }
  const auto requests = bench_requests(workload_, num_requests_for(rate), report_.seed);
  LoadOptions load = load_options(rate, concurrency, requests.size());
  if (targets.is_own_engine()) load.kv_usage = [&targets] { return targets.kv_usage(); };
  const ArrivalOptions& arrivals = plan_.arrivals;
  ServingPoint point{.mode = plan_.modes[mode],
                     .request_rate = trace_arrivals_.empty() ? rate : std::nan(""),
                     .burstiness = arrivals.burstiness,
                     .ramp_up_strategy = arrivals.ramp_up_strategy,
                     .ramp_up_start_rps = arrivals.ramp_up_start_rps,
                     .ramp_up_end_rps = arrivals.ramp_up_end_rps,
                     .max_concurrency = concurrency,
                     .metrics = {},
                     .checks = {}};
  const bool has_schedule =
      std::isfinite(rate) || !arrivals.ramp_up_strategy.empty() || !trace_arrivals_.empty();
  const bool is_held_back = load.limits.batch_size > 0 || load.limits.queries_per_second > 0;
  ServingOptions serving = plan_.serving;
  serving.is_closed_loop = !has_schedule && (concurrency > 0 || is_held_back);
  report_.is_closed_loop = serving.is_closed_loop;
  static_cast<void>(targets.take_decode_batches());  // of what ran before
  const LoadMeasurement measurement =
      run_load(context_, targets.target(mode), requests, load, &progress_);
  point.metrics = measure_serving(measurement, requests, serving);
  point.metrics.decode_batches = targets.take_decode_batches();
  if (measurement.was_stopped && point.metrics.num_completed == 0) return nullptr;
  point.checks =
      check_serving(point, options_.sampling.ignore_eos, serving.is_closed_loop || is_held_back);
  if (measurement.was_stopped) {
    point.checks.push_back({"", "stopped", CheckStatus::kInvalid,
                            "a signal ended the run before all requests were sent"});
  }
  log(fmt::format("{}: {} answered, {} failed in {:.2f} s", point.name(),
                  point.metrics.num_completed, point.metrics.num_failed, point.metrics.duration_s));
  if (options_.save_result) save(point, measurement, requests);
  report_.points.push_back(std::move(point));
  return &report_.points.back();
}

void ServeBenchCommand::save(const ServingPoint& point, const LoadMeasurement& measurement,
                             const std::vector<BenchRequest>& requests) const {
  nlohmann::ordered_json json = serving_point_json(report_, point);
  if (options_.save_detailed) add_details(measurement, requests, json);
  const std::string name = options_.result_filename.empty() ? result_file_name(report_, point)
                                                            : options_.result_filename;
  write_text_file((std::filesystem::path(options_.result_dir) / name).string(),
                  dump_json(json) + "\n");
}

// Doubles the rate until the limits do not hold, then halves the interval between.
void ServeBenchCommand::search(BenchTargets& targets) {
  double held = 0;
  double not_held = 0;
  double rate = options_.search_min_rate;
  while (rate <= options_.search_max_rate && !is_stopped()) {
    if (!try_rate(targets, rate)) {
      not_held = rate;
      break;
    }
    held = rate;
    if (rate == options_.search_max_rate) break;
    rate = std::min(2 * rate, options_.search_max_rate);
  }
  while (held > 0 && not_held > 0 && not_held / held - 1 > options_.search_tolerance &&
         !is_stopped()) {
    const double middle = std::sqrt(held * not_held);
    (try_rate(targets, middle) ? held : not_held) = middle;
  }
  report_.highest_rate = held;
}

// A rate at which a signal came is not judged, nor noted.
bool ServeBenchCommand::try_rate(BenchTargets& targets, double rate) {
  const ServingPoint* point = run_point(targets, 0, rate, plan_.concurrencies.front());
  if (point == nullptr || is_stopped()) return false;
  const bool held = point->metrics.goodput_share >= options_.attainment;
  report_.search.emplace_back(rate, held);
  log(fmt::format("{:.3g} requests/s: {:.1f} % within the limits, {}", rate,
                  100 * point->metrics.goodput_share, held ? "held" : "not held"));
  return held;
}

}  // namespace llmrun
