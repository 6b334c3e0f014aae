// A benchmark's result, whatever tool wrote it, and the files it is read from.
#pragma once

#include <cstdint>
#include <limits>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <nlohmann/json.hpp>

namespace llmrun {

inline constexpr std::uint64_t kMaxBenchmarkFileBytes = std::uint64_t{256} << 20;
// Of requests, tokens or questions, in a file.
inline constexpr std::int64_t kMaxCount = std::numeric_limits<std::int64_t>::max();

// A figure, once for each repeat. Names are llmrun's, also where another tool has its own:
// "requests_per_s", "total_tokens_per_s", "output_tokens_per_s", "ttft_ms", ...
struct BenchmarkFigure {
  std::string name;
  std::string unit;
  bool higher_is_better = true;
  std::vector<double> samples;  // at least one, all positive
};

// How many questions of an evaluation were right, as a figure "accuracy" beside the others.
struct BenchmarkAccuracy {
  double share = 0;  // 0 to 1, the mean over the questions
  std::int64_t num_questions = 0;
  std::vector<double> question_scores;  // in the order of the file; empty: not told
};

// What was asked of the engine. Where two sides have a hash it decides; else the numbers do.
struct BenchmarkWorkload {
  std::string sha256;              // of the requests; empty: the tool has none
  std::string kind;                // "throughput", "serve", "latency", "pp512", ...
  std::int64_t num_requests = -1;  // -1: not told
  std::int64_t num_prompt_tokens = -1;
  std::int64_t num_output_tokens = -1;
  // Request rate and concurrency of an online run; prompt and judging of an evaluation.
  std::string load;

  std::string to_text() const;
};

struct BenchmarkRun {
  std::string file;
  std::string tool;  // "llmrun", "vLLM", "SGLang", "llama-bench"
  std::string name;  // of the case: "paged"; empty where a file has one
  std::string model;
  std::string dtype;
  std::string device;
  BenchmarkWorkload workload;
  std::vector<BenchmarkFigure> figures;
  std::vector<BenchmarkAccuracy> accuracies;  // of an evaluation, one a repeat
  nlohmann::json sampling;           // of an evaluation, an object of what its texts depend on
  std::vector<std::string> invalid;  // checks that forbid the use of the figures

  const BenchmarkFigure* find(std::string_view name) const;
};

// The runs of a file: a JSON object, an array, or JSON lines, by llmrun (throughput, serve-bench,
// eval), vLLM (bench throughput, serve, latency), SGLang (bench_serving, bench_offline_throughput)
// or llama-bench. Runs of the same case, workload, model and device are repeats of one. Throws
// Error(kInput) that names file, line and what is wrong.
std::vector<BenchmarkRun> read_benchmark_file(const std::string& path);

// The runs of one JSON value; `place` names it in errors.
std::vector<BenchmarkRun> benchmark_runs(const nlohmann::json& value, const std::string& place);

// Of benchmark_runs: what llmrun wrote, and what others did.
std::vector<BenchmarkRun> llmrun_runs(const nlohmann::json& value, const std::string& place);
std::vector<BenchmarkRun> evaluation_runs(const nlohmann::json& value, const std::string& place);
BenchmarkRun other_tool_run(const nlohmann::json& value, const std::string& place);

}  // namespace llmrun
