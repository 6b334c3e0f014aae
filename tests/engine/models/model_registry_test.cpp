#include "engine/models/model_registry.h"

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <string>
#include <utility>
#include <vector>

#include <doctest/doctest.h>

#include "engine/core/error.h"
#include "engine/core/file.h"
#include "engine/core/json.h"
#include "engine/models/known_shapes.h"
#include "tests/support/model_driver.h"
#include "tests/support/reference_backend.h"
#include "tests/support/temporary_folder.h"

namespace llmrun {
namespace {

namespace fs = std::filesystem;
using testing::ModelDriver;
using testing::ReferenceBackend;
using testing::TemporaryFolder;

fs::path data_folder(const std::string& name) {
  return fs::path(LLMRUN_SOURCE_DIR) / "tests/data/models" / name;
}

TEST_CASE("known shapes, in any case") {
  CHECK(known_shape("QWEN2-7b").num_layers == 28);
  CHECK(known_shape("Llama-2-7B").rope.theta == 1e4);
  CHECK_THROWS_WITH_AS(known_shape("gpt-5"),
                       doctest::Contains("shape:gpt-5: unknown; known shapes are qwen2-7b, "),
                       Error);
  // Parameters as published, in billions.
  const std::vector<std::pair<const char*, double>> published = {
      {"qwen2-7b", 7.616},        {"qwen2.5-0.5b", 0.494},
      {"qwen2.5-1.5b", 1.544},    {"qwen2.5-3b", 3.086},
      {"qwen2.5-7b", 7.616},      {"qwen2.5-14b", 14.770},
      {"qwen2.5-32b", 32.764},    {"qwen2.5-72b", 72.706},
      {"llama-2-7b", 6.738},      {"llama-2-13b", 13.016},
      {"llama-2-70b", 68.977},    {"llama-3-8b", 8.030},
      {"llama-3-70b", 70.554},    {"llama-3.1-8b", 8.030},
      {"llama-3.1-70b", 70.554},  {"llama-3.2-1b", 1.236},
      {"llama-3.2-3b", 3.213},    {"mistral-7b", 7.248},
      {"tinyllama-1.1b", 1.100},  {"tiny", 0.000125},
      {"mixtral-8x7b", 46.703},   {"qwen3-0.6b", 0.596},
      {"qwen3-4b", 4.022},        {"qwen3-8b", 8.191},
      {"qwen3-14b", 14.768},      {"qwen3-32b", 32.762},
      {"opt-125m", 0.125},        {"opt-350m", 0.331},
      {"opt-1.3b", 1.316},        {"opt-6.7b", 6.658},
      {"opt-13b", 12.853},        {"baichuan2-7b", 7.506},
      {"baichuan2-13b", 13.897},  {"gemma-2-2b", 2.614},
      {"gemma-2-9b", 9.242},      {"gemma-2-27b", 27.227},
      {"phi-3-mini", 3.821},      {"gpt2", 0.124},
      {"vicuna-7b", 6.738},       {"vicuna-13b", 13.016},
      {"deepseekmath-7b", 6.910}, {"chinese-alpaca-2-7b", 6.929},
  };
  CHECK(published.size() == known_shape_names().size());
  for (const auto& [name, billions] : published) {
    CAPTURE(name);
    const double counted = static_cast<double>(num_parameters(known_shape(name))) / 1e9;
    CHECK(std::abs(counted - billions) < 0.001);
  }
}

TEST_CASE("an unknown architecture is refused before anything else") {
  const TemporaryFolder folder;
  folder.write("config.json", R"({"architectures":["MambaForCausalLM"],"n_layer":12})");
  const ModelLocation location = find_model(folder.path().string(), {});
  const std::string message = (folder.path() / "config.json").string() +
                              ": architectures: \"MambaForCausalLM\" is not supported; supported "
                              "are LlamaForCausalLM, MistralForCausalLM, ";
  CHECK_THROWS_WITH_AS(read_model_config(location), doctest::Contains(message.c_str()), Error);
}

TEST_CASE("the dtype of weights") {
  CHECK(choose_dtype("auto", DType::kF32, false).dtype == DType::kF32);
  CHECK(choose_dtype("auto", DType::kBf16, false).dtype == DType::kBf16);
  CHECK(choose_dtype("auto", DType::kF16, true).dtype == DType::kF16);
  CHECK(choose_dtype("auto", DType::kF16, true).note.empty());
  CHECK(choose_dtype("auto", DType::kF16, false).dtype == DType::kBf16);
  CHECK(choose_dtype("auto", DType::kF16, false).note.find("--dtype float32") != std::string::npos);
  CHECK(choose_dtype("float32", DType::kBf16, false).dtype == DType::kF32);
  CHECK(choose_dtype("bfloat16", DType::kF32, false).dtype == DType::kBf16);
  CHECK(choose_dtype("half", DType::kF32, true).dtype == DType::kF16);
  CHECK_THROWS_WITH_AS(choose_dtype("float16", DType::kF16, false),
                       doctest::Contains("--dtype float16: "), Error);
  CHECK_THROWS_WITH_AS(choose_dtype("fp8", DType::kF16, false),
                       "--dtype: expected auto, float32, bfloat16 or float16, found \"fp8\"",
                       Error);
}

TEST_CASE("loading reports progress, dtype, notes and a fingerprint") {
  ReferenceBackend backend;
  std::vector<std::pair<std::uint64_t, std::uint64_t>> reports;
  const auto progress = [&](std::uint64_t done, std::uint64_t total) {
    reports.emplace_back(done, total);
  };
  const ModelLocation location = find_model(data_folder("llama3_rope").string(), {});
  const LoadedModel loaded =
      load_model(location, backend, {.float16_supported = false, .progress = progress});
  CHECK(loaded.dtype == DType::kBf16);
  CHECK(loaded.notes.size() == 1);
  CHECK(loaded.fingerprint.size() == 16);
  CHECK(loaded.model->config().eos_token_ids == std::vector<TokenId>{2, 3});
  CHECK(loaded.model->max_positions() == 512);
  REQUIRE_FALSE(reports.empty());
  CHECK(std::is_sorted(reports.begin(), reports.end()));
  CHECK(reports.back().second == 2 * 45120);  // every parameter once, in float16
  CHECK(reports.back().first <= reports.back().second);
  CHECK(reports.back().first > reports.back().second * 9 / 10);  // the last norm is not reported

  const LoadedModel shorter = load_model(location, backend, {.max_positions = 100});
  CHECK(shorter.model->max_positions() == 100);
  CHECK(shorter.model->weight_bytes() + 412 * 8 * sizeof(float) == loaded.model->weight_bytes());
}

TEST_CASE("dummy weights: finite logits that differ, the same for the same seed") {
  ReferenceBackend backend;
  const auto logits_of = [&](std::uint64_t seed) {
    const LoadedModel loaded = load_model(find_model("shape:tiny", {}), backend, {.seed = seed});
    CHECK(loaded.dtype == DType::kBf16);
    ModelDriver driver(backend, *loaded.model, {});
    ModelDriver::Sequence sequence{.tokens = {5, 6, 7, 8}};
    return driver.step({{{&sequence, 4, ModelDriver::Rows::kAll}}});
  };
  const auto logits = logits_of(1);
  CHECK(logits == logits_of(1));
  CHECK(logits != logits_of(2));
  for (const std::vector<float>& row : logits) {
    double sum = 0;
    double sum_of_squares = 0;
    for (const float logit : row) {
      CHECK(std::isfinite(logit));
      sum += logit;
      sum_of_squares += double{logit} * logit;
    }
    const auto size = static_cast<double>(row.size());
    const double variance = sum_of_squares / size - (sum / size) * (sum / size);
    CHECK(variance > 1e-3);
    CHECK(variance < 10);
  }
  CHECK(testing::argmax(logits[0]) != testing::argmax(logits[1]));
}

TEST_CASE("dummy weights of different names differ") {
  ReferenceBackend backend;
  const auto first_column = [&](const std::string& name) {
    RandomWeightLoader loader(backend, DType::kF32, 1, 0);
    const auto weight = loader.linear({.parts = {{name, 8}}, .num_columns = 4});
    float one_hot[4] = {1.0F, 0.0F, 0.0F, 0.0F};
    std::vector<float> column(8);
    backend.linear(Tensor(column.data(), DType::kF32, {1, 8}), Tensor(one_hot, DType::kF32, {1, 4}),
                   *weight);
    return column;
  };
  CHECK(first_column("a") == first_column("a"));
  CHECK(first_column("a") != first_column("b"));
}

TEST_CASE("dummy weights for a folder's configuration") {
  ReferenceBackend backend;
  const TemporaryFolder folder;
  fs::copy(data_folder("qwen2_tied") / "config.json", folder.path());
  const ModelLocation location = find_model(folder.path().string(), {});
  CHECK_THROWS_AS(load_model(location, backend, {}), Error);  // no weights there
  std::uint64_t done = 0;
  std::uint64_t total = 0;
  const auto progress = [&](std::uint64_t d, std::uint64_t t) {
    done = d;
    total = t;
  };
  const LoadedModel loaded =
      load_model(location, backend, {.dummy_weights = true, .progress = progress});
  CHECK(loaded.model->config().hidden_size == 64);
  CHECK(loaded.fingerprint == "dummy:" + folder.path().string() + ":0");
  CHECK(total == 2 * static_cast<std::uint64_t>(num_parameters(loaded.model->config())));
  CHECK(done <= total);
  CHECK(done > total * 9 / 10);
}

TEST_CASE("a configuration that contradicts the weights names the tensor") {
  ReferenceBackend backend;
  const TemporaryFolder folder;
  for (const auto& entry : fs::directory_iterator(data_folder("llama_bias"))) {
    fs::copy(entry.path(), folder.path());
  }
  const auto error_with = [&](const std::string& key, const nlohmann::json& value) {
    nlohmann::json json = parse_json(
        read_file(data_folder("llama_bias") / "config.json", 1 << 20, ErrorKind::kInput), "config");
    json[key] = value;
    folder.write("config.json", json.dump());
    try {
      const LoadedModel loaded = load_model(find_model(folder.path().string(), {}), backend, {});
      return loaded.notes.empty() ? std::string() : "note: " + loaded.notes.front();
    } catch (const Error& error) {
      CHECK(error.kind() == ErrorKind::kModel);
      return std::string(error.what());
    }
  };
  const auto contains = [](const std::string& text, const std::string& part) {
    CAPTURE(text);
    CHECK(text.find(part) != std::string::npos);
  };
  CHECK(error_with("hidden_act", "silu") == "");
  contains(error_with("vocab_size", 264), "tensor model.embed_tokens.weight at offset ");
  contains(error_with("vocab_size", 264), "shape [263, 36], expected [264, 36] by config.json");
  contains(error_with("num_key_value_heads", 3), "k_proj.weight at offset ");
  contains(error_with("intermediate_size", 41), "mlp.gate_proj.weight at offset ");
  contains(error_with("num_hidden_layers", 3), "tensor model.layers.2.input_layernorm.weight is");
  contains(error_with("tie_word_embeddings", false), "tensor lm_head.weight is missing");
  contains(error_with("num_hidden_layers", 1),
           "note: 13 tensors of the checkpoint are not used by LlamaForCausalLM: "
           "\"model.layers.1.input_layernorm.weight\", ");
  contains(error_with("attention_bias", false), "note: 8 tensors of the checkpoint are not used");
}

TEST_CASE("the footprint is known before loading") {
  ReferenceBackend backend;
  const ModelLocation location = find_model("shape:tiny", {});
  const ModelConfig config = read_model_config(location);
  const ModelFootprint footprint = measure_model(
      location, config, {.activation_dtype = DType::kF32, .max_tokens = 10, .max_logits_rows = 3});
  CHECK(footprint.dtype.dtype == DType::kBf16);
  CHECK(footprint.num_parameters == num_parameters(config));
  CHECK(footprint.weight_bytes == 2 * static_cast<std::size_t>(footprint.num_parameters));
  // hidden 64, attention 64, MLP 176 for each token; hidden for each row
  CHECK(footprint.workspace_bytes == (10 * (64 + 64 + 176) + 3 * 64) * sizeof(float));
}

}  // namespace
}  // namespace llmrun
