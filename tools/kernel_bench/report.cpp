#include "tools/kernel_bench/report.h"

#include <algorithm>
#include <iterator>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

namespace llmrun {
namespace {

double memory_s(const Row& row, const BenchLimits& limits) {
  return row.bytes / limits.read_bytes_per_s;
}

double compute_s(const Row& row) {
  return row.flops > 0 ? row.flops / row.peak_flops_per_s : 0;
}

// The time that the binding limit allows over the time that was taken.
double share(const Row& row, const BenchLimits& limits) {
  return std::max(memory_s(row, limits), compute_s(row)) / row.timing.median_s;
}

const char* bound(const Row& row, const BenchLimits& limits) {
  return compute_s(row) > memory_s(row, limits) ? "compute" : "memory";
}

}  // namespace

std::string kernels_as_markdown(KernelBench& bench) {
  const BenchLimits& limits = bench.limits();
  std::string text;
  const auto print = [&]<typename... T>(fmt::format_string<T...> format, T&&... arguments) {
    fmt::format_to(std::back_inserter(text), format, std::forward<T>(arguments)...);
  };
  print("{}\n\n", bench.backend().description());
  print("| limit, measured | |\n|---|---|\n");
  print("| read bandwidth | {:.1f} GB/s |\n", limits.read_bytes_per_s / 1e9);
  if (limits.f32_flops_per_s > 0) {
    print("| float32 multiply-add | {:.3f} TFLOP/s |\n", limits.f32_flops_per_s / 1e12);
  }
  if (limits.bf16_flops_per_s > 0) {
    print("| bf16 multiply-add | {:.3f} TFLOP/s |\n", limits.bf16_flops_per_s / 1e12);
  }
  print("\n{}: median times, weights and KV caches cold\n\n", bench.model().name);
  print("| kernel | shape | tokens | us | best us | GB/s | TFLOP/s | bound | share |\n");
  print("|---|---|---|---|---|---|---|---|---|\n");
  for (const Row& row : bench.rows()) {
    print("| {} | {} | {} | {:.1f} | {:.1f} | {:.1f} | {:.3f} | {} | {:.0f} % |\n", row.kernel,
          row.shape, row.num_tokens, row.timing.median_s * 1e6, row.timing.best_s * 1e6,
          row.bytes / row.timing.median_s / 1e9, row.flops / row.timing.median_s / 1e12,
          bound(row, limits), share(row, limits) * 100);
  }
  return text;
}

std::string kernels_as_json(KernelBench& bench) {
  const BenchLimits& limits = bench.limits();
  nlohmann::ordered_json json;
  json["device"] = bench.backend().description();
  json["device_kind"] = bench.backend().name();
  json["model_shape"] = bench.model().name;
  json["read_bytes_per_s"] = limits.read_bytes_per_s;
  if (limits.f32_flops_per_s > 0) json["f32_flops_per_s"] = limits.f32_flops_per_s;
  if (limits.bf16_flops_per_s > 0) json["bf16_flops_per_s"] = limits.bf16_flops_per_s;
  json["kernels"] = nlohmann::ordered_json::array();
  for (const Row& row : bench.rows()) {
    json["kernels"].push_back({{"kernel", row.kernel},
                               {"shape", row.shape},
                               {"num_tokens", row.num_tokens},
                               {"median_s", row.timing.median_s},
                               {"best_s", row.timing.best_s},
                               {"bytes", row.bytes},
                               {"flops", row.flops},
                               {"bound", bound(row, limits)},
                               {"share_of_limit", share(row, limits)}});
  }
  return json.dump(2) + "\n";
}

}  // namespace llmrun
