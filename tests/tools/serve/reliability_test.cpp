// What a server must bear: clients that read slowly, half-close, come too often, take too long or
// leave in any phase; a log nobody reads; an engine that fails.
#include <atomic>
#include <chrono>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include <doctest/doctest.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include "engine/core/error.h"
#include "tests/engine/top/test_engine.h"
#include "tests/tools/serve/test_server.h"
#include "tools/serve/server_log.h"

namespace llmrun {
namespace {

using namespace testing;
using testing::TestEngine;  // an engine with a model and a KV cache

constexpr int kSmallBuffer = 4096;
// Hundreds of kilobytes: more than what a socket takes of an answer that nobody reads.
const char* const kLongStream =
    R"({"prompt":[1],"max_tokens":4000,"n":100,"temperature":1,"stream":true})";

bool has_no_work(TestServer& server) {
  return server.engine().status().num_unfinished_requests == 0;
}

TEST_CASE("a stream that is not read as fast as it comes is ended, others are not held up") {
  TestServer server({.step_seconds = 0.0001, .max_unsent_bytes = 64 << 10});
  Client slow(server.port(), kSmallBuffer);
  slow.send(post("/v1/completions", kLongStream));
  std::atomic<bool> done = false;
  std::thread reader([&] {
    while (!done && slow.read_byte()) std::this_thread::sleep_for(std::chrono::milliseconds(50));
  });
  for (int i = 0; i < 20; ++i) {
    const std::string answer =
        ask(server.port(), post("/v1/completions", completion(100 * i, 20, true)));
    CHECK(streamed_text(answer) == expected_text(100 * i, 20));
  }
  CHECK(eventually([&] { return has_no_work(server); }));
  done = true;
  reader.join();
  // What was made until then is still delivered, then the reason.
  const std::string answer = slow.read_all();
  CHECK(answer.find("the answer was not read as fast as it came") != answer.npos);
  CHECK(answer.find("data: [DONE]") != answer.npos);
  CHECK(answer.size() < (4 << 20));
}

TEST_CASE("whoever takes no byte for too long is closed") {
  TestServer::Options options;
  options.step_seconds = 0;
  options.http.timeouts.write = std::chrono::milliseconds(300);
  TestServer server(options);
  Client slow(server.port(), kSmallBuffer);
  slow.send(post("/v1/completions", kLongStream));
  CHECK(eventually([&] { return has_no_work(server) && server.http().num_connections() == 0; }));
}

TEST_CASE("clients that leave in any phase give their KV blocks back") {
  TestEngine engine({.max_num_seqs = 2});
  TestServer server({}, &engine.engine());
  const std::string request = post(
      "/v1/completions",
      R"({"prompt":[5,6,7,8,9],"max_tokens":150,"ignore_eos":true,"temperature":1,"stream":true})");
  for (int phase = 0; phase < 4; ++phase) {
    std::vector<std::unique_ptr<Client>> clients;
    for (int i = 0; i < 8; ++i) {  // two run, six wait
      clients.push_back(std::make_unique<Client>(server.port()));
      clients.back()->send(phase == 0 ? request.substr(0, request.size() - 1) : request);
    }
    if (phase == 2) clients.front()->read_until("data: ");
    if (phase == 3) clients.front()->read_until("[DONE]");
    clients.clear();
    CHECK(eventually([&] { return has_no_work(server) && server.http().num_connections() == 0; }));
    CHECK(eventually([&] { return server.engine().status().stats.kv_blocks_used == 0; }));
  }
  CHECK(status_of_answer(ask(server.port(), get("/health"))) == 200);
}

TEST_CASE("a client that closes its sending side gets a short answer, and ends a long one") {
  TestServer server({.step_seconds = 0.001});
  for (int i = 0; i < 20; ++i) {
    Client client(server.port());
    client.send(get("/health"));
    client.end_sending();
    CHECK(status_of_answer(client.read_all()) == 200);
    Client malformed(server.port());
    malformed.send(post("/v1/completions", "{"));
    malformed.end_sending();
    CHECK(status_of_answer(malformed.read_all()) == 400);
    Client generating(server.port());
    generating.send(post("/v1/completions", completion(1, 4000, i % 2 == 0)));
    generating.end_sending();
    generating.read_all();
    Client half(server.port());
    half.send("POST /v1/completions HTTP/1.1\r\nHost: local");
    half.end_sending();
    CHECK(half.read_all().empty());
  }
  CHECK(eventually([&] { return has_no_work(server) && server.http().num_connections() == 0; }));
}

TEST_CASE("an address has as many connections as it may have") {
  TestServer::Options options;
  options.http.max_connections_per_address = 2;
  TestServer server(options);
  for (int round = 0; round < 3; ++round) {
    Client first(server.port());
    Client second(server.port());
    CHECK(eventually([&] { return server.http().num_connections() == 2; }));
    CHECK(status_of_answer(ask(server.port(), "")) == 503);
    first.close();
    second.close();
    CHECK(eventually([&] { return server.http().num_connections() == 0; }));
  }
  CHECK(status_of_answer(ask(server.port(), get("/health"))) == 200);
}

TEST_CASE("a request that takes too long is ended: 504, or an error in its stream") {
  TestServer server({.step_seconds = 0.002, .max_request_seconds = 0.1});
  CHECK(status_of_answer(ask(server.port(), post("/v1/completions", completion(1, 5, false)))) ==
        200);
  CHECK(status_of_answer(ask(server.port(), post("/v1/completions", completion(1, 4000, false)))) ==
        504);
  const std::string stream = ask(server.port(), post("/v1/completions", completion(1, 4000, true)));
  CHECK(status_of_answer(stream) == 200);
  CHECK(stream.find("not finished within its 0.1 s") != stream.npos);
  CHECK(has_no_work(server));
}

TEST_CASE("every answer is logged, with what came instead of a request") {
  std::mutex mutex;
  std::vector<std::string> lines;
  TestServer::Options options;
  options.http.log = [&](const HttpLogEntry& entry) {
    const std::lock_guard lock(mutex);
    CHECK(entry.client.starts_with("127.0.0.1:"));
    lines.push_back(fmt::format("{} {} {}", entry.method, entry.path, entry.status));
  };
  TestServer server(options);
  ask(server.port(), get("/health?a=b"));
  ask(server.port(), post("/v1/completions", completion(1, 3, true)));
  ask(server.port(), post("/v1/completions", "{"));
  ask(server.port(), "HEAD /nowhere HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
  ask(server.port(), "nonsense\r\n\r\n");
  const std::lock_guard lock(mutex);
  CHECK(lines == std::vector<std::string>{"GET /health 200", "POST /v1/completions 200",
                                          "POST /v1/completions 400", "HEAD /nowhere 404",
                                          "  400"});
}

TEST_CASE("a log that nobody reads holds nobody up, and says what it lost") {
  int ends[2];
  REQUIRE(::pipe2(ends, O_CLOEXEC) == 0);
  {
    ServerLog log(ends[1]);
    const std::string text(1000, 'x');
    for (int i = 0; i < 3000; ++i) log.line(text);
    std::string read;
    const auto read_until = [&](const std::string& end) {
      char buffer[65536];
      while (read.find(end) == read.npos) {
        const ssize_t count = ::read(ends[0], buffer, sizeof(buffer));
        if (count <= 0) break;
        read.append(buffer, static_cast<std::size_t>(count));
      }
    };
    read_until("lines of the log were dropped: it is not read\n");
    log.line("two\nlines\x1b[31m");
    read_until("two?lines?[31m\n");
    for (int i = 0; i < 100; ++i) log.line(text);  // the pipe is full at the end: nothing hangs
  }
  ::close(ends[0]);
  ::close(ends[1]);
}

TEST_CASE("clients with different keys do not share a prefix cache") {
  const auto with_key = [](const std::string& key) {
    return HttpRequest{.method = "POST",
                       .path = "/v1/completions",
                       .client = {},
                       .headers = {{"authorization", "Bearer " + key}},
                       .body = {}};
  };
  const auto access = [](std::vector<std::string> keys) {
    ApiAccess::Options options;
    options.api_keys = std::move(keys);
    return ApiAccess(options);
  };
  const ApiAccess two = access({"one", "two"});
  CHECK(two.tenant(with_key("one")) != two.tenant(with_key("two")));
  CHECK(two.tenant(with_key("one")) == two.tenant(with_key("one")));
  CHECK(two.tenant(with_key("one")) != 0);
  CHECK(access({"one"}).tenant(with_key("one")) == 0);
  CHECK(access({}).tenant(with_key("one")) == 0);
}

// Fails in its third step, with a message that is not for clients.
class FailingEngine final : public NullEngine {
 public:
  FailingEngine() : NullEngine({.step_seconds = 0.001}) {}
  void step() override {
    if (++num_steps_ == 3) throw Error(ErrorKind::kInternal, "/home/someone/secret");
    NullEngine::step();
  }

 private:
  int num_steps_ = 0;
};

TEST_CASE("R11, R15: /health says 503 while a step takes too long, and 200 when it has ended") {
  TestServer server({.step_seconds = 1.0, .stall_timeout_s = 0.05});
  Client client(server.port());
  client.send(post("/v1/completions", completion(1, 1, false)));
  std::string answer;
  CHECK(eventually([&] {
    answer = ask(server.port(), get("/health"));
    return status_of_answer(answer) == 503;
  }));
  CHECK(answer.find(R"("status":"stalled")") != answer.npos);
  CHECK(status_of_answer(client.read_all()) == 200);
  CHECK(eventually([&] { return status_of_answer(ask(server.port(), get("/health"))) == 200; }));
}

TEST_CASE("R16: a server whose KV blocks do not add up takes no more requests, and says so") {
  TestEngine engine({});
  BlockTable lost;  // before the server's engine thread runs, which looks when it has nothing to do
  REQUIRE(engine.kv_cache().grow(lost, 20));
  TestServer server({}, &engine.engine());
  const std::string request = post("/v1/completions", R"({"prompt":[5,6,7],"max_tokens":4})");
  CHECK(eventually([&] { return !server.engine().status().leak.empty(); }));
  CHECK(status_of_answer(ask(server.port(), request)) == 503);
  const std::string health = ask(server.port(), get("/health"));
  CHECK(status_of_answer(health) == 503);
  CHECK(health.find("degraded") != health.npos);
}

TEST_CASE("an engine that fails: clients are told so, and nothing of where or why") {
  for (const bool stream : {false, true}) {
    FailingEngine engine;
    TestServer server({}, &engine);
    const std::string answer =
        ask(server.port(), post("/v1/completions", completion(1, 50, stream)));
    CHECK(answer.find("internal error") != answer.npos);
    CHECK(answer.find("secret") == answer.npos);
    CHECK(status_of_answer(ask(server.port(), get("/health"))) == 503);
    CHECK(status_of_answer(ask(server.port(), post("/v1/completions", completion(1, 5, false)))) ==
          503);
  }
}

}  // namespace
}  // namespace llmrun
