#include "tools/throughput/throughput.h"

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <ctime>
#include <iostream>
#include <memory>
#include <string_view>
#include <utility>

#include <fmt/chrono.h>
#include <fmt/format.h>
#include <unistd.h>

#include "engine/core/counted.h"
#include "engine/core/cpu_info.h"
#include "engine/core/error.h"
#include "engine/engine_factory.h"
#include "tools/drain_timeout.h"
#include "tools/flag_checks.h"
#include "tools/load_progress.h"
#include "tools/progress.h"
#include "tools/report/report_file.h"
#include "tools/signals.h"
#include "tools/terminal.h"
#include "tools/throughput/throughput_cases.h"
#include "tools/throughput/throughput_render.h"
#include "tools/throughput/throughput_report.h"
#include "tools/throughput/throughput_run.h"
#include "tools/throughput/throughput_trace.h"
#include "tools/watchdog.h"

namespace llmrun {
namespace {

constexpr int kSignalsToEnd = 2;  // the first ends it with a report, the second at once
constexpr const char* kChatTemplate = "none";  // token ids are sent

double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

// The run from options to report, case by case: one engine lives at a time.
class ThroughputCommand {
 public:
  ThroughputCommand(const ThroughputOptions& options, std::string command_line)
      : options_(options),
        progress_({.style = terminal_style(STDERR_FILENO, *color_mode_from(options.color)),
                   .quiet = options.quiet}) {
    if (options_.engine.config.model.empty()) {
      options_.engine.config.model = default_throughput_model(options_.engine.config);
    }
    report_.command_line = std::move(command_line);
    report_.date = fmt::format("{:%Y-%m-%dT%H:%M:%SZ}", fmt::gmtime(std::time(nullptr)));
    report_.is_ablation = options.ablation;
    report_.num_repeats = options.num_repeats;
    report_.processor = read_cpu_info().model_name;
  }

  const ThroughputReport& run() {
    std::vector<EngineCase> cases = backend_cases(options_.engine);
    prepare_workload(cases.front().config);
    if (options_.ablation) {
      cases = ablation_cases(
          options_.engine,
          {.model_max_len = model_.engine.config.max_model_len,
           .workload_max_len = static_cast<std::int32_t>(report_.workload.longest())});
    }
    fill_batches(cases, std::ssize(report_.workload.requests));
    num_cases_ = cases.size();
    for (const EngineCase& one : cases) {
      if (!is_stopped()) measure(one);
    }
    if (is_stopped()) note_stop();
    compare();
    // The ids are what made the report; it keeps their lengths and digest.
    for (WorkloadRequest& request : report_.workload.requests) request.prompt_token_ids.clear();
    return report_;
  }

  const ThroughputTrace& trace() const { return trace_; }
  // The signal that ended it early; 0: none.
  int first_signal() const { return signals_.first_signal(); }

 private:
  void log(std::string_view line) {
    if (!options_.quiet) progress_.log(line);
  }

  bool is_stopped() const { return signals_.stop_request() != StopRequest::kNone; }

  void note_stop() {
    report_.checks.push_back(
        {"", "stopped", CheckStatus::kInvalid,
         fmt::format("a signal ended the benchmark: {} of {} here, the last of them "
                     "maybe with fewer repeats",
                     report_.cases.size(),
                     counted(static_cast<std::int64_t>(num_cases_), "case is", "cases are"))});
  }

  // Reads the model's description and tokenizer, and makes the requests.
  void prepare_workload(const EngineConfig& config) {
    model_ = describe_model(config, kChatTemplate);
    const bool has_tokenizer = !config.tokenizer.empty() || !config.model.starts_with("shape:");
    if (has_tokenizer) {
      tokenizer_ = load_model_tokenizer(config.tokenizer.empty() ? config.model : config.tokenizer);
    }
    std::int64_t vocab_size = model_.model.vocab_size;
    if (tokenizer_ != nullptr) {
      vocab_size = std::min<std::int64_t>(vocab_size, tokenizer_->vocab_size());
    }
    report_.workload = make_workload(options_.workload, config.seed,
                                     {.tokenizer = tokenizer_.get(),
                                      .vocab_size = vocab_size,
                                      .max_model_len = model_.engine.config.max_model_len});
    report_.workload_sha256 = report_.workload.sha256();
    report_.lengths = measure_lengths(report_.workload);
    log(fmt::format("workload: {}: {}", size_text(report_.workload), report_.workload.description));
    add_workload_checks();
  }

