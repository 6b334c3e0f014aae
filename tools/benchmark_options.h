// The flags that the benchmarks of an engine share, beside those of the engine itself.
#pragma once

#include <cstdint>

#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include "engine/sequence/sampling_params.h"
#include "tools/engine_options.h"

namespace llmrun {

// A benchmark's engine: its own seed, and no prefix cache unless asked, which would answer repeats
// from memory.
EngineOptions benchmark_engine_defaults();

// add_engine_options() with the meaning that --seed and --enable-prefix-caching have there.
void add_benchmark_engine_options(CLI::App& command, EngineOptions& options);

struct BenchmarkSampling {
  double temperature = 1.0;
  double top_p = 1.0;
  std::int32_t top_k = 0;
  bool ignore_eos = true;
};

// --temperature, --top-p, --top-k.
void add_benchmark_sampling_options(CLI::App& command, BenchmarkSampling& sampling);
SamplingParams to_params(const BenchmarkSampling& sampling);
nlohmann::ordered_json to_json(const BenchmarkSampling& sampling);

}  // namespace llmrun
