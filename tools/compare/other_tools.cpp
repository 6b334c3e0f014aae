// The JSON of other tools' benchmarks, told apart by the keys that only they write.
#include <array>
#include <cmath>
#include <limits>

#include <fmt/format.h>

#include "engine/core/counted.h"
#include "engine/core/error.h"
#include "engine/core/json.h"
#include "tools/compare/benchmark_run.h"

namespace llmrun {
namespace {

// A key of another tool, and what the figure is called here.
struct Name {
  const char* key;
  const char* name;
  const char* unit;
  bool higher_is_better;
};
constexpr auto kNames = std::to_array<Name>({
    // vllm bench throughput
    {"requests_per_second", "requests_per_s", "requests/s", true},
    {"tokens_per_second", "total_tokens_per_s", "tokens/s", true},
    // vllm bench serve, sglang.bench_serving, sglang.bench_offline_throughput
    {"request_throughput", "requests_per_s", "requests/s", true},
    {"output_throughput", "output_tokens_per_s", "tokens/s", true},
    {"total_token_throughput", "total_tokens_per_s", "tokens/s", true},
    {"total_throughput", "total_tokens_per_s", "tokens/s", true},
    {"request_goodput", "goodput_requests_per_s", "requests/s", true},
    {"mean_ttft_ms", "ttft_ms", "ms", false},
    {"mean_tpot_ms", "tpot_ms", "ms", false},
    {"mean_itl_ms", "itl_ms", "ms", false},
    {"mean_e2el_ms", "e2el_ms", "ms", false},
    {"mean_e2e_latency_ms", "e2el_ms", "ms", false},
});

std::int64_t count_of(const JsonObject& json, std::initializer_list<const char*> keys) {
  for (const char* key : keys) {
    if (const auto count = json.find_int(key, 0, kMaxCount)) return *count;
  }
  return -1;
}

std::vector<double> positive_samples(const JsonObject& json, const char* key) {
  std::vector<double> samples;
  for (const nlohmann::json& sample : json.get_array(key)) {
    if (!sample.is_number() || !(sample.get<double>() > 0)) {
      json.fail(key, "must be a list of positive numbers");
    }
    samples.push_back(sample.get<double>());
  }
  if (samples.empty()) json.fail(key, "is empty");
  return samples;
}

// Numbers of requests and tokens, and the figures of kNames that are there.
BenchmarkRun read_run(const JsonObject& json, const char* tool, const char* kind) {
  BenchmarkRun run;
  run.tool = tool;
  run.workload.kind = kind;
  run.model = json.find_string("model_id").value_or("");
  run.workload.num_requests =
      count_of(json, {"num_requests", "completed", "successful_requests", "num_prompts"});
  run.workload.num_prompt_tokens = count_of(json, {"total_input_tokens"});
  run.workload.num_output_tokens = count_of(json, {"total_output_tokens"});
  for (const Name& name : kNames) {
    const auto value = json.find_float(name.key, -1e300, 1e300);
    if (!value || *value <= 0 || run.find(name.name) != nullptr) continue;
    run.figures.push_back({name.name, name.unit, name.higher_is_better, {*value}});
  }
  if (const auto failed = json.find_int("failed", 0, kMaxCount); failed && *failed > 0) {
    run.invalid.push_back(counted(*failed, "request") + " failed");
  }
  return run;
}

std::string rate_text(const nlohmann::json* rate) {
  if (rate == nullptr) return "";
  if (rate->is_number() && std::isfinite(rate->get<double>())) {
    return fmt::format("{} requests/s asked for", rate->get<double>());
  }
  return "all at once";
}

BenchmarkRun serving_run(const JsonObject& json, const char* tool) {
  BenchmarkRun run = read_run(json, tool, "serve");
  run.workload.load = rate_text(json.find("request_rate"));
  if (const auto concurrency = json.find_int("max_concurrency", 0, kMaxCount)) {
    run.workload.load +=
        fmt::format("{}at most {} at once", run.workload.load.empty() ? "" : ", ", *concurrency);
  }
  return run;
}

BenchmarkRun latency_run(const JsonObject& json) {
  BenchmarkRun run;
  run.tool = "vLLM";
  run.workload.kind = "latency";
  run.figures.push_back({"batch_latency_s", "s", false,
                         json.has("latencies")
                             ? positive_samples(json, "latencies")
                             : std::vector<double>{json.get_float("avg_latency", 1e-12, 1e300)}});
  return run;
}

BenchmarkRun llama_bench_run(const JsonObject& json) {
  BenchmarkRun run;
  run.tool = "llama-bench";
  run.model = json.find_string("model_filename").value_or("");
  run.dtype = json.find_string("model_type").value_or("");
  run.device = json.find_string("gpu_info").value_or("");
  if (run.device.empty()) run.device = json.find_string("cpu_info").value_or("");
  const std::int64_t prompt = json.get_int("n_prompt", 0, kMaxCount);
  const std::int64_t output = json.get_int("n_gen", 0, kMaxCount);
  const std::int64_t depth = json.find_int("n_depth", 0, kMaxCount).value_or(0);
  if (prompt > 0) run.name = fmt::format("pp{}", prompt);
  if (output > 0) run.name += fmt::format("{}tg{}", prompt > 0 ? "+" : "", output);
  if (depth > 0) run.name += fmt::format(" @ d{}", depth);
  run.workload.kind = run.name;
  run.figures.push_back({"tokens_per_s", "tokens/s", true,
                         json.has("samples_ts")
                             ? positive_samples(json, "samples_ts")
                             : std::vector<double>{json.get_float("avg_ts", 1e-12, 1e300)}});
  return run;
}

}  // namespace

BenchmarkRun other_tool_run(const nlohmann::json& value, const std::string& place) {
  const JsonObject json(value, place, ErrorKind::kInput);
  if (json.has("avg_ts") && json.has("n_prompt")) return llama_bench_run(json);
  if (json.has("avg_latency")) return latency_run(json);
  BenchmarkRun run;
  if (json.has("requests_per_second")) {
    run = read_run(json, "vLLM", "throughput");
  } else if (json.has("total_latency") && json.has("successful_requests")) {
    run = read_run(json, "SGLang", "throughput");
  } else if (json.has("request_throughput")) {
    const bool is_sglang = json.has("mean_e2e_latency_ms") || json.has("input_throughput");
    run = serving_run(json, is_sglang ? "SGLang" : "vLLM");
  }
  if (run.figures.empty()) {
    throw Error(
        ErrorKind::kInput,
        place +
            ": is no benchmark result that llmrun knows: llmrun's, vLLM's (bench throughput, "
            "serve, latency), SGLang's (bench_serving, bench_offline_throughput) or "
            "llama-bench's JSON");
  }
  return run;
}

}  // namespace llmrun
