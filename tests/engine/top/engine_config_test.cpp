#include "engine/engine_config.h"

#include <functional>
#include <limits>
#include <set>
#include <string>

#include <doctest/doctest.h>

#include "engine/core/error.h"

namespace llmrun {
namespace {

EngineConfig make_config() {
  EngineConfig config;
  config.model = "somewhere";
  return config;
}

TEST_CASE("the defaults are valid, and those of both presets") {
  EngineConfig config = make_config();
  CHECK_NOTHROW(validate(config));
  for (const char* name : {"naive", "paged"}) {
    apply_backend_preset(config, name);
    CHECK_NOTHROW(validate(config));
  }
}

TEST_CASE("naive changes all of its parts, and paged changes them back") {
  EngineConfig config = make_config();
  apply_backend_preset(config, "naive");
  CHECK(config.scheduler == SchedulerKind::kStatic);
  CHECK(config.kv_layout == KvLayout::kContiguous);
  CHECK(!config.enable_prefix_caching);
  CHECK(config.steps_ahead == 0);
  apply_backend_preset(config, "paged");
  CHECK(to_json(config) == to_json(make_config()));
  CHECK_THROWS_AS(apply_backend_preset(config, "vllm"), Error);
}

TEST_CASE("what is out of range is refused with its flag") {
  using Change = std::function<void(EngineConfig&)>;
  const std::vector<std::pair<std::string, Change>> changes = {
      {"--dtype", [](EngineConfig& c) { c.dtype = "int8"; }},
      {"--kv-cache-dtype", [](EngineConfig& c) { c.kv_cache_dtype = "fp8"; }},
      {"--load-format", [](EngineConfig& c) { c.load_format = "pickle"; }},
      {"--device", [](EngineConfig& c) { c.device = "tpu"; }},
      {"--cpu-isa", [](EngineConfig& c) { c.cpu_isa = "sse"; }},
      {"--max-model-len", [](EngineConfig& c) { c.max_model_len = -1; }},
      {"--threads", [](EngineConfig& c) { c.num_threads = 5000; }},
      {"--memory-utilization", [](EngineConfig& c) { c.memory_utilization = 1.5; }},
      {"--memory-utilization",
       [](EngineConfig& c) { c.memory_utilization = std::numeric_limits<double>::quiet_NaN(); }},
      {"--block-size", [](EngineConfig& c) { c.block_size = 0; }},
      {"--num-kv-blocks-override", [](EngineConfig& c) { c.num_kv_blocks_override = -4; }},
      {"--max-num-seqs", [](EngineConfig& c) { c.max_num_seqs = -1; }},
      {"--max-num-batched-tokens", [](EngineConfig& c) { c.max_num_batched_tokens = -1; }},
      {"--steps-ahead", [](EngineConfig& c) { c.steps_ahead = 2; }},
      {"--model", [](EngineConfig& c) { c.model = ""; }},
      {"--no-enable-prefix-caching", [](EngineConfig& c) { c.kv_layout = KvLayout::kContiguous; }},
  };
  for (const auto& [flag, change] : changes) {
    CAPTURE(flag);
    EngineConfig config = make_config();
    change(config);
    try {
      validate(config);
      FAIL("accepted");
    } catch (const Error& error) {
      CHECK(error.kind() == ErrorKind::kUsage);
      CHECK(std::string(error.what()).find(flag) != std::string::npos);
    }
  }
}

TEST_CASE("every field is in the manifest") {
  const nlohmann::ordered_json before = to_json(make_config());
  EngineConfig config = make_config();
  config.model = "other model";
  config.tokenizer = "other tokenizer";
  config.revision = "other revision";
  config.dtype = "float32";
  config.kv_cache_dtype = "bfloat16";
  config.load_format = "dummy";
  config.allow_symlinks = true;
  config.max_model_len = 1;
  config.device = "cpu";
  config.num_threads = 1;
  config.cpu_isa = "avx2";
  config.deterministic = true;
  config.memory_utilization = 0.25;
  config.kv_cache_memory_bytes = 1;
  config.num_kv_blocks_override = 1;
  config.block_size = 1;
  config.scheduler = SchedulerKind::kStatic;
  config.kv_layout = KvLayout::kContiguous;
  config.enable_prefix_caching = false;
  config.enable_chunked_prefill = false;
  config.max_num_seqs = 1;
  config.max_num_batched_tokens = 1;
  config.steps_ahead = 1;
  config.cuda_graphs = false;
  config.attention = AttentionKind::kPlain;
  config.seed = 1;
  config.max_logprobs = 1;
  const nlohmann::ordered_json after = to_json(config);
  CHECK(after.size() == 27);
  for (const auto& [key, value] : after.items()) {
    CAPTURE(key);
    CHECK(value != before.at(key));
  }
}

}  // namespace
}  // namespace llmrun
