#include "tools/benchmark_options.h"

#include "tools/flag_checks.h"

namespace llmrun {
namespace {

constexpr std::uint64_t kDefaultSeed = 2024;

}  // namespace

EngineOptions benchmark_engine_defaults() {
  EngineOptions options;
  options.config.seed = kDefaultSeed;
  options.enable_prefix_caching = "false";
  return options;
}

void add_benchmark_engine_options(CLI::App& command, EngineOptions& options) {
  add_engine_options(command, options);
  command.get_option("--seed")->description(
      "Seed of the workload, of its arrivals where they are drawn, of sampling and of random "
      "weights");
  command.get_option("--enable-prefix-caching")
      ->description("Share the KV blocks of equal prompt prefixes (default: off)");
}

void add_benchmark_sampling_options(CLI::App& command, BenchmarkSampling& sampling) {
  const std::string group = "Sampling";
  command.add_option("--temperature", sampling.temperature, "0 is greedy")
      ->check(number_from(0.0, 100.0))
      ->group(group)
      ->capture_default_str();
  command.add_option("--top-p", sampling.top_p, "As in generate")
      ->check(number_from(0.0, 1.0))
      ->group(group)
      ->capture_default_str();
  command.add_option("--top-k", sampling.top_k, "As in generate (0: all)")
      ->check(CLI::Range(0, 1 << 24))
      ->group(group)
      ->capture_default_str();
}

SamplingParams to_params(const BenchmarkSampling& sampling) {
  SamplingParams params;
  params.temperature = sampling.temperature;
  params.top_p = sampling.top_p;
  params.top_k = sampling.top_k;
  params.ignore_eos = sampling.ignore_eos;
  return params;
}

nlohmann::ordered_json to_json(const BenchmarkSampling& sampling) {
  return {{"temperature", sampling.temperature},
          {"top_p", sampling.top_p},
          {"top_k", sampling.top_k},
          {"ignore_eos", sampling.ignore_eos}};
}

}  // namespace llmrun
