// Every architecture against Hugging Face transformers: scripts/make_model_goldens.py.
#include <algorithm>
#include <cmath>
#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include "engine/backend/cpu/cpu_backend.h"
#include "engine/backend/cuda/cuda_backend.h"
#include "engine/core/cpu_info.h"
#include "engine/core/file.h"
#include "engine/core/json.h"
#include "engine/models/model_registry.h"
#include "tests/support/gpu.h"
#include "tests/support/model_driver.h"
#include "tests/support/reference_backend.h"

namespace llmrun {
namespace {

using testing::argmax;
using testing::logprob_of;
using testing::ModelDriver;
using testing::ReferenceBackend;
using Rows = ModelDriver::Rows;

constexpr double kTolerance = 1e-4;  // of log-probabilities, everything in float32

// A checkpoint, and what is expected of it.
struct GoldenModel {
  std::string name;
  std::string file = "golden.json";
  std::int64_t max_positions = 0;  // longest context of the run; 0: the model's
};

const std::vector<GoldenModel> kModels = {
    {"llama_gqa"},
    {"llama_bias"},
    {"llama_mlp_bias"},
    {"llama3_rope"},
    {"llama_linear"},
    {"llama_dynamic", "golden.json", 64},
    {"llama_dynamic", "golden_300.json", 300},
    {"mistral_window"},
    {"mixtral"},
    {"qwen2_tied"},
    {"qwen2_yarn"},
    {"qwen3"},
    {"opt_pre_norm"},
    {"opt_post_norm"},
    {"baichuan_rope"},
    {"baichuan_alibi"},
    {"gemma2"},
    {"phi3_longrope", "golden.json", 64},
    {"phi3_longrope", "golden_512.json"},
    {"phi3_window"},
    {"gpt2"},
};

struct GoldenPrompt {
  std::vector<TokenId> prompt;
  std::vector<double> next_logprobs;  // of prompt[1 ..]
  std::vector<TokenId> top_ids;       // after each prompt token
  std::vector<TokenId> greedy_ids;
};

struct Golden {
  std::int64_t num_parameters = 0;
  std::vector<GoldenPrompt> prompts;
  // Of transformers in bfloat16 against transformers in float32.
  double mean_kl = 0;
  double max_logprob_difference = 0;  // over the 20 likeliest tokens
};

ModelLocation location_of(const std::string& name) {
  const std::string folder = std::string(LLMRUN_SOURCE_DIR) + "/tests/data/models/" + name;
  return find_model(folder, {});
}

Golden read_golden(const GoldenModel& golden_model) {
  const auto path = location_of(golden_model.name).folder / golden_model.file;
  const nlohmann::json json =
      parse_json(read_file(path, 1 << 20, ErrorKind::kInput), path.string());
  Golden golden;
  golden.num_parameters = json.at("num_parameters").get<std::int64_t>();
  golden.mean_kl = json.at("bfloat16_error").at("mean_kl").get<double>();
  golden.max_logprob_difference =
      json.at("bfloat16_error").at("max_logprob_difference").get<double>();
  for (const nlohmann::json& entry : json.at("prompts")) {
    golden.prompts.push_back({entry.at("prompt").get<std::vector<TokenId>>(),
                              entry.at("next_logprobs").get<std::vector<double>>(),
                              entry.at("top_ids").get<std::vector<TokenId>>(),
                              entry.at("greedy_ids").get<std::vector<TokenId>>()});
  }
  return golden;
}

struct NamedBackend {
  std::string name;
  std::unique_ptr<Backend> backend;
};

// The reference, the CPU backend with every instruction set of this machine, and a GPU if there is
// one, with activations in `dtype`.
std::vector<NamedBackend> make_backends(DType dtype = DType::kF32) {
  std::vector<NamedBackend> backends;
  backends.push_back({"reference", std::make_unique<ReferenceBackend>()});
  for (const CpuIsa isa : supported_cpu_isas()) {
    CpuBackendOptions options;
    options.num_threads = 2;
    options.isa = isa;
    backends.push_back({to_string(isa), make_cpu_backend(options)});
  }
  if (testing::can_test_cuda()) {
    backends.push_back({"cuda", make_cuda_backend({.dtype = dtype})});
    backends.push_back(
        {"cuda, plain attention, no graphs",
         make_cuda_backend({.dtype = dtype, .plain_attention = true, .graphs = false})});
    backends.push_back(
        {"cuda, deterministic", make_cuda_backend({.dtype = dtype, .deterministic = true})});
  }
  return backends;
}

std::unique_ptr<CausalLm> load(const GoldenModel& golden_model, Backend& backend,
                               const std::string& dtype = "float32") {
  return load_model(location_of(golden_model.name), backend,
                    {.dtype = dtype, .max_positions = golden_model.max_positions})
      .model;
}

// Calls check(golden, backend, model) for each model on each backend, weights in float32.
template <typename Check>
void for_each_model(const Check& check) {
  for (const NamedBackend& named : make_backends()) {
    CAPTURE(named.name);
    for (const GoldenModel& golden_model : kModels) {
      CAPTURE(golden_model.name);
      CAPTURE(golden_model.file);
      const auto model = load(golden_model, *named.backend);
      check(read_golden(golden_model), *named.backend, *model);
    }
  }
}

// Compares the logits after prompt positions [begin, begin + rows.size()) with the golden ones.
void check_rows(const GoldenPrompt& golden, std::size_t begin,
                std::span<const std::vector<float>> rows) {
  for (std::size_t i = 0; i < rows.size(); ++i) {
    const std::size_t position = begin + i;
    CAPTURE(golden.prompt.size());
    CAPTURE(position);
    CHECK(argmax(rows[i]) == golden.top_ids[position]);
    if (position + 1 == golden.prompt.size()) continue;
    const double logprob = logprob_of(rows[i], golden.prompt[position + 1]);
    CHECK(std::abs(logprob - golden.next_logprobs[position]) < kTolerance);
  }
}

TEST_CASE("one sequence at a time: prompt log-probabilities and greedy continuation") {
  for_each_model([](const Golden& golden, Backend& backend, CausalLm& model) {
    ModelDriver driver(backend, model, {.max_tokens = 300});  // as many as the longest prompt
    for (const GoldenPrompt& expected : golden.prompts) {
      ModelDriver::Sequence sequence{.tokens = expected.prompt};
      const auto length = static_cast<std::int64_t>(expected.prompt.size());
      auto rows = driver.step({{{&sequence, length, Rows::kAll}}});
      REQUIRE(rows.size() == expected.prompt.size());
      check_rows(expected, 0, rows);
      std::vector<TokenId> generated;
      while (true) {
        generated.push_back(argmax(rows.back()));
        if (generated.size() == expected.greedy_ids.size()) break;
        sequence.tokens.push_back(generated.back());
        rows = driver.step({{{&sequence, 1, Rows::kLast}}});
      }
      CHECK(generated == expected.greedy_ids);
      driver.release(sequence);
    }
  });
}

TEST_CASE("all sequences together, ragged, prompts beside decodes") {
  for_each_model([](const Golden& golden, Backend& backend, CausalLm& model) {
    ModelDriver driver(backend, model, {.block_size = 7, .num_blocks = 130});
    std::vector<ModelDriver::Sequence> sequences;
    for (const GoldenPrompt& prompt : golden.prompts)
      sequences.push_back({.tokens = prompt.prompt});

    // Sequence s starts at step s, so that every step mixes a prompt with decodes.
    std::vector<std::vector<TokenId>> generated(sequences.size());
    for (std::size_t step = 0; step < sequences.size() + 23; ++step) {
      std::vector<ModelDriver::Chunk> chunks;
      std::vector<std::size_t> owners;
      for (std::size_t s = 0; s < sequences.size() && s <= step; ++s) {
        if (generated[s].size() == golden.prompts[s].greedy_ids.size()) continue;
        const auto num_tokens =
            static_cast<std::int64_t>(sequences[s].tokens.size()) - sequences[s].num_computed;
        chunks.push_back({&sequences[s], num_tokens, s == step ? Rows::kAll : Rows::kLast});
        owners.push_back(s);
      }
      const auto rows = driver.step(chunks);
      std::size_t row = 0;
      for (std::size_t c = 0; c < chunks.size(); ++c) {
        const std::size_t s = owners[c];
        const std::size_t count = s == step ? golden.prompts[s].prompt.size() : 1;
        REQUIRE(row + count <= rows.size());
        if (s == step) check_rows(golden.prompts[s], 0, std::span(rows).subspan(row, count));
        row += count;
        generated[s].push_back(argmax(rows[row - 1]));
        sequences[s].tokens.push_back(generated[s].back());
      }
    }
    for (std::size_t s = 0; s < sequences.size(); ++s) {
      CHECK(generated[s] == golden.prompts[s].greedy_ids);
    }
  });
}

TEST_CASE("a prompt in chunks, with and without the logits of each") {
  for_each_model([](const Golden& golden, Backend& backend, CausalLm& model) {
    ModelDriver driver(backend, model, {.block_size = 16});
    const GoldenPrompt& expected = golden.prompts.back();
    const auto length = static_cast<std::int64_t>(expected.prompt.size());
    for (const std::int64_t chunk_size : {1, 16, 31}) {
      CAPTURE(chunk_size);
      for (const Rows kind : {Rows::kAll, Rows::kNone}) {
        ModelDriver::Sequence sequence{.tokens = expected.prompt};
        while (sequence.num_computed < length) {
          const std::int64_t begin = sequence.num_computed;
          const std::int64_t count = std::min(chunk_size, length - begin);
          const bool is_last = begin + count == length;
          const Rows wanted = is_last && kind == Rows::kNone ? Rows::kLast : kind;
          const auto rows = driver.step({{{&sequence, count, wanted}}});
          check_rows(expected, static_cast<std::size_t>(sequence.num_computed) - rows.size(), rows);
        }
        driver.release(sequence);
      }
    }
  });
}

// log softmax of every row.
std::vector<std::vector<double>> log_softmax(const std::vector<std::vector<float>>& rows) {
  std::vector<std::vector<double>> result;
  for (const std::vector<float>& row : rows) {
    result.emplace_back();
    const double base = logprob_of(row, 0) - row[0];
    for (const float logit : row) result.back().push_back(logit + base);
  }
  return result;
}

TEST_CASE("bfloat16 is closer to float32 than bfloat16 in transformers is") {
  for (const NamedBackend& named : make_backends(DType::kBf16)) {
    CAPTURE(named.name);
    for (const GoldenModel& golden_model : kModels) {
      CAPTURE(golden_model.name);
      CAPTURE(golden_model.file);
      const Golden golden = read_golden(golden_model);
      ReferenceBackend reference;
      const auto exact_model = load(golden_model, reference);
      ModelDriver exact_driver(reference, *exact_model, {});
      const auto model = load(golden_model, *named.backend, "bfloat16");
      ModelDriver driver(*named.backend, *model, {.kv_dtype = DType::kBf16});
      double sum_kl = 0;
      double max_difference = 0;
      std::size_t num_rows = 0;
      for (const GoldenPrompt& expected : golden.prompts) {
        const auto run = [&](ModelDriver& runner) {
          ModelDriver::Sequence sequence{.tokens = expected.prompt};
          const auto length = static_cast<std::int64_t>(expected.prompt.size());
          const auto rows = runner.step({{{&sequence, length, Rows::kAll}}});
          runner.release(sequence);
          return log_softmax(rows);
        };
        const auto exact = run(exact_driver);
        const auto found = run(driver);
        for (std::size_t r = 0; r < exact.size(); ++r) {
          std::vector<double> top = exact[r];
          std::nth_element(top.begin(), top.begin() + 19, top.end(), std::greater<>());
          for (std::size_t i = 0; i < exact[r].size(); ++i) {
            const double difference = exact[r][i] - found[r][i];
            sum_kl += std::exp(exact[r][i]) * difference;
            if (exact[r][i] >= top[19])
              max_difference = std::max(max_difference, std::abs(difference));
          }
          ++num_rows;
        }
      }
      // A GPU rounds activations to bfloat16 as transformers does; the CPU backend does not.
      const double allowed = named.backend->activation_dtype() == DType::kF32 ? 1.0 : 1.25;
      CHECK(sum_kl / static_cast<double>(num_rows) <= allowed * golden.mean_kl);
      // Which experts a token takes may hang on a rounding, and then its logits are others.
      if (model->config().num_experts > 0) continue;
      CHECK(max_difference <= allowed * golden.max_logprob_difference);
    }
  }
}

TEST_CASE("parameters are counted as transformers counts them") {
  for (const GoldenModel& golden_model : kModels) {
    CAPTURE(golden_model.name);
    CHECK(num_parameters(read_model_config(location_of(golden_model.name))) ==
          read_golden(golden_model).num_parameters);
  }
}

}  // namespace
}  // namespace llmrun
