// The report as JSON, with the keys of vLLM's result files.
#include <algorithm>
#include <array>
#include <cmath>

#include <fmt/format.h>

#include "engine/core/json.h"
#include "engine/core/version.h"
#include "tools/serve_bench/serving_report.h"

namespace llmrun {
namespace {

using Json = nlohmann::ordered_json;

constexpr std::array kDrawn = {"ttft", "tpot", "itl", "e2el"};

Json rate_json(double rate) {
  return std::isinf(rate) ? Json("inf") : Json(rate);
}
Json bound_json(double bound) {
  return std::isinf(bound) ? Json(nullptr) : Json(bound);
}

std::string percentile_key(double percentile) {
  return fmt::format("p{:g}", percentile);
}

void add_latency(const LatencyFigure& figure, Json& json) {
  json["mean_" + figure.name + "_ms"] = figure.mean_ms;
  json["median_" + figure.name + "_ms"] = figure.median_ms;
  json["std_" + figure.name + "_ms"] = figure.std_ms;
  for (const PercentileEstimate& one : figure.percentiles) {
    json[percentile_key(one.percentile) + "_" + figure.name + "_ms"] = one.value;
  }
}

Json intervals_json(const ServingMetrics& metrics) {
  Json json = Json::object();
  for (const LatencyFigure& figure : metrics.latencies) {
    for (const PercentileEstimate& one : figure.percentiles) {
      json[figure.name + "_ms"][percentile_key(one.percentile)] = {bound_json(one.low),
                                                                   bound_json(one.high)};
    }
  }
  return json;
}

// Of the latencies that are drawn.
Json cdfs_json(const ServingMetrics& metrics) {
  Json json = Json::object();
  for (const LatencyFigure& figure : metrics.latencies) {
    const auto is_drawn = [&](const char* name) { return figure.name == name; };
    if (figure.count == 0 || std::none_of(kDrawn.begin(), kDrawn.end(), is_drawn)) continue;
    json[figure.name + "_ms"] = {{"values", figure.cdf.values}, {"shares", figure.cdf.shares}};
  }
  return json;
}

Json definitions_json(const ServingMetrics& metrics) {
  Json json = Json::object();
  for (const LatencyFigure& figure : metrics.latencies) {
    json[figure.name + "_ms"] = figure.definition;
  }
  json["percentiles"] = "linear interpolation between order statistics, as numpy.percentile";
  json["percentile_ci95"] = "order statistics, binomial; null: too few samples to tell";
  json["duration"] = "from the start of the schedule to the end of the last request";
  json["max_output_tokens_per_s"] = "most tokens in one of the seconds since the start";
  json["steady"] =
      "from the first to the last moment with at least 90 % of the mean concurrency under way";
  return json;
}

Json checks_json(const std::vector<Check>& checks) {
  Json json = Json::array();
  for (const Check& check : checks) {
    json.push_back(
        {{"name", check.name}, {"status", to_string(check.status)}, {"message", check.message}});
  }
  return json;
}

Json overhead_json(const Overhead& overhead) {
  if (overhead.num_requests == 0) return nullptr;
  return {{"cpu_us_per_request", overhead.cpu_us_per_request},
          {"cpu_us_per_token", overhead.cpu_us_per_token},
          {"median_latency_ms", overhead.latency_ms_p50},
          {"p99_latency_ms", overhead.latency_ms_p99},
          {"max_requests_per_s", overhead.max_requests_per_s},
          {"paced_rate", overhead.paced_rate},
          {"achieved_rate", overhead.achieved_rate},
          {"median_late_ms", overhead.late_ms_p50},
          {"p99_late_ms", overhead.late_ms_p99}};
}

// What all runs of a report share.
void add_shared(const ServingReport& report, Json& json) {
  json["schema_version"] = kServingSchemaVersion;
  json["tool"] = "llmrun serve-bench";
  json["build"] = {
      {"version", kVersion}, {"commit", kGitCommit}, {"compiler", kCompiler}, {"type", kBuildType}};
  json["command_line"] = report.command_line;
  json["date_utc"] = report.date;
  json["processor"] = report.processor;
  json["device"] = report.device;
  json["engine"] = report.engine;
  json["load_s"] = report.load_s;
  json["warm_up"] = {{"requests", report.num_warm_up_requests}, {"seconds", report.warm_up_s}};
  json["sampling"] = report.sampling;
  json["dataset"] = {{"description", report.workload_description},
                     {"requests_sha256", report.workload_sha256},
                     {"seed", report.seed}};
  json["overhead"] = overhead_json(report.overhead);
  if (report.search.empty()) return;
  Json tried = Json::array();
  for (const auto& [rate, held] : report.search) {
    tried.push_back({{"request_rate", rate}, {"held", held}});
  }
  json["search"] = {{"highest_rate", report.highest_rate}, {"tried", tried}};
}

void add_ours(const ServingReport& report, const ServingPoint& point, Json& json) {
  const ServingMetrics& metrics = point.metrics;
  json["mode"] = point.mode;
  json["is_closed_loop"] = report.is_closed_loop;
  json["scheduled_rate"] = metrics.scheduled_rate;
  json["achieved_rate"] = metrics.sent_rate;
  json["mean_concurrency"] = metrics.mean_concurrency;
  json["goodput_share"] = report.has_goodput ? Json(metrics.goodput_share) : Json(nullptr);
  json["steady"] = {{"start_s", metrics.steady.start_s},
                    {"end_s", metrics.steady.end_s},
                    {"share_of_run", metrics.steady.share_of_run},
                    {"mean_concurrency", metrics.steady.mean_concurrency},
                    {"request_throughput", metrics.steady.requests_per_s},
                    {"output_throughput", metrics.steady.output_tokens_per_s}};
  json["average_latency_s"] = metrics.average_latency_s;
  json["average_latency_per_token_s"] = metrics.average_latency_per_token_s;
  json["average_latency_per_output_token_s"] = metrics.average_latency_per_output_token_s;
  json["tokens_per_piece"] = metrics.tokens_per_piece;
  json["retries"] = metrics.num_retries;
  json["not_sent"] = metrics.num_not_sent;
  json["short_outputs"] = metrics.num_short_outputs;
  Json failures = Json::array();
  for (const FailureCount& failure : metrics.failures) {
    failures.push_back({{"reason", failure.reason},
                        {"count", failure.count},
                        {"first_message", failure.first_message}});
  }
  json["failures"] = failures;
  json["percentile_ci95"] = intervals_json(metrics);
  json["latency_cdfs"] = cdfs_json(metrics);
  json["timeline"] = timeline_json(metrics.timeline, metrics.has_kv_usage);
  json["decode_batches"] =
      metrics.decode_batches.empty() ? Json(nullptr) : histogram_json(metrics.decode_batches);
  json["definitions"] = definitions_json(metrics);
  json["checks"] = checks_json(point.checks);
}

}  // namespace

nlohmann::ordered_json serving_point_json(const ServingReport& report, const ServingPoint& point) {
  const ServingMetrics& metrics = point.metrics;
  Json json;
  json["date"] = report.date_stamp;
  json["endpoint_type"] = report.backend;
  json["backend"] = report.backend;
  json["label"] = report.label.empty() ? Json(nullptr) : Json(report.label);
  json["model_id"] = report.model;
  json["tokenizer_id"] = report.tokenizer;
  json["num_prompts"] = metrics.num_completed + metrics.num_failed + metrics.num_not_sent;
  for (const auto& [key, value] : report.metadata) json[key] = value;
  json["request_rate"] = rate_json(point.request_rate);
  json["burstiness"] = rate_json(point.burstiness);
  json["max_concurrency"] =
      point.max_concurrency == 0 ? Json(nullptr) : Json(point.max_concurrency);
  if (!point.ramp_up_strategy.empty()) {
    json["ramp_up_strategy"] = point.ramp_up_strategy;
    json["ramp_up_start_rps"] = point.ramp_up_start_rps;
    json["ramp_up_end_rps"] = point.ramp_up_end_rps;
  }
  json["duration"] = metrics.duration_s;
  json["completed"] = metrics.num_completed;
  json["failed"] = metrics.num_failed;
  json["total_input_tokens"] = metrics.num_input_tokens;
  json["total_output_tokens"] = metrics.num_output_tokens;
  json["request_throughput"] = metrics.requests_per_s;
  json["request_goodput"] = report.has_goodput ? Json(metrics.goodput_per_s) : Json(nullptr);
  json["output_throughput"] = metrics.output_tokens_per_s;
  json["total_token_throughput"] = metrics.total_tokens_per_s;
  json["max_output_tokens_per_s"] = metrics.peak_output_tokens_per_s;
  json["max_concurrent_requests"] = metrics.peak_concurrency;
  json["rtfx"] = 0.0;
  for (const LatencyFigure& figure : metrics.latencies) add_latency(figure, json);
  add_ours(report, point, json);
  return json;
}

nlohmann::ordered_json render_serving_json(const ServingReport& report) {
  Json json;
  if (report.points.size() == 1) {
    json = serving_point_json(report, report.points.front());
  } else {
    json["results"] = Json::array();
    for (const ServingPoint& point : report.points) {
      json["results"].push_back(serving_point_json(report, point));
    }
  }
  json["endpoint"] = report.endpoint;
  add_shared(report, json);
  return json;
}

std::string render_serving_jsonl(const ServingReport& report) {
  std::string text;
  for (const ServingPoint& point : report.points) {
    Json json = serving_point_json(report, point);
    json["endpoint"] = report.endpoint;
    add_shared(report, json);
    text += dump_json(json) + "\n";
  }
  return text;
}

ReportTable serving_records(const ServingReport& report) {
  ReportTable table{.title = "llmrun_serve_bench",
                    .header = {"schema_version",
                               "date",
                               "git_commit",
                               "mode",
                               "model",
                               "device",
                               "processor",
                               "endpoint",
                               "dataset",
                               "requests_sha256",
                               "valid",
                               "request_rate",
                               "max_concurrency",
                               "duration_s",
                               "completed",
                               "failed",
                               "input_tokens",
                               "output_tokens",
                               "requests_per_s",
                               "goodput_per_s",
                               "output_tokens_per_s",
                               "total_tokens_per_s",
                               "achieved_rate",
                               "mean_concurrency"},
                    .rows = {}};
  const auto number = [](double value) { return fmt::format("{}", value); };
  for (const ServingPoint& point : report.points) {
    const ServingMetrics& metrics = point.metrics;
    std::vector<std::string> row = {
        std::to_string(kServingSchemaVersion),
        report.date,
        kGitCommit,
        point.mode,
        report.model,
        report.device,
        report.processor,
        report.endpoint,
        report.workload_description,
        report.workload_sha256,
        report.is_valid() ? "true" : "false",
        std::isnan(point.request_rate) ? "trace" : number(point.request_rate),
        point.max_concurrency == 0 ? "" : std::to_string(point.max_concurrency),
        number(metrics.duration_s),
        std::to_string(metrics.num_completed),
        std::to_string(metrics.num_failed),
        std::to_string(metrics.num_input_tokens),
        std::to_string(metrics.num_output_tokens),
        number(metrics.requests_per_s),
        report.has_goodput ? number(metrics.goodput_per_s) : "",
        number(metrics.output_tokens_per_s),
        number(metrics.total_tokens_per_s),
        number(metrics.sent_rate),
        number(metrics.mean_concurrency)};
    const bool is_first = table.rows.empty();
    for (const LatencyFigure& figure : metrics.latencies) {
      const auto add = [&](const std::string& name, double value) {
        if (is_first) table.header.push_back(name + "_" + figure.name + "_ms");
        row.push_back(figure.count == 0 ? "" : number(value));
      };
      add("mean", figure.mean_ms);
      add("median", figure.median_ms);
      for (const PercentileEstimate& one : figure.percentiles) {
        add(percentile_key(one.percentile), one.value);
      }
    }
    table.rows.push_back(std::move(row));
  }
  return table;
}

void add_details(const LoadMeasurement& measurement, const std::vector<BenchRequest>& requests,
                 nlohmann::ordered_json& json) {
  for (const char* key :
       {"input_lens", "output_lens", "ttfts", "itls", "start_times", "scheduled_times", "latencies",
        "queue_times", "generated_texts", "errors"}) {
    json[key] = Json::array();
  }
  for (std::size_t i = 0; i < requests.size(); ++i) {
    const RequestRecord& record = measurement.records[i];
    const std::vector<double>& times = record.piece_times_s;
    json["input_lens"].push_back(requests[i].prompt_token_ids->size());
    json["output_lens"].push_back(record.outcome.num_output_tokens >= 0
                                      ? record.outcome.num_output_tokens
                                      : std::ssize(times));
    json["ttfts"].push_back(times.empty() ? 0.0 : times.front() - record.sent_s);
    Json gaps = Json::array();
    for (std::size_t k = 1; k < times.size(); ++k) gaps.push_back(times[k] - times[k - 1]);
    json["itls"].push_back(std::move(gaps));
    json["start_times"].push_back(record.sent_s);
    json["scheduled_times"].push_back(record.arrival_s);
    json["latencies"].push_back((times.empty() ? record.ended_s : times.back()) - record.sent_s);
    json["queue_times"].push_back(record.sent_s - record.arrival_s);
    json["generated_texts"].push_back(record.outcome.text);
    json["errors"].push_back(record.outcome.failure.empty()
                                 ? ""
                                 : record.outcome.failure + ": " + record.outcome.message);
  }
}

std::string result_file_name(const ServingReport& report, const ServingPoint& point) {
  std::string model = report.model;
  while (model.ends_with('/')) model.pop_back();
  model = model.substr(model.rfind('/') + 1);
  for (char& c : model) {
    if (c == ':') c = '-';
  }
  const std::string rate =
      std::isinf(point.request_rate) ? "inf" : fmt::format("{:g}", point.request_rate);
  const std::string concurrency =
      point.max_concurrency == 0 ? "" : fmt::format("-concurrency{}", point.max_concurrency);
  const std::string mode = point.mode == "url" ? "" : "-" + point.mode;
  return fmt::format("{}{}-{}qps{}-{}-{}.json",
                     report.label.empty() ? report.backend : report.label, mode, rate, concurrency,
                     model, report.date_stamp);
}

}  // namespace llmrun