  void add_workload_checks() {
    for (const std::string& warning : report_.workload.warnings) {
      report_.checks.push_back({"", "dataset_size", CheckStatus::kWarning, warning});
    }
    if (options_.debug_slowdown > 0) {
      report_.checks.push_back({"", "debug_slowdown", CheckStatus::kWarning,
                                "steps were slowed down by --debug-slowdown"});
    }
    const std::int64_t duplicates = report_.workload.num_duplicate_prompts();
    const bool is_repeated = duplicates > 0;
    report_.checks.push_back(
        {"", "duplicate_prompts", is_repeated ? CheckStatus::kWarning : CheckStatus::kOk,
         is_repeated ? counted(duplicates, "prompt is", "prompts are") + " there twice" : ""});
  }

  void measure(const EngineCase& one) {
    CaseMeasurement measurement;
    measurement.definition = one;
    const auto start = std::chrono::steady_clock::now();
    CreatedEngine created =
        create_engine(one.config, kChatTemplate, log_loading(progress_, options_.quiet));
    measurement.load_s = seconds_since(start);
    measurement.description = created.description;
    log_engine(one, created.description);
    if (report_.cases.empty()) describe_device(created);

    const RunOptions run_options{.sampling = sampling(),
                                 .seed = one.config.seed,
                                 .slowdown = options_.debug_slowdown,
                                 .should_stop = [this] { return is_stopped(); }};
    run_watched(*created.engine, run_options, measurement);
    created.engine.reset();
    if (measurement.runs.empty()) return;

    const ReportContext context{.workload = report_.workload,
                                .model = model_.model,
                                .limits = report_.limits,
                                .price_per_hour = options_.price_per_hour};
    report_.cases.push_back(make_case_report(measurement, context));
    for (Check& check : check_case(measurement, report_.cases.back(), context)) {
      report_.checks.push_back(std::move(check));
    }
    if (!options_.trace.empty()) trace_.add(measurement);
  }

  void run_watched(LlmEngine& engine, const RunOptions& run_options, CaseMeasurement& measurement) {
    const Watchdog watchdog(signals_, {.progress = [&engine] { return engine.progress(); },
                                       .stall_timeout_s = options_.stall_timeout_s,
                                       .drain_timeout_s = kDrainTimeoutSeconds});
    warm_up(engine, run_options, measurement);
    repeat(engine, run_options, measurement);
  }

  // What a signal cuts short is left out.
  void repeat(LlmEngine& engine, const RunOptions& run_options, CaseMeasurement& measurement) {
    const std::string& name = measurement.definition.name;
    for (std::int32_t repeat = 0; repeat < options_.num_repeats && !is_stopped(); ++repeat) {
      RunMeasurement run = run_workload(engine, report_.workload, run_options, progress_);
      if (run.was_stopped) {
        log(fmt::format("{}: repeat {} of {}: stopped after {:.3f} s and {}; left out", name,
                        repeat + 1, options_.num_repeats, run.elapsed_s,
                        counted(run.stats.num_output_tokens, "output token")));
        return;
      }
      log(fmt::format("{}: repeat {} of {}: {:.3f} s", name, repeat + 1, options_.num_repeats,
                      run.elapsed_s));
      measurement.runs.push_back(std::move(run));
    }
  }

  void log_engine(const EngineCase& one, const EngineDescription& description) {
    log(fmt::format("{}: {}", one.name, flags_of(description.config)));
    if (!options_.quiet) progress_.log_lines(description.memory_plan.to_text());
    for (const std::string& note : description.notes) log("note: " + note);
  }

  void describe_device(const CreatedEngine& created) {
    const EngineDescription& description = created.description;
    report_.device_kind = resolved_device(description.config);
    report_.device = description.device;
    report_.model = description.config.model;
    report_.num_parameters = description.num_parameters;
    const auto start = std::chrono::steady_clock::now();
    report_.limits = created.engine->measure_limits(description.dtype);
    report_.measure_limits_s = seconds_since(start);
    report_.sampling = to_json(options_.sampling);
    report_.sampling["max_tokens"] = "as the dataset says";
    report_.sampling["seed"] =
        fmt::format("each request its own, from {} and its number", description.config.seed);
    report_.sampling["detokenize"] = sampling().detokenize && tokenizer_ != nullptr;
  }

  SamplingParams sampling() const {
    SamplingParams params = to_params(options_.sampling);
    params.detokenize = !options_.disable_detokenize;
    return params;
  }

  void warm_up(LlmEngine& engine, const RunOptions& run_options, CaseMeasurement& measurement) {
    const std::int64_t num_requests = options_.num_warmups >= 0
                                          ? options_.num_warmups
                                          : measurement.description.config.max_num_seqs;
    if (num_requests == 0) return;
    const Workload workload =
        warm_up_workload(report_.workload, num_requests, engine.options().vocab_size);
    const auto start = std::chrono::steady_clock::now();
    static_cast<void>(run_workload(engine, workload, run_options, progress_));
    measurement.warm_up_s = seconds_since(start);
    measurement.num_warm_up_requests = std::ssize(workload.requests);
  }

