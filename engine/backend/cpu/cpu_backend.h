// The CPU as a device: own kernels (AMX, AVX-512, AVX2 or portable, chosen at run time) on a
// persistent thread pool. Activations are float32; weights are bf16 or float32; the KV cache is
// bf16 or float32. Operations are complete when they return.
//
// float32 results do not depend on the batch, on how prompts are cut into chunks, or on the number
// of threads. The same holds for bf16 weights, except that on AMX a step of fewer than 8 tokens
// uses another kernel unless `deterministic` is set.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>

#include "engine/backend/backend.h"
#include "engine/core/cpu_info.h"

namespace llmrun {

struct CpuBackendOptions {
  std::int32_t num_threads = 0;  // 0: default_num_threads()
  bool pin_threads = false;
  std::optional<CpuIsa> isa = {};  // nullopt: the best that is supported
  bool deterministic = false;      // one kernel for every batch size, also on AMX
};

// Throws Error(kUsage) when `isa` is not supported here. Weights of dtype kF16 are kept as float32.
std::unique_ptr<Backend> make_cpu_backend(const CpuBackendOptions& options = {});

}  // namespace llmrun
