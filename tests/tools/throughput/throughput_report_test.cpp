// Reports of measurements that were made up: every figure can be worked out by hand.
#include "tools/throughput/throughput_report.h"

#include <algorithm>

#include <doctest/doctest.h>

#include "engine/core/sha256.h"
#include "tools/throughput/throughput_cases.h"
#include "tools/throughput/throughput_render.h"
#include "tools/throughput/throughput_trace.h"

namespace llmrun {
namespace {

Workload two_requests() {
  Workload workload;
  workload.dataset = "random";
  workload.requests = {{{1, 2, 3, 4}, 3, 0}, {{5, 6}, 2, 1}};
  return workload;
}

StepRecord step(std::int32_t prefill, std::int32_t decode, std::int32_t sampled, double end_s) {
  StepRecord record;
  record.num_prefill_tokens = prefill;
  record.num_decode_sequences = decode;
  record.num_sampled_rows = sampled;
  record.num_decode_context_tokens = 5 * decode;
  record.kv_blocks_used = 2;
  record.num_kv_tokens = 6;
  record.collected_s = end_s;
  return record;
}

// Two requests at 10 s on the engine's clock: both prompts, then steps of 2 and 1 sequences.
RunMeasurement one_run(double scale) {
  RunMeasurement run;
  run.start_s = 10;
  run.elapsed_s = 4 * scale;
  run.requests = {{{7, 8, 9}, {1 * scale, 2 * scale, 4 * scale}, 0.5, ""},
                  {{7, 7}, {1 * scale, 2 * scale}, 0.5, ""}};
  run.steps = {step(6, 0, 2, 10 + 1 * scale), step(0, 2, 2, 10 + 2 * scale),
               step(0, 1, 1, 10 + 4 * scale)};
  run.stats.num_steps = 3;
  run.stats.num_output_tokens = 5;
  run.stats.num_batched_tokens = 9;
  run.stats.num_padding_tokens = 3;
  run.telemetry.resize(1);
  return run;
}

CaseMeasurement measurement_of(const std::string& name, std::vector<RunMeasurement> runs) {
  CaseMeasurement measurement;
  measurement.definition.name = name;
  measurement.description.config.max_num_seqs = 8;
  measurement.description.config.max_num_batched_tokens = 64;
  measurement.description.config.enable_prefix_caching = false;
  measurement.description.dtype = DType::kBf16;
  measurement.description.kv_cache_dtype = DType::kBf16;
  measurement.description.memory_plan.inputs.bytes_per_token = 10;
  measurement.description.memory_plan.inputs.block_size = 4;
  measurement.description.memory_plan.kv_pool_tokens = 1000;
  measurement.num_warm_up_requests = 2;
  measurement.runs = std::move(runs);
  return measurement;
}

ReportContext context_of(const Workload& workload) {
  ReportContext context{.workload = workload, .model = {}, .limits = {}};
  context.model.num_layers = 1;
  context.model.hidden_size = 4;
  context.model.intermediate_size = 8;
  context.model.num_query_heads = 2;
  context.model.num_kv_heads = 1;
  context.model.head_dim = 2;
  context.model.vocab_size = 10;
  context.limits = {
      .read_bytes_per_second = 1e4, .multiply_flops_per_second = 1e4, .multiply_dtype = "bfloat16"};
  return context;
}

const Check& check_named(const std::vector<Check>& checks, const std::string& name) {
  return *std::find_if(checks.begin(), checks.end(),
                       [&](const Check& check) { return check.name == name; });
}

const LatencyMetric& latency(const CaseReport& report, const std::string& name) {
  return *std::find_if(report.latencies.begin(), report.latencies.end(),
                       [&](const LatencyMetric& one) { return one.name == name; });
}

ThroughputReport report_of(std::vector<CaseReport> cases, const Workload& workload) {
  ThroughputReport report;
  report.workload = workload;
  report.lengths = measure_lengths(workload);
  report.num_repeats = 2;
  for (std::size_t i = 0; i + 1 < cases.size(); ++i) {
    report.comparisons.push_back(compare_cases(cases[i], cases.back()));
  }
  report.cases = std::move(cases);
  return report;
}

}  // namespace

TEST_CASE("rates, and their spread over repeats") {
  const Workload workload = two_requests();
  const CaseReport report =
      make_case_report(measurement_of("paged", {one_run(1), one_run(0.5)}), context_of(workload));
  CHECK(report.num_prompt_tokens == 6);
  CHECK(report.num_output_tokens == 5);
  CHECK(report.metric("elapsed_s").samples == std::vector<double>{4, 2});
  CHECK(report.metric("requests_per_s").samples == std::vector<double>{0.5, 1});
  CHECK(report.metric("requests_per_s").mean() == doctest::Approx(0.75));
  CHECK(report.metric("requests_per_s").statistics.ci95_half_width ==
        doctest::Approx(12.706 * 0.25).epsilon(0.001));
  CHECK(report.metric("total_tokens_per_s").samples.front() == doctest::Approx(11.0 / 4));
  CHECK(report.metric("output_tokens_per_s").samples.front() == doctest::Approx(5.0 / 4));
  CHECK(!report.metric("energy_j").is_measured());
  CHECK(!report.metric("prefix_hit_percent").is_measured());
  CHECK(!report.metric("device_idle_percent").is_measured());
  CHECK(report.metric("padding_percent").mean() == doctest::Approx(25));
}

TEST_CASE("R08: the share of tokens that were computed again") {
  RunMeasurement run = one_run(1);
  run.stats.num_batched_tokens = 40;
  run.stats.num_recomputed_tokens = 10;
  const Workload workload = two_requests();
  const CaseReport report =
      make_case_report(measurement_of("paged", {run, run}), context_of(workload));
  CHECK(report.metric("recomputed_tokens").mean() == 10);
  CHECK(report.metric("recomputed_percent").mean() == 25);
}

TEST_CASE("latencies") {
  const Workload workload = two_requests();
  const CaseReport report =
      make_case_report(measurement_of("paged", {one_run(1)}), context_of(workload));
  CHECK(latency(report, "queue_ms").distribution.mean == doctest::Approx(500));
  CHECK(latency(report, "ttft_ms").distribution.mean == doctest::Approx(1000));
  CHECK(latency(report, "tpot_ms").distribution.mean == doctest::Approx((1500 + 1000) / 2.0));
  CHECK(latency(report, "itl_ms").distribution.count == 3);
  CHECK(latency(report, "itl_ms").distribution.mean == doctest::Approx(4000.0 / 3));
  CHECK(latency(report, "e2el_ms").distribution.max == doctest::Approx(4000));
}

TEST_CASE("shares of the limits, by phase") {
  const Workload workload = two_requests();
  const ReportContext context = context_of(workload);
  const CaseMeasurement measurement = measurement_of("paged", {one_run(1)});
  const CaseReport report = make_case_report(measurement, context);
  const Roofline roofline = make_roofline(measurement.description, context);
  const auto& steps = measurement.runs.front().steps;
  const StepWork prefill = roofline.work(steps[0]);
  StepWork decode = roofline.work(steps[1]);
  decode += roofline.work(steps[2]);
  CHECK(report.metric("prefill_s").mean() == doctest::Approx(1));
  CHECK(report.metric("decode_s").mean() == doctest::Approx(3));
  CHECK(report.metric("prefill_mfu_percent").mean() == doctest::Approx(prefill.flops / 100));
  CHECK(report.metric("decode_mbu_percent").mean() == doctest::Approx(decode.bytes / 300));
  CHECK(report.metric("roofline_share_percent").mean() ==
        doctest::Approx((prefill.limit_s + decode.limit_s) / 4 * 100));
  CHECK(report.metric("ideal_s").mean() > 0);
  CHECK(report.metric("mean_decode_batch").mean() == doctest::Approx(1.5));
}

TEST_CASE("KV memory: reserved, used, wasted") {
  const Workload workload = two_requests();
  const CaseReport report =
      make_case_report(measurement_of("paged", {one_run(1)}), context_of(workload));
  CHECK(report.metric("kv_reserved_peak_bytes").mean() == doctest::Approx(80));
  CHECK(report.metric("kv_used_mean_bytes").mean() == doctest::Approx(60));
  CHECK(report.metric("kv_wasted_percent").mean() == doctest::Approx(25));
}

TEST_CASE("energy and clocks") {
  const Workload workload = two_requests();
  RunMeasurement run = one_run(1);
  run.telemetry.resize(3);
  run.telemetry[0].energy_joules = 100;
  run.telemetry[0].clock_mhz = 300;  // idle, before the run
  run.telemetry[1].clock_mhz = 1900;
  run.telemetry[2].energy_joules = 150;
  run.telemetry[2].clock_mhz = 1980;
  const CaseMeasurement measurement = measurement_of("paged", {run});
  const ReportContext context = context_of(workload);
  const CaseReport report = make_case_report(measurement, context);
  CHECK(report.metric("energy_j").mean() == doctest::Approx(50));
  CHECK(report.metric("mean_power_w").mean() == doctest::Approx(12.5));
  CHECK(report.metric("j_per_output_token").mean() == doctest::Approx(10));
  CHECK(report.metric("min_clock_mhz").mean() == doctest::Approx(1900));
  RunMeasurement quick = run;  // shorter than the counter can tell
  quick.elapsed_s = 1.5;
  const CaseReport short_report = make_case_report(measurement_of("paged", {quick}), context);
  CHECK(!short_report.metric("energy_j").is_measured());
  CHECK(!short_report.metric("mean_power_w").is_measured());
  CHECK(check_named(check_case(measurement, report, context), "clock_variation").status ==
        CheckStatus::kWarning);
}

TEST_CASE("checks that make a run invalid, and warnings") {
  const Workload workload = two_requests();
  const ReportContext context = context_of(workload);
  const auto status = [&](const RunMeasurement& run, const std::string& name) {
    const CaseMeasurement measurement = measurement_of("paged", {run, run});
    const CaseReport report = make_case_report(measurement, context);
    return check_named(check_case(measurement, report, context), name).status;
  };
  const RunMeasurement good = one_run(10);
  CHECK(status(good, "failed_requests") == CheckStatus::kOk);
  CHECK(status(good, "short_outputs") == CheckStatus::kOk);
  CHECK(status(good, "token_counts") == CheckStatus::kOk);
  CHECK(status(good, "run_length") == CheckStatus::kOk);
  CHECK(status(good, "stability") == CheckStatus::kOk);
  CHECK(status(one_run(1), "run_length") == CheckStatus::kWarning);
  for (const char* name : {"other_processes", "throttling", "power_cap", "clock_variation"}) {
    CHECK(status(good, name) == CheckStatus::kNotMeasured);
  }

  RunMeasurement failed = good;
  failed.requests[1].error = "too long";
  CHECK(status(failed, "failed_requests") == CheckStatus::kInvalid);
  RunMeasurement cut = good;
  cut.requests[0].token_ids.pop_back();
  CHECK(status(cut, "short_outputs") == CheckStatus::kInvalid);
  CHECK(status(cut, "token_counts") == CheckStatus::kInvalid);
  RunMeasurement shared = good;
  shared.telemetry[0].num_other_processes = 1;
  shared.telemetry[0].throttle_reasons = {"power cap"};
  CHECK(status(shared, "other_processes") == CheckStatus::kInvalid);
  CHECK(status(shared, "throttling") == CheckStatus::kOk);
  CHECK(status(shared, "power_cap") == CheckStatus::kWarning);
  shared.telemetry[0].max_clock_mhz = 1980;
  shared.telemetry[0].clock_mhz = 1965;
  CHECK(status(shared, "power_cap") == CheckStatus::kOk);
  shared.telemetry[0].clock_mhz = 1410;
  CHECK(status(shared, "power_cap") == CheckStatus::kWarning);
  RunMeasurement before = shared;  // the run itself was not held back
  before.telemetry.resize(3);
  CHECK(status(before, "power_cap") == CheckStatus::kOk);
  shared.telemetry[0].throttle_reasons = {"hardware thermal slowdown"};
  CHECK(status(shared, "throttling") == CheckStatus::kInvalid);
}

TEST_CASE("outputs of two engines are compared token by token") {
  const Workload workload = two_requests();
  const ReportContext context = context_of(workload);
  const CaseReport ours = make_case_report(measurement_of("paged", {one_run(1)}), context);
  RunMeasurement other = one_run(2);
  other.requests[0].token_ids = {7, 8, 1};
  const CaseReport theirs = make_case_report(measurement_of("naive", {other}), context);
  const Comparison comparison = compare_cases(ours, theirs);
  CHECK(comparison.requests_per_s_ratio == doctest::Approx(2));
  CHECK(comparison.same_requests_share == doctest::Approx(0.5));
  CHECK(comparison.same_tokens_share == doctest::Approx(0.8));
  REQUIRE(comparison.first_difference);
  CHECK(*comparison.first_difference == std::pair<std::int64_t, std::int64_t>{0, 2});
  CHECK(ours.output_digest != theirs.output_digest);
}

TEST_CASE("the digest is SHA-256 over index, count and little-endian ids") {
  std::string bytes = "0 2:";
  bytes += std::string("\x01\0\0\0\x02\x01\0\0", 8);
  bytes += "1 0:";
  CHECK(output_digest({{1, 258}, {}}) == to_hex(sha256(bytes)));
}

TEST_CASE("vLLM's lines and keys") {
  const Workload workload = two_requests();
  const ReportContext context = context_of(workload);
  const ThroughputReport report =
      report_of({make_case_report(measurement_of("paged", {one_run(1)}), context)}, workload);
  CHECK(vllm_lines(report.cases.front()) ==
        "Throughput: 0.50 requests/s, 2.75 total tokens/s, 1.25 output tokens/s\n"
        "Total num prompt tokens:  6\n"
        "Total num output tokens:  5\n");
  const nlohmann::ordered_json json = render_json(report);
  CHECK(json.at("schema_version") == kThroughputSchemaVersion);
  CHECK(json.at("elapsed_time") == 4.0);
  CHECK(json.at("num_requests") == 2);
  CHECK(json.at("total_num_tokens") == 11);
  CHECK(json.at("requests_per_second") == 0.5);
  CHECK(json.at("tokens_per_second") == 2.75);
}

TEST_CASE("every form has every figure") {
  const Workload workload = two_requests();
  const ReportContext context = context_of(workload);
  ThroughputReport report =
      report_of({make_case_report(measurement_of("paged", {one_run(1), one_run(1)}), context),
                 make_case_report(measurement_of("naive", {one_run(2), one_run(2)}), context)},
                workload);
  const nlohmann::ordered_json json = render_json(report);
  CHECK(json.at("cases").size() == 2);
  for (const auto& metric : json.at("cases")[0].at("metrics")) {
    CHECK(!metric.at("definition").get<std::string>().empty());
    CHECK(metric.contains("samples"));
  }
  const std::string csv = csv_table(throughput_records(report));
  CHECK(std::count(csv.begin(), csv.end(), '\n') == 3);
  for (const Metric& metric : report.cases.front().metrics) {
    CHECK(csv.find(metric.name) != std::string::npos);
  }
  const std::string jsonl = render_jsonl(report);
  CHECK(std::count(jsonl.begin(), jsonl.end(), '\n') == 2);
  CHECK(nlohmann::json::parse(jsonl.substr(0, jsonl.find('\n'))).at("case").at("name") == "paged");
  const std::string text = render_text(report);
  CHECK(text.find("+100.0 % (2.00 x naive)") != std::string::npos);
  CHECK(text.find("INVALID") == std::string::npos);
  CHECK(render_markdown(report).find("| naive |") != std::string::npos);
  const ThroughputReport unsure =
      report_of({make_case_report(measurement_of("paged", {one_run(1), one_run(1)}), context),
                 make_case_report(measurement_of("naive", {one_run(1.5), one_run(3)}), context)},
                workload);
  CHECK(render_text(unsure).find(" x naive; intervals overlap)") != std::string::npos);

  report.checks.push_back({"paged", "short_outputs", CheckStatus::kInvalid, "cut"});
  CHECK(!report.is_valid());
  CHECK(render_text(report).starts_with("*** INVALID"));
  CHECK(render_markdown(report).find("INVALID") != std::string::npos);
  CHECK(render_json(report).at("valid") == false);
}

TEST_CASE("a trace has a line for each step, and events") {
  ThroughputTrace trace;
  RunMeasurement run = one_run(1);
  for (StepRecord& record : run.steps) {
    record.device_busy_s = 0.5;
    record.device_idle_s = 0.25;
  }
  trace.add(measurement_of("paged", {run}));
  const std::string lines = trace.to_jsonl();
  CHECK(std::count(lines.begin(), lines.end(), '\n') == 3);
  const auto first = nlohmann::json::parse(lines.substr(0, lines.find('\n')));
  CHECK(first.at("num_prefill_tokens") == 6);
  CHECK(first.at("ms") == doctest::Approx(1000));
  CHECK(trace.to_chrome_json().at("traceEvents").size() == 3 + 2 * 3);
}

TEST_CASE("the ladder changes one thing a level") {
  EngineOptions options;
  options.config.model = "shape:tiny";
  const auto levels = ablation_cases(options, {.model_max_len = 2048, .workload_max_len = 192});
  REQUIRE(levels.size() == 5);
  CHECK(levels[0].config.scheduler == SchedulerKind::kStatic);
  CHECK(levels[0].config.max_model_len == 2048);
  CHECK(levels[1].config.max_model_len == 192);
  CHECK(levels[1].config.scheduler == SchedulerKind::kStatic);
  CHECK(levels[2].config.scheduler == SchedulerKind::kContinuous);
  CHECK(levels[2].config.kv_layout == KvLayout::kContiguous);
  CHECK(levels[3].config.kv_layout == KvLayout::kPaged);
  CHECK(!levels[3].config.cuda_graphs);
  CHECK(levels[3].config.steps_ahead == 0);
  CHECK(levels[4].config.cuda_graphs);
  CHECK(levels[4].config.steps_ahead == -1);
  for (const EngineCase& level : levels) {
    CHECK(level.config.enable_prefix_caching == (level.name == "L4"));
  }
}

TEST_CASE("lists of backends") {
  EngineOptions options;
  options.backend = "paged,naive";
  options.enable_prefix_caching = "true";
  auto cases = backend_cases(options);
  REQUIRE(cases.size() == 2);
  CHECK(cases[0].config.enable_prefix_caching);
  CHECK(!cases[1].config.enable_prefix_caching);
  fill_batches(cases, 3000);
  CHECK(cases[0].config.max_num_seqs == 1024);
  CHECK(cases[1].config.max_num_seqs == 3000);
  options.backend = "paged,paged";
  CHECK_THROWS(backend_cases(options));
  options.backend = "paged,fast";
  CHECK_THROWS(backend_cases(options));
}

}  // namespace llmrun
