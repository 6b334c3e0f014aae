#include "engine/memory_plan.h"

#include <algorithm>
#include <cstdlib>
#include <optional>
#include <random>
#include <string>

#include <doctest/doctest.h>

#include "engine/core/error.h"

namespace llmrun {
namespace {

constexpr std::size_t kMiB = std::size_t{1} << 20;

// 1000 MiB of which 600 may be used and 400 are the pool: 100 blocks of 4 MiB.
MemoryPlanInputs make_inputs() {
  MemoryPlanInputs inputs;
  inputs.total_bytes = 1000 * kMiB;
  inputs.free_bytes = 900 * kMiB;
  inputs.memory_utilization = 0.6;
  inputs.weight_bytes = 150 * kMiB;
  inputs.activation_bytes = 40 * kMiB;
  inputs.reserve_bytes = 10 * kMiB;
  inputs.bytes_per_token = 256 * 1024;
  inputs.block_size = 16;
  inputs.max_model_len = 160;
  inputs.max_num_seqs = 64;
  return inputs;
}

std::optional<std::string> find_problem(const MemoryPlanInputs& inputs) {
  try {
    plan_memory(inputs);
    return std::nullopt;
  } catch (const Error& error) {
    CHECK(error.kind() == ErrorKind::kMemory);
    return error.what();
  }
}

TEST_CASE("the pool is what is left of the share, one block of it reserved") {
  const MemoryPlan plan = plan_memory(make_inputs());
  CHECK(plan.num_blocks == 100);
  CHECK(plan.kv_pool_bytes == 400 * kMiB);
  CHECK(plan.kv_pool_tokens == 99 * 16);
}

TEST_CASE("memory that others hold is not planned with") {
  MemoryPlanInputs inputs = make_inputs();
  inputs.free_bytes = 400 * kMiB;  // 200 after weights, activations and reserve
  CHECK(plan_memory(inputs).num_blocks == 50);
}

TEST_CASE("never more than all sequences need") {
  MemoryPlanInputs inputs = make_inputs();
  inputs.max_num_seqs = 3;
  CHECK(plan_memory(inputs).num_blocks == 3 * 10 + 1);
  inputs.max_model_len = 161;
  CHECK(plan_memory(inputs).num_blocks == 3 * 11 + 1);
}

TEST_CASE("a size given for the pool, or its blocks") {
  MemoryPlanInputs inputs = make_inputs();
  inputs.kv_cache_memory_bytes = 80 * kMiB;
  CHECK(plan_memory(inputs).num_blocks == 20);
  inputs.num_kv_blocks_override = 7;
  CHECK(plan_memory(inputs).num_blocks == 8);
  CHECK(plan_memory(inputs).kv_pool_tokens == 7 * 16);
}

TEST_CASE("an error names every number and the flags to change") {
  MemoryPlanInputs inputs = make_inputs();
  inputs.max_model_len = 2000;
  const std::string message = find_problem(inputs).value_or("");
  for (const char* part :
       {"--max-model-len 2000", "504.0 MiB", "400.0 MiB are left", "1000 MiB on the device",
        "900 free", "--memory-utilization 0.60 allows 600", "weights take 150", "activations 40",
        "the reserve 10", "Lower --max-model-len to 1584"}) {
    CAPTURE(part);
    CHECK(message.find(part) != std::string::npos);
  }
  inputs.kv_cache_memory_bytes = 40 * kMiB;
  const std::string explicit_pool = find_problem(inputs).value_or("");
  CHECK(explicit_pool.find("--kv-cache-memory-bytes gives 40.0 MiB") != std::string::npos);
  CHECK(explicit_pool.find("Lower --max-model-len to 144") != std::string::npos);
  inputs.kv_cache_memory_bytes = 1;
  CHECK(find_problem(inputs).value_or("").find("to 0") == std::string::npos);
}

TEST_CASE("whatever the numbers: the plan fits, or the advice does") {
  std::mt19937_64 random(1);
  const auto up_to = [&](std::uint64_t limit) { return random() % limit + 1; };
  int num_failed = 0;
  for (int i = 0; i < 20000; ++i) {
    MemoryPlanInputs inputs;
    inputs.total_bytes = up_to(4000 * kMiB);
    inputs.free_bytes = up_to(inputs.total_bytes);
    inputs.memory_utilization = static_cast<double>(up_to(100)) / 100;
    inputs.weight_bytes = up_to(1000 * kMiB);
    inputs.activation_bytes = up_to(300 * kMiB);
    inputs.reserve_bytes = up_to(100 * kMiB);
    inputs.bytes_per_token = static_cast<std::int64_t>(up_to(kMiB));
    inputs.max_model_len = static_cast<std::int32_t>(up_to(8192));
    const bool is_contiguous = random() % 3 == 0;
    inputs.block_size = is_contiguous ? inputs.max_model_len : static_cast<std::int32_t>(up_to(64));
    inputs.max_num_seqs = static_cast<std::int32_t>(up_to(256));
    const auto problem = find_problem(inputs);
    if (!problem) {
      const MemoryPlan plan = plan_memory(inputs);
      CHECK(plan.kv_pool_tokens >= inputs.max_model_len);
      CHECK(plan.kv_pool_bytes + inputs.weight_bytes + inputs.activation_bytes +
                inputs.reserve_bytes <=
            inputs.free_bytes);
      continue;
    }
    ++num_failed;
    const std::string advice = "Lower --max-model-len to ";
    const std::size_t place = problem->find(advice);
    if (place == std::string::npos) continue;
    const std::int32_t old_length = inputs.max_model_len;
    inputs.max_model_len = std::atoi(problem->c_str() + place + advice.size());
    CHECK(inputs.max_model_len < old_length);
    if (is_contiguous) inputs.block_size = inputs.max_model_len;
    CHECK(find_problem(inputs) == std::nullopt);
    // And it is the longest.
    inputs.max_model_len += 1;
    if (is_contiguous) inputs.block_size = inputs.max_model_len;
    CHECK(find_problem(inputs) != std::nullopt);
  }
  CHECK(num_failed > 1000);
  CHECK(num_failed < 19000);
}

TEST_CASE("the plan for people adds up") {
  const std::string text = plan_memory(make_inputs()).to_text();
  for (const char* part : {"150.0", "40.0", "400.0", "99 blocks of 16 tokens = 1584 tokens",
                           "9.9 sequences of 160", "60 %"}) {
    CAPTURE(part);
    CHECK(text.find(part) != std::string::npos);
  }
}

}  // namespace
}  // namespace llmrun
