#include "engine/memory_plan.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include <fmt/format.h>

#include "engine/core/error.h"

namespace llmrun {
namespace {

constexpr double kMiB = 1024.0 * 1024.0;

double mib(std::size_t bytes) {
  return static_cast<double>(bytes) / kMiB;
}

std::int64_t blocks_for(std::int64_t num_tokens, std::int32_t block_size) {
  return (num_tokens + block_size - 1) / block_size;
}

// The longest context of which one sequence fits into `pool` bytes, next to the reserved block.
std::int64_t longest_context(const MemoryPlanInputs& in, std::size_t pool) {
  const std::int64_t num_tokens = static_cast<std::int64_t>(pool) / in.bytes_per_token;
  // Of a contiguous cache every block, the reserved one too, is as long as a context.
  if (in.block_size >= in.max_model_len) return num_tokens / 2;
  return std::max<std::int64_t>(num_tokens / in.block_size - 1, 0) * in.block_size;
}

[[noreturn]] void does_not_fit(const MemoryPlanInputs& in, std::size_t share, std::size_t pool,
                               std::size_t needed) {
  const std::size_t fixed = in.weight_bytes + in.activation_bytes + in.reserve_bytes;
  if (in.kv_cache_memory_bytes == 0 && fixed > in.total_bytes) {
    throw Error(
        ErrorKind::kMemory,
        fmt::format("the model needs {:.0f} MiB for weights ({:.0f}) and activations ({:.0f}); "
                    "this device has {:.0f} MiB",
                    mib(fixed), mib(in.weight_bytes), mib(in.activation_bytes),
                    mib(in.total_bytes)));
  }
  const double smallest = static_cast<double>(fixed + needed) / static_cast<double>(in.total_bytes);
  if (in.kv_cache_memory_bytes == 0 && fixed > share && smallest < 1.0) {
    throw Error(
        ErrorKind::kMemory,
        fmt::format(
            "weights ({:.0f} MiB) and activations ({:.0f}) are more than the {:.0f} MiB that "
            "--memory-utilization {:.2f} allows of {:.0f}; with {:.2f} the model and one "
            "sequence of --max-model-len {} fit",
            mib(in.weight_bytes), mib(in.activation_bytes), mib(share), in.memory_utilization,
            mib(in.total_bytes), std::ceil(smallest * 100) / 100, in.max_model_len));
  }
  std::string message = fmt::format(
      "one sequence of --max-model-len {} needs {:.1f} MiB of KV cache, the reserved block "
      "included, but ",
      in.max_model_len, mib(needed));
  if (in.kv_cache_memory_bytes > 0) {
    message += fmt::format("--kv-cache-memory-bytes gives {:.1f} MiB", mib(pool));
  } else {
    message += fmt::format(
        "{:.1f} MiB are left: of {:.0f} MiB on the device ({:.0f} free), --memory-utilization "
        "{:.2f} allows {:.0f}; weights take {:.0f}, activations {:.0f}, the reserve {:.0f}",
        mib(pool), mib(in.total_bytes), mib(in.free_bytes), in.memory_utilization, mib(share),
        mib(in.weight_bytes), mib(in.activation_bytes), mib(in.reserve_bytes));
  }
  if (const std::int64_t length = longest_context(in, pool); length > 1) {
    message += fmt::format(". Lower --max-model-len to {} or less, or ", length);
  } else {
    message += ". ";
  }
  message += in.kv_cache_memory_bytes > 0
                 ? "raise --kv-cache-memory-bytes"
                 : "lower --max-num-batched-tokens, or raise --memory-utilization";
  throw Error(ErrorKind::kMemory, message);
}

}  // namespace

MemoryPlan plan_memory(const MemoryPlanInputs& in) {
  LLMRUN_CHECK(in.bytes_per_token > 0 && in.block_size > 0 && in.max_model_len > 0 &&
               in.max_num_seqs > 0);
  const auto share =
      static_cast<std::size_t>(static_cast<double>(in.total_bytes) * in.memory_utilization);
  const std::size_t usable = std::min(share, in.free_bytes);
  const std::size_t fixed = in.weight_bytes + in.activation_bytes + in.reserve_bytes;
  const std::size_t left = usable > fixed ? usable - fixed : 0;
  const auto block_bytes = static_cast<std::size_t>(in.bytes_per_token * in.block_size);

  MemoryPlan plan{.inputs = in};
  const std::int64_t blocks_one_sequence = blocks_for(in.max_model_len, in.block_size);
  std::int64_t num_blocks = 0;  // without the reserved one
  if (in.num_kv_blocks_override > 0) {
    num_blocks = in.num_kv_blocks_override;
  } else {
    const std::size_t pool = in.kv_cache_memory_bytes > 0 ? in.kv_cache_memory_bytes : left;
    const auto fitting = static_cast<std::int64_t>(pool / block_bytes) - 1;
    num_blocks = std::min(fitting, blocks_one_sequence * in.max_num_seqs);
    num_blocks = std::min<std::int64_t>(num_blocks, std::numeric_limits<std::int32_t>::max() - 1);
    if (num_blocks < blocks_one_sequence) {
      does_not_fit(in, share, pool,
                   static_cast<std::size_t>(blocks_one_sequence + 1) * block_bytes);
    }
  }
  plan.num_blocks = static_cast<std::int32_t>(num_blocks + 1);
  plan.kv_pool_bytes = static_cast<std::size_t>(num_blocks + 1) * block_bytes;
  plan.kv_pool_tokens = num_blocks * in.block_size;
  return plan;
}

std::string MemoryPlan::to_text() const {
  const double sequences =
      static_cast<double>(kv_pool_tokens) / static_cast<double>(inputs.max_model_len);
  return fmt::format(
      "memory plan (MiB): device {:.0f}, engine's share {:.0f} ({:.0f} %)\n"
      "  weights      {:>10.1f}\n"
      "  activations  {:>10.1f}\n"
      "  KV pool      {:>10.1f}  {} blocks of {} tokens = {} tokens, {:.1f} sequences of {}\n",
      mib(inputs.total_bytes),
      static_cast<double>(inputs.total_bytes) * inputs.memory_utilization / kMiB,
      inputs.memory_utilization * 100, mib(inputs.weight_bytes), mib(inputs.activation_bytes),
      mib(kv_pool_bytes), num_blocks - 1, inputs.block_size, kv_pool_tokens, sequences,
      inputs.max_model_len);
}

}  // namespace llmrun
