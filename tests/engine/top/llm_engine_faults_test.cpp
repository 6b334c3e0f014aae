// One request's fault is that request's: refusals, aborts and logits that are no numbers.
#include <algorithm>
#include <filesystem>
#include <random>
#include <string>

#include <doctest/doctest.h>

#include "engine/core/file.h"
#include "engine/core/json.h"
#include "tests/engine/top/mixed_requests.h"
#include "tests/support/temporary_folder.h"

namespace llmrun {
namespace {

using testing::describe;
using testing::make_mixed_requests;
using testing::make_prompt;
using testing::TemporaryFolder;
using testing::TestEngine;
using testing::TestEngineOptions;

EngineRequest make_request(std::vector<TokenId> prompt, std::int32_t max_tokens) {
  EngineRequest request{.prompt_token_ids = std::move(prompt), .params = {}};
  request.params.max_tokens = max_tokens;
  request.params.ignore_eos = true;
  return request;
}

// --- refused at the door (R01, R02, R66, R68) ---

TEST_CASE("a request that can never fit is refused with both numbers, and the others run") {
  for (const bool is_static : {false, true}) {
    TestEngine engine({.is_static = is_static, .block_size = 8, .num_blocks = 8});
    std::vector<EngineRequest> requests = {make_request(make_prompt(1, 40), 25)};  // 65 of 64
    for (std::uint64_t i = 0; i < 100; ++i) requests.push_back(make_request(make_prompt(i, 5), 3));
    requests.push_back(make_request(make_prompt(1, 40), 24));  // 64 of 64
    const std::vector<RequestOutput> outputs = engine.run(requests);
    CHECK(outputs[0].error.code == "too_long");
    CHECK(outputs[0].error.message.find("65") != std::string::npos);
    CHECK(outputs[0].error.message.find("64") != std::string::npos);
    CHECK(outputs[0].outputs.empty());
    for (std::size_t i = 1; i < outputs.size(); ++i) {
      CHECK(outputs[i].error.empty());
      CHECK(outputs[i].outputs.at(0).finish_reason == FinishReason::kLength);
    }
    CHECK(outputs.back().outputs.at(0).token_ids.size() == 24);
    CHECK(engine.find_leak() == std::nullopt);
    CHECK(engine->stats().num_requests_failed == 1);
    CHECK(engine->stats().num_requests_finished == 102);
  }
}

TEST_CASE("a prompt as long as the context is refused, one token shorter runs") {
  TestEngine engine({.max_model_len = 50});
  const RequestOutput refused = engine.run(make_request(make_prompt(1, 50), 1));
  CHECK(refused.error.code == "too_long");
  CHECK(refused.error.message.find("--max-model-len 50") != std::string::npos);
  CHECK(engine.run(make_request(make_prompt(1, 49), 5)).outputs.at(0).token_ids.size() == 1);
}

TEST_CASE("R16: an idle engine names the blocks that nobody gave back") {
  TestEngine engine({});
  CHECK(engine.run(make_request(make_prompt(1, 40), 5)).error.empty());
  CHECK_FALSE(engine->find_leak().has_value());
  BlockTable lost;
  REQUIRE(engine.kv_cache().grow(lost, 33));
  REQUIRE(lost.size() == 3);
  const std::string leak = engine->find_leak().value_or("");
  CHECK(leak.starts_with("3 of 200 KV cache blocks belong to no request: "));
  CHECK(leak.find(std::to_string(lost[1])) != leak.npos);
  engine.kv_cache().release(lost);
  CHECK_FALSE(engine->find_leak().has_value());
}

TEST_CASE("prompts and parameters that make no sense") {
  TestEngine engine({});
  CHECK(engine.run(make_request({}, 5)).error.code == "empty_prompt");
  for (const TokenId id : {-1, 263, 1 << 30}) {
    const RequestOutput output = engine.run(make_request({1, id, 2}, 5));
    CHECK(output.error.code == "bad_token_id");
    CHECK(output.error.message.find(std::to_string(id)) != std::string::npos);
  }
  const auto check_refused = [&](auto change) {
    EngineRequest request = make_request(make_prompt(1, 5), 5);
    change(request.params);
    CHECK(engine.run(request).error.code == "bad_parameter");
  };
  check_refused([](SamplingParams& params) { params.logit_bias = {{263, 1.0F}}; });
  check_refused([](SamplingParams& params) { params.allowed_token_ids = {263}; });
  check_refused([](SamplingParams& params) { params.stop_token_ids = {-1}; });
  check_refused([](SamplingParams& params) { params.top_p = 0; });
  check_refused([](SamplingParams& params) { params.n = 1000; });
  check_refused([](SamplingParams& params) { params.use_beam_search = true; });
  CHECK(engine.find_leak() == std::nullopt);
}

TEST_CASE("log-probabilities without end are refused with their numbers") {
  TestEngine limited({});
  EngineRequest request = make_request(make_prompt(1, 5), 5);
  request.params.logprobs = kAllLogprobs;
  CHECK(limited.run(request).error.message.find("raise --max-logprobs") != std::string::npos);
  TestEngine engine({.max_model_len = 400, .max_logprobs = kAllLogprobs});
  CHECK(engine.run(request).error.empty());
  request.params.n = 128;
  CHECK(engine.run(request).error.empty());
  request.params.max_tokens.reset();  // 128 times the 395 that the context leaves
  const RequestError error = engine.run(request).error;
  CHECK(error.code == "bad_parameter");
  CHECK(error.message.starts_with("logprobs (263) for 50560 output tokens"));
  CHECK(error.message.find("a request may ask for 4000000: ") != std::string::npos);
  request.params.logprobs = 100;  // as many as by default; samples end long before the context does
  request.params.ignore_eos = false;
  CHECK(engine.run(request).error.empty());
  CHECK(engine.find_leak() == std::nullopt);
}

// --- aborts (R21, R22, R23) ---

// Aborts request `victim` after `num_steps` steps; the others must not notice.
void check_abort(const TestEngineOptions& options, std::size_t victim, int num_steps,
                 const std::vector<std::string>& expected) {
  const std::vector<EngineRequest> requests = make_mixed_requests(14);
  TestEngine engine(options);
  std::vector<RequestId> ids;
  for (const EngineRequest& request : requests) ids.push_back(engine->add_request(request));
  for (int i = 0; i < num_steps && engine->has_unfinished(); ++i) engine.step();
  engine->abort(ids[victim]);
  engine->abort(ids[victim]);
  engine->abort(987654321);
  engine.step_until_idle();
  CHECK(engine.find_leak() == std::nullopt);
  const std::vector<RequestOutput> outputs = engine->take_outputs();
  REQUIRE(outputs.size() == requests.size());
  for (const RequestOutput& output : outputs) {
    const auto i =
        static_cast<std::size_t>(std::find(ids.begin(), ids.end(), output.id) - ids.begin());
    CHECK(output.error.empty());
    if (i != victim) {
      CHECK(describe(output) == expected[i]);
      continue;
    }
    // It ended by itself, or its outputs are the beginnings of what they would have been.
    for (const CompletionOutput& completion : output.outputs) {
      CHECK(completion.finish_reason != FinishReason::kNone);
    }
  }
}

TEST_CASE("an abort at any step leaves no block behind and changes no other request") {
  std::vector<std::string> expected;
  {
    TestEngine engine({});
    expected = describe(engine.run(make_mixed_requests(14)));
  }
  for (std::size_t victim = 0; victim < 14; ++victim) {
    CAPTURE(victim);
    for (const int num_steps : {0, 1 + static_cast<int>(victim % 4), 9}) {
      CAPTURE(num_steps);
      check_abort({}, victim, num_steps, expected);
      check_abort({.steps_ahead = 1, .late_backend = true}, victim, num_steps, expected);
      check_abort({.block_size = 4, .num_blocks = 34, .steps_ahead = 1}, victim, num_steps,
                  expected);
      check_abort({.is_static = true, .max_num_seqs = 5, .steps_ahead = 1}, victim, num_steps,
                  expected);
    }
  }
}

TEST_CASE("an aborted sample has the tokens it got, and its siblings theirs") {
  for (const std::int32_t steps_ahead : {0, 1}) {
    EngineRequest request = make_request(make_prompt(1, 20), 30);
    request.params.n = 3;
    TestEngine whole({.steps_ahead = steps_ahead});
    const RequestOutput complete = whole.run(request);
    TestEngine engine({.steps_ahead = steps_ahead});
    const RequestId id = engine->add_request(request);
    for (int i = 0; i < 12; ++i) engine.step();
    engine->abort(id);
    const std::vector<RequestOutput> outputs = engine->take_outputs();  // at once
    REQUIRE(outputs.size() == 1);
    REQUIRE(outputs[0].outputs.size() == 3);
    for (std::size_t i = 0; i < 3; ++i) {
      const CompletionOutput& part = outputs[0].outputs[i];
      CHECK(part.finish_reason == FinishReason::kAbort);
      CHECK(part.token_ids.size() >= 9);
      CHECK(part.token_ids.size() < 13);
      CHECK(complete.outputs[i].text.starts_with(part.text));
      CHECK(std::equal(part.token_ids.begin(), part.token_ids.end(),
                       complete.outputs[i].token_ids.begin()));
    }
    engine.step_until_idle();
    CHECK(engine.find_leak() == std::nullopt);
  }
}

// R34: what an unfinished prompt published is right, also when nobody finishes it.
TEST_CASE("a prompt aborted between two chunks leaves nothing wrong in the prefix cache") {
  EngineRequest request = make_request(make_prompt(1, 40), 8);
  request.params.logprobs = 2;
  TestEngine whole({.prefix_caching = false});
  const std::string expected = describe(whole.run(request));
  for (const std::int32_t budget : {1, 2, 3, 5, 7, 11}) {
    for (int num_steps = 1; num_steps * budget < 40; ++num_steps) {
      CAPTURE(budget);
      CAPTURE(num_steps);
      TestEngine engine({.block_size = 4,
                         .max_num_seqs = 1,
                         .max_num_batched_tokens = budget,
                         .steps_ahead = num_steps % 2});
      const RequestId id = engine->add_request(request);
      for (int i = 0; i < num_steps; ++i) engine.step();
      engine->abort(id);
      engine.step_until_idle();
      engine->take_outputs();
      CHECK(describe(engine.run(request)) == expected);
    }
  }
}

TEST_CASE("abort_all, then the engine serves on") {
  const std::vector<EngineRequest> requests = make_mixed_requests(28);
  std::vector<std::string> expected;
  {
    TestEngine engine({});
    expected = describe(engine.run(requests));
  }
  for (const bool is_static : {false, true}) {
    for (const int num_steps : {0, 1, 4, 9}) {
      TestEngine engine(
          {.is_static = is_static, .block_size = 4, .num_blocks = 60, .steps_ahead = 1});
      for (const EngineRequest& request : requests) engine->add_request(request);
      for (int i = 0; i < num_steps; ++i) engine.step();
      engine->abort_all();
      CHECK(engine->take_outputs().size() == requests.size());
      engine.step_until_idle();
      CHECK(engine.find_leak() == std::nullopt);
      CHECK(describe(engine.run(requests)) == expected);
    }
  }
}

// --- logits that are no numbers (R44, F26) ---

// A copy of the engine's tiny checkpoint in which one row of one matrix is NaN.
void write_checkpoint_with_nan(const TemporaryFolder& folder, const std::string& tensor,
                               std::size_t row) {
  std::filesystem::copy(TestEngineOptions{}.folder, folder.path());
  const std::filesystem::path index = folder.path() / "model.safetensors.index.json";
  const std::filesystem::path shard =
      folder.path() / parse_json(read_file(index, 1 << 20, ErrorKind::kModel), "index")
                          .at("weight_map")
                          .at(tensor)
                          .get<std::string>();
  std::string bytes = read_file(shard, 1 << 24, ErrorKind::kModel);
  std::size_t header_size = 0;
  for (std::size_t i = 0; i < 8; ++i) {
    header_size |= std::size_t{static_cast<unsigned char>(bytes[i])} << (8 * i);
  }
  const nlohmann::json entry = nlohmann::json::parse(bytes.substr(8, header_size)).at(tensor);
  const auto begin = entry.at("data_offsets").at(0).get<std::size_t>();
  const auto end = entry.at("data_offsets").at(1).get<std::size_t>();
  const std::size_t row_size = (end - begin) / entry.at("shape").at(0).get<std::size_t>();
  std::fill_n(bytes.begin() + static_cast<std::ptrdiff_t>(8 + header_size + begin + row * row_size),
              row_size, '\xff');  // a NaN in every floating-point type
  folder.write(shard.filename(), bytes);
}

TEST_CASE("NaN in one token's embedding fails the requests with that token only") {
  constexpr TokenId kBad = 100;
  const TemporaryFolder folder;
  write_checkpoint_with_nan(folder, "model.embed_tokens.weight", kBad);
  std::vector<EngineRequest> requests = make_mixed_requests(28);
  for (EngineRequest& request : requests) {
    std::replace(request.prompt_token_ids.begin(), request.prompt_token_ids.end(), kBad, 7);
    if (!request.params.use_beam_search && request.params.allowed_token_ids.empty()) {
      request.params.logit_bias = {{kBad, -100.0F}};  // is not generated either
    }
    std::erase(request.params.allowed_token_ids, kBad);
  }
  std::vector<std::string> expected;
  {
    TestEngine engine({.folder = folder.path()});
    expected = describe(engine.run(requests));
  }
  for (std::size_t i = 0; i < requests.size(); i += 3) {
    std::vector<TokenId>& prompt = requests[i].prompt_token_ids;
    prompt[i % prompt.size()] = kBad;
  }
  for (const TestEngineOptions& options : std::vector<TestEngineOptions>{
           {.folder = folder.path()},
           {.folder = folder.path(), .steps_ahead = 1},
           {.folder = folder.path(), .steps_ahead = 1, .late_backend = true},
           {.folder = folder.path(), .max_num_batched_tokens = 9, .steps_ahead = 1},
           {.folder = folder.path(), .is_static = true, .steps_ahead = 1}}) {
    TestEngine engine(options);
    for (int round = 0; round < 2; ++round) {  // again, on blocks that held NaN
      const std::vector<RequestOutput> outputs = engine.run(requests);
      for (std::size_t i = 0; i < outputs.size(); ++i) {
        CAPTURE(i);
        if (i % 3 == 0) {
          CHECK(outputs[i].error.code == "numeric");
          CHECK(outputs[i].outputs.empty());
        } else {
          CHECK(describe(outputs[i]) == expected[i]);
        }
      }
      CHECK(engine.find_leak() == std::nullopt);
    }
  }
}

TEST_CASE("NaN everywhere fails every request") {
  const TemporaryFolder folder;
  write_checkpoint_with_nan(folder, "lm_head.weight", 3);
  for (const std::int32_t steps_ahead : {0, 1}) {
    TestEngine engine({.folder = folder.path(), .steps_ahead = steps_ahead});
    const std::vector<RequestOutput> outputs = engine.run(make_mixed_requests(28));
    for (const RequestOutput& output : outputs) CHECK(output.error.code == "numeric");
    CHECK(engine.find_leak() == std::nullopt);
  }
}

TEST_CASE("a request that bans every token fails alone") {
  for (const std::int32_t steps_ahead : {0, 1}) {
    EngineRequest request = make_request(make_prompt(1, 5), 9);
    request.params.ignore_eos = false;
    request.params.allowed_token_ids = {2};  // the end of sequence
    request.params.min_tokens = 3;
    TestEngine engine({.steps_ahead = steps_ahead});
    const std::vector<RequestOutput> outputs = engine.run(
        {make_request(make_prompt(2, 5), 9), request, make_request(make_prompt(3, 5), 9)});
    CHECK(outputs[0].error.empty());
    CHECK(outputs[1].error.code == "numeric");
    CHECK(outputs[2].error.empty());
  }
}

}  // namespace
}  // namespace llmrun
