#include "tools/flag_checks.h"
#include "tools/serve_bench/serve_bench.h"
#include "tools/watchdog.h"

namespace llmrun {
namespace {

void add_target_options(CLI::App& command, ServeBenchOptions& options) {
  const std::string group = "Target";
  command
      .add_option(
          "--modes", options.modes,
          "Where the own engine is met: inproc (in this process), http (the own server over "
          "loopback), or both: inproc,http")
      ->group(group)
      ->capture_default_str();
  command
      .add_option(
          "--base-url", options.server.base_url,
          "Measure the OpenAI-compatible server at this URL (without /v1) instead of the own "
          "engine; a key comes from OPENAI_API_KEY")
      ->group(group);
  command
      .add_option("--endpoint", options.endpoint,
                  "/v1/completions (prompts as token ids) or /v1/chat/completions (as text)")
      ->group(group)
      ->capture_default_str();
  add_api_server_options(command, options.server, group);
  command
      .add_option("--vocab-size", options.vocab_size,
                  "With --base-url: random ids are below this (0: the model's, else 32000)")
      ->check(CLI::Range(0, 1 << 24))
      ->group(group)
      ->capture_default_str();
}

void add_load_options(CLI::App& command, ServeBenchOptions& options) {
  const std::string group = "Load";
  command
      .add_option(
          "--request-rate", options.request_rates,
          "Requests per second (inf: all at the start); a list 1,2,4 runs one after another")
      ->group(group)
      ->capture_default_str();
  command
      .add_option(
          "--burstiness", options.burstiness,
          "Shape of the gamma-distributed gaps: 1 is Poisson, below 1 burstier, inf constant")
      ->group(group)
      ->capture_default_str();
  command
      .add_option("--ramp-up-strategy", options.arrivals.ramp_up_strategy,
                  "linear or exponential: the rate goes from --ramp-up-start-rps to "
                  "--ramp-up-end-rps over the requests")
      ->check(CLI::IsMember({"linear", "exponential"}))
      ->group(group);
  command
      .add_option("--ramp-up-start-rps", options.arrivals.ramp_up_start_rps, "Rate at the start")
      ->check(CLI::Range(1e-3, 1e6))
      ->group(group);
  command.add_option("--ramp-up-end-rps", options.arrivals.ramp_up_end_rps, "Rate at the end")
      ->check(CLI::Range(1e-3, 1e6))
      ->group(group);
  command
      .add_option("--max-concurrency", options.max_concurrency,
                  "Requests under way at once, at most; a list 1,8,64 runs one after another. With "
                  "--request-rate inf a request arrives when there is room for it")
      ->group(group);
  command
      .add_option("--duration", options.duration_s,
                  "Seconds after which nothing more is sent (0: until --num-prompts are)")
      ->check(number_from(0.0, 1e7))
      ->group(group)
      ->capture_default_str();
  command
      .add_option(
          "--trace-file", options.trace.path,
          "Arrivals and lengths from JSON lines (timestamp, input_length, output_length and "
          "hash_ids, as Mooncake's) or CSV with these columns, in place of a dataset")
      ->group(group);
  command
      .add_option("--trace-time-unit", options.trace.time_unit,
                  "s, ms, or auto: ms in JSON lines, s in CSV")
      ->check(CLI::IsMember({"auto", "s", "ms"}))
      ->group(group)
      ->capture_default_str();
  command.add_option("--trace-time-scale", options.trace.time_scale, "2: half as fast as recorded")
      ->check(CLI::Range(1e-6, 1e6))
      ->group(group)
      ->capture_default_str();
  add_send_limit_options(command, options.limits, group);
  command
      .add_option("--batch-size", options.limits.batch_size,
                  "Send in groups of so many, each after the one before is answered (0: no groups)")
      ->check(CLI::Range(0, 1 << 24))
      ->group(group)
      ->capture_default_str();
  command
      .add_option(
          "--num-warmups", options.num_warmups,
          "Requests before the clock starts (-1: as many as run at once; with --base-url 1)")
      ->check(CLI::Range(-1, 1 << 24))
      ->group(group)
      ->capture_default_str();
  add_drain_timeout_option(command, options.drain_timeout_s, group);
  add_stall_timeout_option(command, options.stall_timeout_s, group);
}

void add_search_options(CLI::App& command, ServeBenchOptions& options) {
  const std::string group = "Search";
  command
      .add_flag("--find-rate", options.find_rate,
                "Find the highest request rate at which --goodput holds, instead of --request-rate")
      ->group(group);
  command
      .add_option("--attainment", options.attainment,
                  "Share of requests that must meet --goodput for it to hold; failed ones do not")
      ->check(number_from(0.01, 1.0))
      ->group(group)
      ->capture_default_str();
  command.add_option("--search-min-rate", options.search_min_rate, "First rate tried")
      ->check(CLI::Range(1e-3, 1e6))
      ->group(group)
      ->capture_default_str();
  command.add_option("--search-max-rate", options.search_max_rate, "Last rate tried")
      ->check(CLI::Range(1e-3, 1e6))
      ->group(group)
      ->capture_default_str();
  command
      .add_option("--search-tolerance", options.search_tolerance,
                  "Ends when the rates that hold and do not hold differ by this share")
      ->check(CLI::Range(1e-3, 1.0))
      ->group(group)
      ->capture_default_str();
}

void add_result_options(CLI::App& command, ServeBenchOptions& options) {
  const std::string group = "Report";
  command
      .add_option("--percentile-metrics", options.percentile_metrics,
                  "Of ttft, tpot, itl, e2el, client_queue_time, e2el_including_client_queue")
      ->group(group)
      ->capture_default_str();
  command.add_option("--metric-percentiles", options.metric_percentiles, "A list, 0 to 100")
      ->group(group)
      ->capture_default_str();
  command
      .add_option("--goodput", options.goodput,
                  "Limits in milliseconds that a good request meets: ttft:500 tpot:50 e2el:10000")
      ->group(group);
  command
      .add_flag(
          "--first-report", options.first_report,
          "Also the report of vLLM's first benchmark_serving: total time, requests/s, average "
          "latency, per token, per output token, output tokens/s")
      ->group(group);
  command
      .add_flag("--skip-overhead", options.skip_overhead,
                "Do not measure the client's own cost, which takes about a second")
      ->group(group);
  add_report_options(command, options.report);
  command
      .add_flag("--save-result", options.save_result,
                "Write a JSON file for each run, named and keyed as vLLM's")
      ->group(group);
  command
      .add_flag("--save-detailed", options.save_detailed,
                "With --save-result: also each request's lengths, times, text and error")
      ->group(group);
  command.add_option("--result-dir", options.result_dir, "Folder of --save-result")
      ->group(group)
      ->capture_default_str();
  command.add_option("--result-filename", options.result_filename, "Its file, for a single run")
      ->group(group);
  command.add_option("--label", options.label, "In results and their file names")->group(group);
  command.add_option("--metadata", options.metadata, "KEY=VALUE pairs for results")->group(group);
  command.add_option("--color", options.color, "auto, always or never")
      ->check(CLI::IsMember({"auto", "always", "never"}))
      ->group(group)
      ->capture_default_str();
  command.add_flag("-q,--quiet", options.quiet, "Only errors on standard error")->group(group);
}

}  // namespace

ServeBenchOptions::ServeBenchOptions() {
  workload.num_prompts = 100;
  engine = benchmark_engine_defaults();
}

void add_serve_bench_command(CLI::App& command, ServeBenchOptions& options) {
  add_target_options(command, options);
  add_load_options(command, options);
  add_search_options(command, options);
  add_workload_options(command, options.workload);
  add_benchmark_engine_options(command, options.engine);
  add_benchmark_sampling_options(command, options.sampling);
  command
      .add_flag("--ignore-eos,!--no-ignore-eos", options.sampling.ignore_eos,
                "Every output has the length asked for (default); OpenAI's own servers do not know "
                "the field: --no-ignore-eos")
      ->group("Sampling");
  add_result_options(command, options);
}

}  // namespace llmrun
