#include "tools/eval/api_answers.h"

#include <atomic>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include <doctest/doctest.h>
#include <fmt/format.h>

#include "engine/async_engine.h"
#include "engine/engine_factory.h"
#include "tools/serve_bench/loopback_server.h"
#include "tools/serve_bench/own_server.h"

namespace llmrun {
namespace {

std::string respond(int status, const std::string& body, const std::string& headers = "") {
  return fmt::format("HTTP/1.1 {} X\r\n{}Content-Length: {}\r\n\r\n{}", status, headers,
                     body.size(), body);
}

std::string completion(const std::string& text) {
  return respond(200, fmt::format(R"({{"choices":[{{"text":"{}","finish_reason":"stop"}}],)"
                                  R"("usage":{{"prompt_tokens":5,"completion_tokens":2}}}})",
                                  text));
}

AnswerRequest request_of(std::uint64_t key, std::int32_t num_samples = 1) {
  AnswerRequest request;
  request.key = key;
  request.prompt = fmt::format("question {}", key);
  request.params.n = num_samples;
  request.params.seed = 100 * key;
  request.params.max_tokens = 7;
  request.params.stop = {"Question:"};
  return request;
}

std::map<std::uint64_t, Answers> run_all(AnswerSource& source) {
  std::map<std::uint64_t, Answers> all;
  while (source.has_unfinished()) {
    for (Answers& answers : source.advance()) all[answers.key] = std::move(answers);
  }
  return all;
}

// One sample's request to a server that answers as told.
SampleAnswer sample_from(LoopbackServer::Respond respond, const SendLimits& limits = {}) {
  LoopbackServer server(std::move(respond));
  ApiAnswers source({.base_url = server.url(), .model = "m"}, limits);
  source.submit(request_of(1));
  auto all = run_all(source);
  REQUIRE(all[1].samples.size() == 1);
  return all[1].samples.front();
}

SampleAnswer sample_from_text(const std::string& text) {
  return sample_from([text](std::string_view, std::string_view) { return text; });
}

TEST_CASE("Api answers: the body of a request") {
  RemoteServer server;
  server.base_url = parse_http_url("http://127.0.0.1:1", "--base-url");
  server.model = "m";
  server.extra_body = {{"user", "me"}, {"top_p", 0.5}};
  const ApiAnswers source(server, {});
  AnswerRequest request = request_of(3, 4);
  request.params.temperature = 0.7;
  const auto body = nlohmann::json::parse(source.body_of(request, 2));
  CHECK(body == nlohmann::json{{"model", "m"},
                               {"prompt", "question 3"},
                               {"temperature", 0.7},
                               {"top_p", 0.5},
                               {"max_tokens", 7},
                               {"stop", {"Question:"}},
                               {"seed", 302},
                               {"user", "me"}});
  request.messages = {{{"role", "user"}, {"content", "hello"}}};
  request.params.temperature = 0;
  const auto chat = nlohmann::json::parse(source.body_of(request, 0));
  CHECK(chat.at("messages")[0].at("content") == "hello");
  CHECK(chat.at("max_completion_tokens") == 7);
  CHECK(chat.at("temperature") == 0.0);
  CHECK_FALSE(chat.contains("prompt"));
  CHECK_FALSE(chat.contains("max_tokens"));
  CHECK_FALSE(chat.contains("seed"));
}

TEST_CASE("Api answers: each sample is asked for alone, at most so many at once") {
  std::mutex mutex;
  std::map<std::string, int> seen;
  LoopbackServer server([&](std::string_view, std::string_view body) {
    const auto json = nlohmann::json::parse(body);
    const std::scoped_lock lock(mutex);
    const std::string name = fmt::format("{} {}", json.at("prompt").get<std::string>(),
                                         json.at("seed").get<std::uint64_t>());
    ++seen[name];
    return completion(name);
  });
  ApiAnswers source({.base_url = server.url(), .model = "m"}, {.max_concurrency = 3});
  for (std::uint64_t key = 1; key <= 20; ++key) source.submit(request_of(key, 5));
  CHECK(source.stats().num_sequences_waiting == 100);
  auto all = run_all(source);
  REQUIRE(all.size() == 20);
  CHECK(seen.size() == 100);
  CHECK(server.num_requests() == 100);
  for (const auto& [key, answers] : all) {
    REQUIRE(answers.samples.size() == 5);
    CHECK(answers.num_prompt_tokens == 5);
    CHECK(answers.num_output_tokens == 10);
    for (const SampleAnswer& sample : answers.samples) {
      CHECK(sample.text == fmt::format("question {} {}", key,
                                       100 * key + static_cast<std::uint64_t>(sample.index)));
      CHECK(sample.finish_reason == "stop");
    }
  }
  CHECK(source.stats().num_output_tokens == 200);
}

TEST_CASE("Api answers: what the server says badly is an error of the sample") {
  CHECK(sample_from_text(completion("4")).error.empty());
  CHECK(sample_from_text(respond(400, R"({"error":{"message":"too long"}})")).error.code ==
        "http_400");
  CHECK(sample_from_text(respond(400, R"({"error":{"message":"too long"}})")).error.message ==
        "too long");
  CHECK(sample_from_text("").error.code == "disconnected");
  CHECK(sample_from_text("nonsense\r\n\r\n").error.code == "protocol");
  for (const char* body :
       {"", "{", "[]", "{}", "null", R"({"choices":[]})", R"({"choices":[3]})",
        R"({"choices":{"text":"a"}})", R"({"error":{"message":"overloaded"}})"}) {
    CAPTURE(body);
    CHECK(sample_from_text(respond(200, body)).error.code == "bad_response");
  }
  // A text that is not there is an empty one; usage may be missing or nonsense.
  const SampleAnswer bare = sample_from_text(
      respond(200, R"({"choices":[{"message":{"content":null}}],"usage":{"prompt_tokens":"x"}})"));
  CHECK(bare.error.empty());
  CHECK(bare.text.empty());
  CHECK(bare.num_tokens == 0);
}

TEST_CASE("Api answers: second attempts, and none for what will not pass") {
  const auto count = std::make_shared<std::atomic<int>>(0);
  const auto flaky = [count](std::string_view, std::string_view) -> std::string {
    switch ((*count)++) {
      case 0: return respond(429, "{}", "Retry-After: 0.01\r\n");
      case 1: return "";
      default: return completion("7");
    }
  };
  CHECK(sample_from(flaky, {.num_retries = 2}).text == "7");
  CHECK(*count == 3);
  *count = 0;
  CHECK(sample_from(flaky, {.num_retries = 0}).error.code == "http_429");
  CHECK(*count == 1);
  const auto refusals = std::make_shared<std::atomic<int>>(0);
  const auto refuse = [refusals](std::string_view, std::string_view) {
    ++*refusals;
    return respond(404, "{}");
  };
  CHECK(sample_from(refuse, {.num_retries = 5}).error.code == "http_404");
  CHECK(*refusals == 1);
}

TEST_CASE("Api answers: a server that is not there fails each sample, and the run goes on") {
  ApiAnswers source({.base_url = parse_http_url("http://127.0.0.1:1", ""), .model = "m"},
                    {.max_concurrency = 2});
  for (std::uint64_t key = 0; key < 5; ++key) source.submit(request_of(key));
  for (const auto& [key, answers] : run_all(source)) {
    CHECK(answers.samples.at(0).error.code == "connect");
  }
  CHECK(source.stats().num_requests_failed == 5);
}

TEST_CASE("Api answers: what is under way can be given up") {
  // A request that is never answered: its body never ends for the server.
  RemoteServer server;
  server.model = "m";
  LoopbackServer silent([](std::string_view, std::string_view) {
    return std::string("HTTP/1.1 200 X\r\nContent-Length: 100\r\n\r\n{");
  });
  server.base_url = silent.url();
  ApiAnswers source(server, {.max_concurrency = 2, .num_retries = 3});
  for (std::uint64_t key = 0; key < 5; ++key) source.submit(request_of(key));
  CHECK(source.advance().empty());
  CHECK(source.stats().num_sequences_running == 2);
  source.abort_all();
  CHECK_FALSE(source.has_unfinished());
  CHECK(source.stats().num_sequences_running == 0);
}

TEST_CASE("Api answers: the own server answers as the engine in this process does") {
  EngineConfig config;
  config.model = LLMRUN_SOURCE_DIR "/datasets/demo/model";
  config.dtype = "float32";
  config.max_model_len = 256;
  const auto request_for = [](std::uint64_t key) {
    AnswerRequest request = request_of(key, 2);
    request.prompt = fmt::format("Question: Ada has {} pens and buys 4. How many?\nAnswer:", key);
    request.params.temperature = 0.8;
    request.params.max_tokens = 24;
    return request;
  };
  std::map<std::uint64_t, Answers> expected;
  {
    CreatedEngine created = create_engine(config, "none");
    EngineAnswers source(created);
    for (std::uint64_t key = 1; key <= 6; ++key) source.submit(request_for(key));
    expected = run_all(source);
  }
  CreatedEngine created = create_engine(config, "none");
  AsyncEngine engine(*created.engine);
  const OwnServer server(engine, *created.prompts, created.description,
                         created.engine->sampling_limits(), "demo");
  ApiAnswers source({.base_url = server.url(), .model = "demo"}, {.max_concurrency = 4});
  for (std::uint64_t key = 1; key <= 6; ++key) source.submit(request_for(key));
  auto all = run_all(source);
  REQUIRE(all.size() == expected.size());
  for (auto& [key, answers] : all) {
    std::sort(answers.samples.begin(), answers.samples.end(),
              [](const auto& a, const auto& b) { return a.index < b.index; });
    REQUIRE(answers.samples.size() == 2);
    for (std::size_t i = 0; i < 2; ++i) {
      CAPTURE(answers.samples[i].error.message);
      CHECK(answers.samples[i].text == expected[key].samples[i].text);
      CHECK(answers.samples[i].num_tokens == expected[key].samples[i].num_tokens);
      CHECK(answers.samples[i].finish_reason == expected[key].samples[i].finish_reason);
    }
    CHECK(answers.num_prompt_tokens == expected[key].num_prompt_tokens);
  }
}

}  // namespace
}  // namespace llmrun
