// The server over raw sockets, with an engine without a model: framing split at every byte,
// limits, streams that are not mixed, clients that leave, keys and hosts.
#include "tools/serve/api_server.h"

#include <atomic>
#include <chrono>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include <doctest/doctest.h>
#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "tests/tools/serve/test_server.h"

namespace llmrun {
namespace {

using namespace testing;

TEST_CASE("a request is the same wherever its bytes are cut") {
  TestServer server({.step_seconds = 0});
  const std::string body = completion(7, 3, false);
  const std::string chunked = fmt::format(
      "POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
      "Connection: close\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{}\r\n{:x};ext=1\r\n{}\r\n"
      "0\r\n\r\n",
      body.substr(0, 5), body.size() - 5, body.substr(5));
  for (const std::string& request : {post("/v1/completions", body), chunked}) {
    for (std::size_t cut = 1; cut < request.size(); ++cut) {
      Client client(server.port());
      client.send(request.substr(0, cut));
      if (cut % 8 == 0) std::this_thread::sleep_for(std::chrono::milliseconds(1));
      client.send(request.substr(cut));
      const std::string answer = client.read_all();
      CAPTURE(cut);
      REQUIRE(status_of_answer(answer) == 200);
      REQUIRE(answer.find("\"text\":\"8 9 10 \"") != answer.npos);
    }
  }
}

TEST_CASE("what is too large is refused in time") {
  TestServer server({.step_seconds = 0});
  CHECK(status_of_answer(ask(server.port(), "GET /" + std::string(40'000, 'a'))) == 431);
  CHECK(status_of_answer(ask(server.port(),
                             "POST /generate HTTP/1.1\r\nHost: localhost\r\nContent-Length: "
                             "1073741824\r\n\r\n")) == 413);
  const std::string deep(3000, '[');
  CHECK(status_of_answer(ask(server.port(), post("/v1/completions", deep))) == 400);
}

TEST_CASE("a body without end is refused") {
  TestServer::Options options;
  options.http.limits.max_body_bytes = 100'000;
  TestServer server(options);
  Client client(server.port());
  client.send("POST /generate HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n");
  const std::string chunk = "1000\r\n" + std::string(4096, 'x') + "\r\n";
  for (int i = 0; i < 1000 && client.send(chunk); ++i) {
  }
  CHECK(status_of_answer(client.read_all()) == 413);
}

TEST_CASE("requests that come together are answered in order on one connection") {
  TestServer server({.step_seconds = 0});
  Client client(server.port());
  std::string requests;
  for (int i = 0; i < 20; ++i) {
    requests += post("/v1/completions", completion(100 * i, 2, i % 2 == 0), i == 19);
  }
  client.send(requests);
  const std::string answer = client.read_all();
  std::string expected;
  for (int i = 0; i < 20; ++i) expected += expected_text(100 * i, 2);
  CHECK(streamed_text(answer) == expected);
}

TEST_CASE("streams at once: none is lost and none is mixed with another") {
  TestServer server({.step_seconds = 0.001});
  constexpr int kClients = 64;
  std::vector<std::unique_ptr<Client>> clients;
  for (int i = 0; i < kClients; ++i) {
    clients.push_back(std::make_unique<Client>(server.port()));
    clients.back()->send(post("/v1/completions", completion(100 * i, 50, true)));
  }
  for (int i = 0; i < kClients; ++i) {
    const std::string answer = clients[static_cast<std::size_t>(i)]->read_all();
    CAPTURE(i);
    CHECK(streamed_text(answer) == expected_text(100 * i, 50));
    CHECK(answer.find("data: [DONE]") != answer.npos);
  }
}

TEST_CASE("a client that leaves at any point ends its request") {
  TestServer server({.step_seconds = 0.002});
  for (const bool stream : {false, true}) {
    const std::string request = post("/v1/completions", completion(1, 4000, stream));
    for (int phase = 0; phase < 5; ++phase) {
      std::vector<std::unique_ptr<Client>> clients;
      for (int i = 0; i < 8; ++i) clients.push_back(std::make_unique<Client>(server.port()));
      for (auto& client : clients) {
        if (phase == 1) client->send(request.substr(0, 30));                  // in the head
        if (phase == 2) client->send(request.substr(0, request.size() - 3));  // in the body
        if (phase >= 3) client->send(request);
        if (phase == 4 && stream) client->read_until("data: ");  // in the answer
        client->close();
      }
      CHECK(eventually([&] { return server.http().num_connections() == 0; }));
      CHECK(eventually([&] { return server.engine().status().num_unfinished_requests == 0; }));
    }
  }
  CHECK(status_of_answer(ask(server.port(), get("/health"))) == 200);
}

TEST_CASE("a reader that does not read is cut off, others are not held up") {
  TestServer::Options options;
  options.step_seconds = 0;
  options.http.timeouts.write = std::chrono::milliseconds(300);
  TestServer server(options);
  std::vector<std::unique_ptr<Client>> slow;
  for (int i = 0; i < 4; ++i) {
    slow.push_back(std::make_unique<Client>(server.port(), 4096));
    // Answers of 700 kB: more than the sockets' buffers.
    slow.back()->send(
        post("/v1/completions", R"({"prompt":[1],"max_tokens":4000,"n":30,"temperature":1})"));
  }
  CHECK(status_of_answer(ask(server.port(), post("/v1/completions", completion(1, 5, true)))) ==
        200);
  for (int i = 0; i < 20; ++i) CHECK(status_of_answer(ask(server.port(), get("/health"))) == 200);
  CHECK(eventually([&] { return server.http().num_connections() == 0; }));
}

TEST_CASE("a head that does not come in time is answered 408") {
  TestServer::Options options;
  options.http.timeouts.head = std::chrono::milliseconds(100);
  options.http.timeouts.body = std::chrono::milliseconds(100);
  TestServer server(options);
  CHECK(status_of_answer(ask(server.port(), "GET /health HTT")) == 408);
  const std::string request = post("/v1/completions", completion(1, 5, true));
  CHECK(status_of_answer(ask(server.port(), request.substr(0, request.size() - 1))) == 408);
}

TEST_CASE("too many connections and too many requests are told so") {
  TestServer::Options options;
  options.http.max_connections = 3;
  options.max_unfinished = 1;
  TestServer server(options);
  Client running(server.port());
  running.send(post("/v1/completions", completion(1, 4000, true)));
  running.read_until("data: ");
  const std::string refused = ask(server.port(), post("/v1/completions", completion(1, 5, false)));
  CHECK(status_of_answer(refused) == 429);
  CHECK(refused.find("Retry-After: 1") != refused.npos);
  Client second(server.port());
  Client third(server.port());
  CHECK(eventually([&] { return server.http().num_connections() == 3; }));
  CHECK(status_of_answer(ask(server.port(), "")) == 503);
}

TEST_CASE("draining refuses new requests and lets running ones end") {
  TestServer server({.step_seconds = 0.002});
  Client running(server.port());
  running.send(post("/v1/completions", completion(1, 100, true)));
  running.read_until("data: ");
  server.api().start_draining();
  CHECK(status_of_answer(ask(server.port(), get("/health"))) == 503);
  CHECK(status_of_answer(ask(server.port(), post("/v1/completions", completion(1, 5, false)))) ==
        503);
  CHECK(streamed_text(running.read_all()) == expected_text(1, 100));
}

TEST_CASE("keys, hosts and origins") {
  TestServer::Options options;
  options.access.api_keys = {"one", "two"};
  options.access.allowed_origins = {"http://page:1"};
  TestServer server(options);
  const auto status = [&](const std::string& request) {
    return status_of_answer(ask(server.port(), request));
  };
  CHECK(status(get("/health")) == 200);
  for (const char* path : {"/", "/v1/models", "/metrics", "/version", "/nowhere"}) {
    CHECK(status(get(path)) == 401);
    CHECK(status(get(path, "Authorization: Bearer wrong\r\n")) == 401);
  }
  CHECK(status(get("/v1/models", "Authorization: Bearer two\r\n")) == 200);
  CHECK(status(get("/", "Authorization: Basic bWU6b25l\r\n")) == 200);  // me:one
  CHECK(status(get("/nowhere", "Authorization: Bearer two\r\n")) == 404);
  CHECK(status("GET /health HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n") == 403);
  CHECK(status("GET /health HTTP/1.1\r\nHost: 127.0.0.1:1\r\nConnection: close\r\n\r\n") == 200);
  const std::string key = "Authorization: Bearer one\r\n";
  const std::string body = completion(1, 2, false);
  CHECK(status(post("/v1/completions", body, true, key)) == 200);
  CHECK(status(post("/v1/completions", body, true, key + "Origin: http://evil\r\n")) == 403);
  const std::string allowed =
      ask(server.port(), post("/v1/completions", body, true, key + "Origin: http://page:1\r\n"));
  CHECK(allowed.find("Access-Control-Allow-Origin: http://page:1") != allowed.npos);
}

TEST_CASE("the page runs its own script and style and nothing else") {
  TestServer server({.step_seconds = 0});
  const std::string answer = ask(server.port(), get("/"));
  const auto begin = answer.find("Content-Security-Policy: ");
  REQUIRE(begin != answer.npos);
  const std::string policy = answer.substr(begin, answer.find("\r\n", begin) - begin);
  CHECK(policy.find("default-src 'none'; style-src 'sha256-") != policy.npos);
  CHECK(policy.find("script-src 'sha256-") != policy.npos);
  CHECK(policy.find("unsafe") == policy.npos);
  CHECK(answer.find("innerHTML") == answer.npos);
}

TEST_CASE("return_token_ids adds the ids to an answer, streamed or not") {
  TestServer server({.step_seconds = 0});
  for (const bool wanted : {false, true}) {
    for (const bool streams : {false, true}) {
      const std::string answer = ask(
          server.port(),
          post("/v1/completions",
               fmt::format(R"({{"prompt":[1,2],"max_tokens":3,"stream":{},"return_token_ids":{}}})",
                           streams, wanted)));
      CHECK(status_of_answer(answer) == 200);
      CHECK((answer.find("\"token_ids\"") != answer.npos) == wanted);
      if (!streams) CHECK((answer.find("\"prompt_token_ids\":[1,2]") != answer.npos) == wanted);
    }
  }
}

TEST_CASE("a bad field is named") {
  TestServer server({.step_seconds = 0});
  const auto param = [&](const std::string& fields) {
    const std::string answer =
        ask(server.port(), post("/v1/completions", R"({"prompt":[1],)" + fields + "}"));
    CHECK(status_of_answer(answer) == 400);
    const auto body = nlohmann::json::parse(answer.substr(answer.find("\r\n\r\n") + 4));
    return body["error"]["param"].get<std::string>();
  };
  CHECK(param(R"("temperature":-1)") == "temperature");
  CHECK(param(R"("top_p":2)") == "top_p");
  CHECK(param(R"("n":0)") == "n");
  CHECK(param(R"("max_tokens":"5")") == "max_tokens");
  CHECK(param(R"("stream":1)") == "stream");
  CHECK(param(R"("return_token_ids":1)") == "return_token_ids");
  CHECK(param(R"("stream_options":{})") == "stream_options");
  CHECK(param(R"("logit_bias":{"32000":1})") == "logit_bias");
  CHECK(param(R"("no_such_field":1)") == "no_such_field");
  CHECK(param(R"("stop":[""])") == "stop");
}

}  // namespace
}  // namespace llmrun
