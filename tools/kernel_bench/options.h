// What the command line of llmrun-kernel-bench says.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace llmrun {

struct KernelBenchOptions {
  std::string device = "auto";  // auto, cpu, cuda
  std::string model_shape;      // empty: the device's
  std::string filter;           // only rows whose kernel and shape contain it
  std::string isa = "best";
  std::string dtype = "bf16";
  std::string output = "md";
  std::vector<std::int64_t> num_tokens;  // empty: the device's
  std::int32_t num_threads = 0;
  double seconds = 0.2;  // spent on each row
};

// The exit code, when there is nothing to run: help was asked for, or the line is wrong.
std::optional<int> parse_options(int argc, char** argv, KernelBenchOptions& options);

}  // namespace llmrun
