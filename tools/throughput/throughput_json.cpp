// The forms of a ThroughputReport that programs read.
#include <fmt/format.h>

#include "engine/core/json.h"
#include "engine/core/version.h"
#include "tools/throughput/throughput_render.h"

namespace llmrun {
namespace {

using Json = nlohmann::ordered_json;

Json to_json(const Distribution& d) {
  return {{"count", d.count}, {"mean", d.mean}, {"std", d.std}, {"min", d.min}, {"max", d.max},
          {"p50", d.p50},     {"p90", d.p90},   {"p95", d.p95}, {"p99", d.p99}};
}

Json to_json(const Metric& metric) {
  Json json = {{"group", metric.group},
               {"name", metric.name},
               {"unit", metric.unit},
               {"definition", metric.definition}};
  if (!metric.is_measured()) {
    json["mean"] = nullptr;
    json["samples"] = Json::array();
    return json;
  }
  const SampleStatistics& s = metric.statistics;
  json["mean"] = s.mean;
  json["std"] = s.std;
  json["ci95_half_width"] = s.count < 2 ? Json(nullptr) : Json(s.ci95_half_width);
  json["cv"] = s.coefficient_of_variation;
  json["samples"] = metric.samples;
  return json;
}

Json to_json(const LatencyMetric& latency) {
  Json json = {{"name", latency.name}, {"unit", "ms"}, {"definition", latency.definition}};
  json.update(to_json(latency.distribution));
  json["cdf"] = {{"values", latency.cdf.values}, {"shares", latency.cdf.shares}};
  return json;
}

Json to_json(const MemoryPlan& plan) {
  return {{"total_bytes", plan.inputs.total_bytes},
          {"memory_utilization", plan.inputs.memory_utilization},
          {"weight_bytes", plan.inputs.weight_bytes},
          {"activation_bytes", plan.inputs.activation_bytes},
          {"kv_pool_bytes", plan.kv_pool_bytes},
          {"kv_pool_tokens", plan.kv_pool_tokens},
          {"kv_bytes_per_token", plan.inputs.bytes_per_token},
          {"kv_block_tokens", plan.inputs.block_size}};
}

Json to_json(const CaseReport& one) {
  Json json = {{"name", one.name},
               {"description", one.description},
               {"config", to_json(one.engine.config)},
               {"notes", one.engine.notes},
               {"memory", to_json(one.engine.memory_plan)},
               {"start_up",
                {{"engine_ready_s", one.load_s},
                 {"device_s", one.engine.start_up.device_s},
                 {"weights_s", one.engine.start_up.weights_s},
                 {"memory_s", one.engine.start_up.memory_s},
                 {"warm_up_s", one.warm_up_s},
                 {"num_warm_up_requests", one.num_warm_up_requests}}},
               {"num_requests", one.num_requests},
               {"num_prompt_tokens", one.num_prompt_tokens},
               {"num_output_tokens", one.num_output_tokens},
               {"output_digest", one.output_digest},
               {"metrics", Json::array()},
               {"latencies", Json::array()}};
  for (const Metric& metric : one.metrics) json["metrics"].push_back(to_json(metric));
  for (const LatencyMetric& latency : one.latencies) json["latencies"].push_back(to_json(latency));
  json["timeline"] = timeline_json(one.timeline, true);
  json["decode_batches"] = histogram_json(one.decode_batches);
  return json;
}

Json to_json(const Comparison& comparison) {
  Json json = {{"case", comparison.case_name},
               {"baseline", comparison.baseline},
               {"requests_per_s_ratio", comparison.requests_per_s_ratio},
               {"same_requests_share", comparison.same_requests_share},
               {"same_tokens_share", comparison.same_tokens_share},
               {"first_difference", nullptr}};
  if (comparison.first_difference) {
    json["first_difference"] = {{"request", comparison.first_difference->first},
                                {"token", comparison.first_difference->second}};
  }
  return json;
}

Json dataset_json(const ThroughputReport& report) {
  const Workload& workload = report.workload;
  Json left_out = Json::object();
  for (const auto& [reason, count] : workload.num_left_out) left_out[reason] = count;
  Json indices = Json::array();
  for (const WorkloadRequest& request : workload.requests) indices.push_back(request.source_index);
  return {{"name", workload.dataset},
          {"description", workload.description},
          {"path", workload.path},
          {"file_sha256", workload.file_sha256},
          {"requests_sha256", report.workload_sha256},
          {"seed", workload.seed},
          {"num_requests", workload.requests.size()},
          {"prompt_tokens", to_json(report.lengths.prompt_tokens)},
          {"output_tokens", to_json(report.lengths.output_tokens)},
          {"left_out", left_out},
          {"source_indices", indices}};
}

// What all cases share.
Json header_json(const ThroughputReport& report) {
  return {{"schema_version", kThroughputSchemaVersion},
          {"command", "throughput"},
          {"command_line", report.command_line},
          {"date", report.date},
          {"valid", report.is_valid()},
          {"build",
           {{"version", kVersion},
            {"git_commit", kGitCommit},
            {"compiler", kCompiler},
            {"build_type", kBuildType}}},
          {"device",
           {{"kind", report.device_kind},
            {"description", report.device},
            {"processor", report.processor},
            {"limits",
             {{"read_bytes_per_s", report.limits.read_bytes_per_second},
              {"multiply_flops_per_s", report.limits.multiply_flops_per_second},
              {"multiply_dtype", report.limits.multiply_dtype},
              {"seconds_to_measure", report.measure_limits_s}}}}},
          {"model",
           {{"name", report.model},
            {"num_parameters", report.num_parameters},
            {"dtype", report.cases.empty() ? "" : to_string(report.cases.front().engine.dtype)},
            {"kv_cache_dtype",
             report.cases.empty() ? "" : to_string(report.cases.front().engine.kv_cache_dtype)},
            {"fingerprint",
             report.cases.empty() ? "" : report.cases.front().engine.model_fingerprint}}},
          {"sampling", report.sampling},
          {"repeats", report.num_repeats},
          {"percentiles", "linear interpolation (type 7), as numpy.percentile"}};
}

Json to_json(const Check& check) {
  return {{"case", check.case_name},
          {"name", check.name},
          {"status", to_string(check.status)},
          {"message", check.message}};
}

// The keys that `vllm bench throughput --output-json` writes.
Json vllm_json(const CaseReport& one) {
  return {{"elapsed_time", one.metric("elapsed_s").mean()},
          {"num_requests", one.num_requests},
          {"total_num_tokens", one.num_prompt_tokens + one.num_output_tokens},
          {"requests_per_second", one.metric("requests_per_s").mean()},
          {"tokens_per_second", one.metric("total_tokens_per_s").mean()}};
}

}  // namespace

nlohmann::ordered_json render_json(const ThroughputReport& report) {
  Json json = header_json(report);
  if (!report.cases.empty()) json.update(vllm_json(report.cases.front()));
  json["dataset"] = dataset_json(report);
  json["cases"] = Json::array();
  for (const CaseReport& one : report.cases) json["cases"].push_back(to_json(one));
  json["comparisons"] = Json::array();
  for (const Comparison& comparison : report.comparisons) {
    json["comparisons"].push_back(to_json(comparison));
  }
  json["checks"] = Json::array();
  for (const Check& check : report.checks) json["checks"].push_back(to_json(check));
  return json;
}

std::string render_jsonl(const ThroughputReport& report) {
  std::string text;
  for (const CaseReport& one : report.cases) {
    Json json = header_json(report);
    json.update(vllm_json(one));
    json["dataset"] = dataset_json(report);
    json["dataset"].erase("source_indices");
    json["case"] = to_json(one);
    json["checks"] = Json::array();
    for (const Check& check : report.checks) {
      if (check.case_name.empty() || check.case_name == one.name) {
        json["checks"].push_back(to_json(check));
      }
    }
    text += dump_json(json) + "\n";
  }
  return text;
}

ReportTable throughput_records(const ThroughputReport& report) {
  ReportTable table{
      .title = "llmrun_throughput",
      .header = {"schema_version", "date", "git_commit", "case", "model", "dtype", "device",
                 "processor", "dataset", "requests_sha256", "repeats", "valid", "num_requests",
                 "num_prompt_tokens", "num_output_tokens", "output_digest"},
      .rows = {}};
  if (report.cases.empty()) return table;
  std::vector<std::string>& header = table.header;
  for (const Metric& metric : report.cases.front().metrics) header.push_back(metric.name);
  header.emplace_back("requests_per_s_std");
  for (const LatencyMetric& latency : report.cases.front().latencies) {
    for (const char* figure : {"mean", "p50", "p90", "p95", "p99"}) {
      header.push_back(fmt::format("{}_{}", latency.name, figure));
    }
  }
  for (const CaseReport& one : report.cases) {
    std::vector<std::string> row = {fmt::format("{}", kThroughputSchemaVersion),
                                    report.date,
                                    kGitCommit,
                                    one.name,
                                    report.model,
                                    to_string(one.engine.dtype),
                                    report.device,
                                    report.processor,
                                    report.workload.description,
                                    report.workload_sha256,
                                    fmt::format("{}", report.num_repeats),
                                    report.is_valid() ? "true" : "false",
                                    fmt::format("{}", one.num_requests),
                                    fmt::format("{}", one.num_prompt_tokens),
                                    fmt::format("{}", one.num_output_tokens),
                                    one.output_digest};
    for (const Metric& metric : one.metrics) {
      row.push_back(metric.is_measured() ? fmt::format("{}", metric.mean()) : "");
    }
    row.push_back(fmt::format("{}", one.metric("requests_per_s").statistics.std));
    for (const LatencyMetric& latency : one.latencies) {
      const Distribution& d = latency.distribution;
      for (const double figure : {d.mean, d.p50, d.p90, d.p95, d.p99}) {
        row.push_back(fmt::format("{}", figure));
      }
    }
    table.rows.push_back(std::move(row));
  }
  return table;
}

}  // namespace llmrun
