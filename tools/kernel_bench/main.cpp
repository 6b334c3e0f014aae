// llmrun-kernel-bench: times a device's operations one by one, against the limits of the device
// that it measures first in the same run.
//
// Each operation rotates over enough copies of its weights or of the KV cache to exceed the last
// cache, as a step of a real model does; activations are as near as an operation before left them.
// A row's share is the time the binding limit allows (bytes at the read bandwidth, or operations at
// the arithmetic peak) over the median time measured.
#include <exception>
#include <optional>

#include <fmt/format.h>

#include "engine/core/error.h"
#include "tools/kernel_bench/bench.h"
#include "tools/kernel_bench/options.h"
#include "tools/kernel_bench/report.h"
#include "tools/kernel_bench/rows.h"

namespace llmrun {
namespace {

int run(int argc, char** argv) {
  KernelBenchOptions options;
  if (const std::optional<int> code = parse_options(argc, argv, options)) return *code;
  KernelBench bench(options);
  bench_linears(bench);
  bench_elementwise(bench);
  bench_attention(bench);
  fmt::print("{}", options.output == "json" ? kernels_as_json(bench) : kernels_as_markdown(bench));
  return 0;
}

}  // namespace
}  // namespace llmrun

int main(int argc, char** argv) {
  try {
    return llmrun::run(argc, argv);
  } catch (const llmrun::Error& error) {
    fmt::print(stderr, "llmrun-kernel-bench: {}\n", error.what());
    return llmrun::exit_code(error.kind());
  } catch (const std::exception& error) {
    fmt::print(stderr, "llmrun-kernel-bench: {}\n", error.what());
    return llmrun::exit_code(llmrun::ErrorKind::kInternal);
  }
}
