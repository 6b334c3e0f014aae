#include "tools/serve_bench/load_run.h"

#include <algorithm>
#include <atomic>
#include <memory>
#include <string>
#include <vector>

#include <doctest/doctest.h>
#include <fmt/format.h>

#include "engine/async_engine.h"
#include "engine/null_engine.h"
#include "tools/serve_bench/completion_stream.h"
#include "tools/serve_bench/engine_target.h"
#include "tools/serve_bench/http_target.h"
#include "tools/serve_bench/loopback_server.h"

namespace llmrun {
namespace {

// `count` requests of one prompt on a server that answers as `respond` says.
struct Load {
  explicit Load(LoopbackServer::Respond respond, std::size_t count, std::int32_t output_len = 3)
      : server(std::move(respond)),
        requests(count, {.prompt_token_ids = &prompt, .output_len = output_len, .seed = 1}) {
    options.arrivals_s.assign(count, 0.0);
  }
  LoadMeasurement run(Progress* progress = nullptr) {
    HttpTargetOptions target_options;
    target_options.server.base_url = server.url();
    target_options.server.model = "m";
    target_options.keep_text = true;
    HttpTarget target(context, target_options);
    return run_load(context, target, requests, options, progress);
  }

  boost::asio::io_context context{1};
  LoopbackServer server;
  std::vector<TokenId> prompt = {1, 2, 3};
  std::vector<BenchRequest> requests;
  LoadOptions options;
};

std::string answer(int status, const std::string& headers, const std::string& body) {
  return fmt::format("HTTP/1.1 {} X\r\n{}Content-Length: {}\r\n\r\n{}", status, headers,
                     body.size(), body);
}
std::string stream(const std::string& body) {
  return answer(200, "Content-Type: text/event-stream\r\n", body);
}

TEST_CASE("Load: every request of a server is answered, at most so many at once") {
  Load load(null_completion, 300, 5);
  load.options.limits.max_concurrency = 7;
  const LoadMeasurement measurement = load.run();
  std::vector<std::pair<double, int>> changes;
  for (const RequestRecord& record : measurement.records) {
    CHECK(record.outcome.failure == "");
    CHECK(record.piece_times_s.size() == 5);
    CHECK(record.outcome.num_output_tokens == 5);
    CHECK(record.outcome.text == " token token token token token");
    changes.emplace_back(record.sent_s, 1);
    changes.emplace_back(record.ended_s, -1);
  }
  std::sort(changes.begin(), changes.end());
  int under_way = 0;
  int peak = 0;
  for (const auto& change : changes) peak = std::max(peak, under_way += change.second);
  CHECK(peak <= 7);
  CHECK(load.server.num_requests() == 300);
}

TEST_CASE("Load: the progress tells of the KV cache where it is known") {
  const auto shown = [](std::function<double()> kv_usage) {
    Load load(null_completion, 2);
    load.options.arrivals_s = {0.0, 0.6};
    load.options.kv_usage = std::move(kv_usage);
    std::string text;
    Progress progress({.style = {.redraws = false, .color = false, .unicode = false},
                       .line_interval_s = 0.2,
                       .write = [&text](std::string_view part) { text += part; }});
    CHECK(load.run(&progress).records.size() == 2);
    return text;
  };
  const std::string elsewhere = shown({});
  CHECK(elsewhere.find("1 of 2 rows, 0 running, 0 waiting, ") != std::string::npos);
  CHECK(elsewhere.find("tok/s out") != std::string::npos);
  CHECK(elsewhere.find("tok/s in") == std::string::npos);
  CHECK(elsewhere.find("KV") == std::string::npos);
  CHECK(shown([] { return 0.25; }).find("tok/s out, KV 25 %") != std::string::npos);
}

TEST_CASE("Load: failures are told apart") {
  const auto failure_of = [](LoopbackServer::Respond respond) {
    Load load(std::move(respond), 1);
    return load.run().records.front().outcome;
  };
  const std::string token = R"(data: {"choices":[{"text":"a"}]})"
                            "\n\n";
  const auto fixed = [&](std::string text) {
    return failure_of([text](std::string_view, std::string_view) { return text; });
  };
  const BenchOutcome refused = fixed(answer(400, "", R"({"error":{"message":"too long"}})"));
  CHECK(refused.failure == "http_400");
  CHECK(refused.message == "too long");
  CHECK_FALSE(refused.can_retry);
  CHECK(fixed(answer(429, "Retry-After: 2\r\n", "")).retry_after_s == 2);
  for (const char* bad : {"nan", "inf", "-1", "soon"}) {
    CAPTURE(bad);
    const std::string header = std::string("Retry-After: ") + bad + "\r\n";
    CHECK(fixed(answer(429, header, "")).retry_after_s == 0);
  }
  CHECK(fixed(answer(200, "Content-Type: text/html\r\n", "<p>")).failure == "bad_response");
  CHECK(fixed("").failure == "disconnected");
  CHECK(fixed("nonsense\r\n\r\n").failure == "protocol");
  CHECK(fixed(stream(token)).failure == "disconnected");
  CHECK(fixed(stream("data: [DONE]\n\n")).failure == "no_output");
  CHECK(fixed(stream("data: {\n\n")).failure == "error");
  const BenchOutcome error = fixed(stream(token + R"(data: {"error":{"message":"gone"}})"
                                                  "\n\n"));
  CHECK(error.failure == "error");
  CHECK(error.message == "gone");
  CHECK(fixed(stream(token + "data: [DONE]\n\n")).failure == "");
}

TEST_CASE("Load: no server is a failure of each request") {
  Load load(null_completion, 2);
  HttpTargetOptions options;
  options.server.base_url = parse_http_url("http://127.0.0.1:1", "--base-url");
  HttpTarget target(load.context, options);
  const auto measurement = run_load(load.context, target, load.requests, load.options, nullptr);
  CHECK(measurement.records[1].outcome.failure == "connect");
}

TEST_CASE("Load: a refused request is sent again, as often as allowed") {
  const auto count = std::make_shared<std::atomic<int>>(0);
  const auto flaky = [count](std::string_view head, std::string_view body) {
    return (*count)++ < 2 ? answer(503, "Retry-After: 0.01\r\n", "") : null_completion(head, body);
  };
  Load load(flaky, 1);
  load.options.limits.num_retries = 1;
  CHECK(load.run().records.front().outcome.failure == "http_503");
  *count = 1;
  const RequestRecord record = load.run().records.front();
  CHECK(record.outcome.failure == "");
  CHECK(record.num_attempts == 2);
  CHECK(record.piece_times_s.size() == 3);
}

TEST_CASE("Load: groups, query limit and duration") {
  Load groups(null_completion, 9);
  groups.options.limits.batch_size = 4;
  const auto grouped = groups.run().records;
  const auto last_end = [&](std::size_t from, std::size_t to) {
    double last = 0;
    for (std::size_t i = from; i < to; ++i) last = std::max(last, grouped[i].ended_s);
    return last;
  };
  CHECK(grouped[4].sent_s >= last_end(0, 4));
  CHECK(grouped[8].sent_s >= last_end(4, 8));

  Load limited(null_completion, 5);
  limited.options.limits.queries_per_second = 50;
  const auto paced = limited.run().records;
  for (std::size_t i = 1; i < paced.size(); ++i) {
    CHECK(paced[i].sent_s >= 0.02 * static_cast<double>(i));
  }

  Load timed(null_completion, 3);
  timed.options.arrivals_s = {0, 0.05, 100};
  timed.options.duration_s = 0.1;
  const auto sent = timed.run().records;
  CHECK(sent[1].succeeded());
  CHECK(sent[1].sent_s >= 0.05);
  CHECK_FALSE(sent[2].was_sent());
}

TEST_CASE("Load: the engine in this process") {
  NullEngine null_engine;
  AsyncEngine engine(null_engine);
  EngineTarget target(engine, {}, false);
  boost::asio::io_context context(1);
  const std::vector<TokenId> prompt = {5, 6};
  const std::vector<BenchRequest> requests(
      200, {.prompt_token_ids = &prompt, .output_len = 4, .seed = 1});
  const LoadMeasurement measurement = run_load(
      context, target, requests,
      {.arrivals_s = std::vector<double>(200, 0.0), .limits = {.max_concurrency = 16}}, nullptr);
  for (const RequestRecord& record : measurement.records) {
    CHECK(record.succeeded());
    CHECK(record.piece_times_s.size() == 4);
    CHECK(record.outcome.num_prompt_tokens == 2);
  }
}

TEST_CASE("Load: stopped, what is under way is waited for, and nothing more is sent") {
  // The second request onwards finds the load stopped.
  const auto count = std::make_shared<std::atomic<int>>(0);
  Load load(
      [count](std::string_view head, std::string_view body) {
        ++*count;
        return null_completion(head, body);
      },
      50);
  load.options.arrivals_s.clear();
  for (int i = 0; i < 50; ++i) load.options.arrivals_s.push_back(0.1 * i);
  load.options.stop_level = [count] { return *count >= 2 ? 1 : 0; };
  load.options.drain_timeout_s = 60;
  const LoadMeasurement measurement = load.run();
  CHECK(measurement.was_stopped);
  CHECK(measurement.records[1].succeeded());
  CHECK_FALSE(measurement.records[49].was_sent());
  for (const RequestRecord& record : measurement.records) {
    CHECK(record.was_sent() == record.succeeded());
  }
}

TEST_CASE("Load: stopped at once, what is under way counts as interrupted") {
  const std::string unfinished =
      "HTTP/1.1 200 X\r\nContent-Type: text/event-stream\r\nContent-Length: 999\r\n\r\n";
  const auto silent = [unfinished](std::string_view, std::string_view) { return unfinished; };
  for (const int level : {1, 2}) {
    Load load(silent, 4);
    load.options.limits = {.max_concurrency = 2, .num_retries = 5};
    load.options.drain_timeout_s = 0.3;  // of level 1, which then becomes 2
    const auto looks = std::make_shared<int>(0);
    load.options.stop_level = [level, looks] { return (*looks)++ == 0 ? 0 : level; };
    const LoadMeasurement measurement = load.run();
    CHECK(measurement.was_stopped);
    for (std::size_t i = 0; i < 4; ++i) {
      CHECK(measurement.records[i].was_sent() == (i < 2));
      if (i < 2) CHECK(measurement.records[i].outcome.failure == "interrupted");
    }
  }
}

TEST_CASE("Load: stopped at once, the engine gives up what it has") {
  NullEngine::Options slow;
  slow.step_seconds = 0.01;
  NullEngine null_engine(slow);
  AsyncEngine engine(null_engine);
  EngineTarget target(engine, {}, false);
  boost::asio::io_context context(1);
  const std::vector<TokenId> prompt = {5, 6};
  // More tokens than come before the first look for signals.
  const std::vector<BenchRequest> requests(
      8, {.prompt_token_ids = &prompt, .output_len = 1 << 16, .seed = 1});
  LoadOptions options{.arrivals_s = std::vector<double>(8, 0.0)};
  const auto looks = std::make_shared<int>(0);
  options.stop_level = [looks] { return (*looks)++ == 0 ? 0 : 2; };
  const LoadMeasurement measurement = run_load(context, target, requests, options, nullptr);
  CHECK(measurement.was_stopped);
  for (const RequestRecord& record : measurement.records) {
    CHECK(record.outcome.failure == "interrupted");
  }
}

TEST_CASE("Completion stream: a chat cut at every byte") {
  const std::string body =
      R"(data: {"choices":[{"delta":{"role":"assistant","content":""}}]})"
      "\n\n"
      R"(data: {"choices":[{"delta":{"content":"Hé"}}]})"
      "\r\n\r\n: ping\n\n"
      R"(data: {"choices":[{"delta":{"content":"llo"},"finish_reason":null}]})"
      "\n\n"
      R"(data: {"choices":[{"delta":{},"finish_reason":"stop"}]})"
      "\n\n"
      R"(data: {"choices":[],"usage":{"prompt_tokens":7,"completion_tokens":3}})"
      "\n\n"
      "data: [DONE]\n\n";
  for (std::size_t cut = 0; cut <= body.size(); ++cut) {
    CompletionStream chat(true);
    const int pieces = chat.feed(std::string_view(body).substr(0, cut)).num_pieces +
                       chat.feed(std::string_view(body).substr(cut)).num_pieces;
    REQUIRE(pieces == 2);
    REQUIRE(chat.text() == "Héllo");
    REQUIRE(chat.is_done());
    REQUIRE(chat.num_prompt_tokens() == 7);
    REQUIRE(chat.num_output_tokens() == 3);
    REQUIRE(chat.error().empty());
  }
}

TEST_CASE("Completion stream: token ids count the tokens of a piece") {
  CompletionStream completion(false);
  const auto pieces = completion.feed(
      R"(data: {"choices":[{"text":"","token_ids":[1,2,3],"finish_reason":"length"}]})"
      "\n\n");
  CHECK(pieces.num_pieces == 1);
  CHECK(pieces.num_tokens == 3);
}

}  // namespace
}  // namespace llmrun
