// create_engine(): from a configuration to an engine that answers, on the demo model.
#include "engine/engine_factory.h"

#include <set>
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include "engine/core/error.h"
#include "engine/core/utf8.h"
#include "tests/support/temporary_folder.h"

namespace llmrun {
namespace {

EngineConfig make_config() {
  EngineConfig config;
  config.model = LLMRUN_SOURCE_DIR "/datasets/demo/model";
  config.device = "cpu";  // of which the tests below tell
  config.dtype = "float32";
  config.max_model_len = 128;
  config.num_threads = 1;
  return config;
}

// Greedy answers to three prompts of text.
std::vector<std::string> answer(const EngineConfig& config) {
  CreatedEngine created = create_engine(config, "auto");
  std::vector<RequestId> ids;
  for (const char* text :
       {"Question: Noah has 5 apples. He buys 7 more. How many apples does he have?\nAnswer:",
        "Once there was", "Question: What is 12 * 3?\nAnswer:"}) {
    const PromptProcessor::Result prompt = created.prompts->from_text(text);
    CHECK(prompt.error.empty());
    EngineRequest request{.prompt_token_ids = prompt.token_ids, .params = {}};
    request.params = default_sampling_params(created.description.generation_defaults);
    request.params.max_tokens = 24;
    ids.push_back(created.engine->add_request(std::move(request)));
  }
  while (created.engine->has_unfinished()) created.engine->step();
  std::vector<std::string> texts(ids.size());
  for (const RequestOutput& output : created.engine->take_outputs()) {
    CHECK(output.error.empty());
    texts.at(output.id - ids[0]) = output.outputs.at(0).text;
  }
  return texts;
}

TEST_CASE("every preset and layout answers the same, and the answer is right") {
  EngineConfig config = make_config();
  const std::vector<std::string> expected = answer(config);
  CHECK(expected[0].find("12") != std::string::npos);
  CHECK(expected[2].find("36") != std::string::npos);
  apply_backend_preset(config, "naive");
  CHECK(answer(config) == expected);
  config = make_config();
  config.kv_layout = KvLayout::kContiguous;
  config.enable_prefix_caching = false;
  CHECK(answer(config) == expected);
  config = make_config();
  config.max_num_seqs = 2;
  config.max_num_batched_tokens = 1;  // raised to 2
  config.steps_ahead = 1;
  CHECK(answer(config) == expected);
}

TEST_CASE("the description says what is used, not what was asked for") {
  EngineConfig config = make_config();
  config.max_model_len = 0;
  config.max_num_seqs = 9;
  config.max_num_batched_tokens = 4;
  const EngineDescription description = create_engine(config, "auto").description;
  CHECK(description.config.max_model_len == 1024);
  CHECK(description.config.max_num_batched_tokens == 9);
  CHECK(description.config.steps_ahead == 0);
  CHECK(description.dtype == DType::kF32);
  CHECK(description.kv_cache_dtype == DType::kF32);
  CHECK(description.memory_plan.kv_pool_tokens >= 1024);
  CHECK(!description.model_fingerprint.empty());
  CHECK(description.generation_defaults.do_sample == false);
  bool has_note = false;
  for (const std::string& note : description.notes) {
    has_note = has_note || note.find("--max-num-batched-tokens 4 is raised") != std::string::npos;
  }
  CHECK(has_note);
}

TEST_CASE("contiguous memory is one block a sequence, of full length") {
  EngineConfig config = make_config();
  apply_backend_preset(config, "naive");
  config.max_num_seqs = 5;
  const EngineDescription description = create_engine(config, "auto").description;
  CHECK(description.config.block_size == 128);
  CHECK(description.memory_plan.num_blocks == 6);
}

TEST_CASE("a description without weights is that of the engine") {
  const EngineConfig config = make_config();
  const ModelDescription described = describe_model(config, "auto");
  const EngineDescription created = create_engine(config, "auto").description;
  CHECK(described.engine.memory_plan.to_text() == created.memory_plan.to_text());
  CHECK(described.engine.num_parameters == created.num_parameters);
  CHECK(to_json(described.engine.config) == to_json(created.config));
  CHECK(described.tokenizer.find("2048") != std::string::npos);
}

TEST_CASE("a known shape runs without files, on token ids") {
  EngineConfig config = make_config();
  config.model = "shape:no-such-model";
  CHECK_THROWS_AS(create_engine(config, "auto"), Error);
  config = make_config();
  config.load_format = "dummy";  // random weights of the demo model's shape
  CreatedEngine created = create_engine(config, "auto");
  EngineRequest request{.prompt_token_ids = {1, 2, 3}, .params = {}};
  request.params.max_tokens = 4;
  request.params.ignore_eos = true;
  created.engine->add_request(std::move(request));
  while (created.engine->has_unfinished()) created.engine->step();
  CHECK(created.engine->take_outputs().at(0).outputs.at(0).token_ids.size() == 4);
}

TEST_CASE("a tokenizer that knows more tokens than the model") {
  EngineConfig config = make_config();
  config.tokenizer = config.model;  // 2048 tokens
  config.model = LLMRUN_SOURCE_DIR "/tests/data/models/llama_gqa";
  CreatedEngine created = create_engine(config, "none");
  CHECK(created.engine->options().vocab_size == 263);
  EngineRequest request{.prompt_token_ids = {1, 2, 3}, .params = {}};
  request.params.max_tokens = 9;
  request.params.min_tokens = 9;
  request.params.bad_words = {"apples", "Noah", "\n"};
  created.engine->add_request(request);
  request.prompt_token_ids = created.prompts->from_text("Question: apples").token_ids;
  created.engine->add_request(request);
  while (created.engine->has_unfinished()) created.engine->step();
  for (const RequestOutput& output : created.engine->take_outputs()) {
    if (output.id == 1) CHECK(output.outputs.at(0).token_ids.size() == 9);
    if (output.id == 2) CHECK(output.error.code == "bad_token_id");
  }
}

// A byte-level tokenizer of 256 tokens, a byte each.
std::string byte_tokenizer_json() {
  nlohmann::json vocabulary;
  for (int byte = 0, shifted = 0; byte < 256; ++byte) {
    const bool printable = (byte >= '!' && byte <= '~') || (byte >= 0xA1 && byte != 0xAD);
    std::string symbol;
    append_utf8(symbol, static_cast<char32_t>(printable ? byte : 256 + shifted++));
    vocabulary[symbol] = byte;
  }
  return nlohmann::json{
      {"model", {{"type", "BPE"}, {"vocab", vocabulary}, {"merges", nlohmann::json::array()}}},
      {"pre_tokenizer", {{"type", "ByteLevel"}, {"add_prefix_space", false}}},
      {"decoder", {{"type", "ByteLevel"}}}}
      .dump();
}

TEST_CASE("rows of the vocabulary that no token has are never sampled") {
  const testing::TemporaryFolder folder;
  folder.write("tokenizer.json", byte_tokenizer_json());
  EngineConfig config = make_config();
  config.tokenizer = folder.path();
  config.model = LLMRUN_SOURCE_DIR "/tests/data/models/llama_gqa";  // 263 rows
  CreatedEngine created = create_engine(config, "none");
  CHECK(created.engine->options().vocab_size == 256);
  EngineRequest request{.prompt_token_ids = {1, 2, 3}, .params = {}};
  request.params.temperature = 100.0;  // nearly uniform: 3 % of the choices would be padding
  request.params.max_tokens = 100;
  request.params.ignore_eos = true;
  request.params.logprobs = 20;
  request.params.n = 8;
  created.engine->add_request(request);
  request.params = {};
  request.params.max_tokens = 1;
  request.params.logit_bias = {{260, 50.0F}};
  created.engine->add_request(request);
  while (created.engine->has_unfinished()) created.engine->step();
  std::set<TokenId> seen;
  for (const RequestOutput& output : created.engine->take_outputs()) {
    if (output.id == 2) CHECK_FALSE(output.error.empty());
    for (const CompletionOutput& sample : output.outputs) {
      seen.insert(sample.token_ids.begin(), sample.token_ids.end());
      for (const TokenLogprobs& position : sample.logprobs) {
        for (const TokenLogprobs::Entry& entry : position.top) seen.insert(entry.token_id);
      }
    }
  }
  CHECK(seen.size() > 200);
  CHECK(*seen.rbegin() < 256);
}

TEST_CASE("messages go through the template, which brings its own special tokens") {
  const CreatedEngine created = create_engine(make_config(), "auto");
  const nlohmann::ordered_json messages = {{{"role", "user"}, {"content", "Hi"}}};
  const auto templated = created.prompts->from_messages(messages, nullptr, nullptr);
  REQUIRE(templated.error.empty());
  CHECK(std::count(templated.token_ids.begin(), templated.token_ids.end(), 1) <= 1);  // BOS
  const auto plain = created.prompts->from_text("Hi");
  CHECK(plain.token_ids.front() == 1);
  CHECK(templated.token_ids != plain.token_ids);
  const nlohmann::ordered_json nonsense = {{{"role", "user"}}};
  const CreatedEngine without = create_engine(make_config(), "none");
  CHECK(without.prompts->from_messages(messages, nullptr, nullptr).error.code == "chat_template");
  CHECK(without.prompts->from_text("Hi").token_ids == plain.token_ids);
}

TEST_CASE("generation_config.json gives defaults, and do_sample false means greedy") {
  GenerationDefaults defaults;
  defaults.temperature = 0.6;
  defaults.top_p = 0.9;
  defaults.top_k = 20;
  defaults.repetition_penalty = 1.1;
  defaults.max_new_tokens = 77;
  SamplingParams params = default_sampling_params(defaults);
  CHECK(params.temperature == 0.6);
  CHECK(params.top_p == 0.9);
  CHECK(params.top_k == 20);
  CHECK(params.repetition_penalty == 1.1);
  CHECK(params.max_tokens == 77);
  defaults.do_sample = false;
  params = default_sampling_params(defaults);
  CHECK(params.temperature == 0.0);
  CHECK(params.top_p == 1.0);
  CHECK(params.top_k == 0);
  CHECK(params.repetition_penalty == 1.1);
  CHECK(default_sampling_params({}) == SamplingParams{});
}

}  // namespace
}  // namespace llmrun
