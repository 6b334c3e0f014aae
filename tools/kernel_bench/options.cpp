#include "tools/kernel_bench/options.h"

#include <CLI/CLI.hpp>

namespace llmrun {

std::optional<int> parse_options(int argc, char** argv, KernelBenchOptions& options) {
  CLI::App app("Times a device's operations against the limits of the device, measured first.");
  app.add_option("--device", options.device, "auto, cpu or cuda")
      ->check(CLI::IsMember({"auto", "cpu", "cuda"}))
      ->capture_default_str();
  app.add_option("--model-shape", options.model_shape,
                 "qwen2.5-0.5b, llama-3.2-1b, qwen2-7b or llama-3-8b (default: qwen2.5-0.5b on a "
                 "CPU, qwen2-7b on a GPU)");
  app.add_option("--filter", options.filter, "Only rows whose kernel and shape contain this text");
  app.add_option("--tokens", options.num_tokens,
                 "Tokens in a step (default: 1,8,25,64,512 on a CPU, 1,8,25,64,256,1024 on a GPU)")
      ->delimiter(',')
      ->check(CLI::Range(1, 1 << 16));
  app.add_option("--threads", options.num_threads, "Threads of a CPU; 0: one a core")
      ->check(CLI::Range(0, 4096));
  app.add_option("--isa", options.isa, "Of a CPU: best, portable, avx2, avx512bf16 or amx")
      ->capture_default_str();
  app.add_option("--dtype", options.dtype, "Weights and KV cache: bf16 or f32")
      ->capture_default_str();
  app.add_option("--seconds", options.seconds, "Time spent on each row")->capture_default_str();
  app.add_option("--output", options.output, "md or json")
      ->check(CLI::IsMember({"md", "json"}))
      ->capture_default_str();
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error);
  }
  return {};
}

}  // namespace llmrun
