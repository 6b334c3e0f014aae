#include "tools/foreign_flags.h"

#include <algorithm>
#include <array>

namespace llmrun {
namespace {

struct ForeignFlag {
  const char* name;
  const char* hint;
};

constexpr const char* kOneDevice = "llmrun runs a model on one device";
constexpr const char* kNoQuantization =
    "llmrun runs float32, bfloat16 and float16 weights: --dtype";
constexpr const char* kNoSpeculation = "llmrun does not decode speculatively";
constexpr const char* kNoAdapters = "llmrun has no adapters; merge them into the checkpoint";
constexpr const char* kNoSwap = "llmrun computes a preempted sequence again, it swaps nothing";
constexpr const char* kNoDownload = "llmrun downloads nothing: --model takes a folder";

constexpr auto kForeignFlags = std::to_array<ForeignFlag>({
    {"--tensor-parallel-size", kOneDevice},
    {"--pipeline-parallel-size", kOneDevice},
    {"--data-parallel-size", kOneDevice},
    {"--distributed-executor-backend", kOneDevice},
    {"--quantization", kNoQuantization},
    {"--enforce-eager", "here it is --no-cuda-graphs"},
    {"--swap-space", kNoSwap},
    {"--cpu-offload-gb", kNoSwap},
    {"--trust-remote-code", "it is not needed: llmrun runs no code of a checkpoint"},
    {"--download-dir", kNoDownload},
    {"--num-scheduler-steps", "here it is --steps-ahead"},
    {"--num-gpu-blocks-override", "here it is --num-kv-blocks-override"},
    {"--speculative-config", kNoSpeculation},
    {"--speculative-model", kNoSpeculation},
    {"--enable-lora", kNoAdapters},
    {"--lora-path", kNoAdapters},
    {"--disable-log-requests", "requests are not logged"},
    {"--async-engine", "serve-bench measures the engine under online load"},
    {"--num-iters", "here it is --repeats"},
    {"--num-iters-warmup", "here it is --num-warmups, in requests"},
    {"--hf-max-batch-size", "here it is --max-num-seqs with --backend naive"},
    {"--host", "here it is --base-url http://HOST:PORT"},
    {"--port", "here it is --base-url http://HOST:PORT"},
    {"--max-seq-len-to-capture", "decode steps of every length are replayed as CUDA graphs"},
    {"--api-url", "here it is --base-url"},
    {"--num-concurrent", "here it is --max-concurrency"},
    {"--disable-tqdm", "here it is --quiet"},
});

}  // namespace

std::optional<std::string> foreign_flag_hint(const std::string& name) {
  const auto found = std::find_if(kForeignFlags.begin(), kForeignFlags.end(),
                                  [&](const ForeignFlag& flag) { return flag.name == name; });
  if (found == kForeignFlags.end()) return std::nullopt;
  return found->hint;
}

}  // namespace llmrun