  // Against the naive backend where there is one, else the last; a ladder against its first level.
  void compare() {
    std::vector<CaseReport>& cases = report_.cases;
    if (cases.size() < 2) return;
    const auto naive = std::find_if(cases.begin(), cases.end(),
                                    [](const CaseReport& one) { return one.name == "naive"; });
    const CaseReport& baseline = report_.is_ablation    ? cases.front()
                                 : naive != cases.end() ? *naive
                                                        : cases.back();
    for (const CaseReport& one : cases) {
      if (&one != &baseline) report_.comparisons.push_back(compare_cases(one, baseline));
    }
  }

  ThroughputOptions options_;
  SignalWatcher signals_{kSignalsToEnd};
  Progress progress_;
  ModelDescription model_;
  std::unique_ptr<Tokenizer> tokenizer_;
  ThroughputReport report_;
  ThroughputTrace trace_;
  std::size_t num_cases_ = 0;
};

// Where a definition would be wider than the terminal it goes on in the next line.
int text_width() {
  return ::isatty(STDOUT_FILENO) != 0 ? terminal_columns(STDOUT_FILENO) : 0;
}

}  // namespace

ThroughputOptions::ThroughputOptions() {
  engine = benchmark_engine_defaults();
  engine.backend = "paged,naive";
}

void add_throughput_command(CLI::App& command, ThroughputOptions& options) {
  const std::string group = "Benchmark";
  command
      .add_flag("--ablation", options.ablation,
                "Instead of backends, compare five levels from static batches over reserved memory "
                "to the paged engine, each with one change")
      ->group(group);
  command
      .add_option("-r,--repeats", options.num_repeats,
                  "Runs of each backend; their spread is reported")
      ->check(CLI::Range(1, 1000))
      ->group(group)
      ->capture_default_str();
  command
      .add_option("--num-warmups", options.num_warmups,
                  "Requests before the clock starts, from a seed of their own (-1: as many as run "
                  "at once)")
      ->check(CLI::Range(-1, 1 << 24))
      ->group(group)
      ->capture_default_str();
  command
      .add_option("--price-per-hour", options.price_per_hour,
                  "Of the machine, in any currency; reports the price of a million output tokens")
      ->check(number_from(0.0, 1e9))
      ->group(group);
  add_stall_timeout_option(command, options.stall_timeout_s, group);
  command
      .add_option("--debug-slowdown", options.debug_slowdown,
                  "Make each step take this share longer, to test what looks for drops")
      ->check(number_from(0.0, 10.0))
      ->group("");  // not in the help
  add_workload_options(command, options.workload);
  add_benchmark_engine_options(command, options.engine);
  command.get_option("--backend")
      ->description("Backends to run in turn, separated by commas: paged, naive");
  command.get_option("--max-num-seqs")
      ->description(
          "Sequences that run at once (0: all requests, with continuous batching at most 1024)");
  add_benchmark_sampling_options(command, options.sampling);
  command
      .add_flag("--disable-detokenize", options.disable_detokenize,
                "Do not turn output tokens into text")
      ->group("Sampling");
  add_report_options(command, options.report);
  command
      .add_option("--trace", options.trace,
                  "Write each step of the last repeats as JSON lines, and beside it "
                  "FILE.chrome.json for ui.perfetto.dev")
      ->group("Report");
  command.add_option("--color", options.color, "auto, always or never")
      ->check(CLI::IsMember({"auto", "always", "never"}))
      ->group("Report")
      ->capture_default_str();
  command.add_flag("-q,--quiet", options.quiet, "Only errors on standard error")->group("Report");
}

int run_throughput(const ThroughputOptions& options, const std::string& command_line) {
  require_writable(options.report);
  if (!options.trace.empty()) require_writable(options.trace);
  ThroughputCommand command(options, command_line);
  const ThroughputReport& report = command.run();
  const int signal = command.first_signal();
  if (signal != 0 && report.cases.empty()) {
    std::cerr << "llmrun: stopped before anything was measured\n";
    return exit_code_of_signal(signal);
  }
  write_report(options.report, {.text = [&] { return render_text(report, text_width()); },
                                .markdown = [&] { return render_markdown(report); },
                                .json = [&] { return render_json(report); },
                                .json_lines = [&] { return render_jsonl(report); },
                                .records = [&] { return throughput_records(report); }});
  if (!options.trace.empty()) command.trace().write(options.trace);
  if (signal != 0) return exit_code_of_signal(signal);
  return report.is_valid() ? 0 : 1;
}

}  // namespace llmrun
