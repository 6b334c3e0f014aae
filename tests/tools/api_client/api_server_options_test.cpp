#include "tools/api_client/api_server_options.h"

#include <atomic>
#include <cstdlib>
#include <memory>
#include <string>

#include <doctest/doctest.h>
#include <fmt/format.h>

#include "engine/core/error.h"
#include "tools/api_client/api_failure.h"
#include "tools/serve_bench/loopback_server.h"

namespace llmrun {
namespace {

std::string answer(int status, const std::string& body) {
  return fmt::format("HTTP/1.1 {} X\r\nContent-Length: {}\r\n\r\n{}", status, body.size(), body);
}

constexpr const char* kModels = R"({"object":"list","data":[{"id":"first"},{"id":"second"}]})";

std::string error_of(const ApiServerOptions& options) {
  try {
    find_api_server(options, "");
  } catch (const Error& error) {
    return error.what();
  }
  return "no error";
}

bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

TEST_CASE("Api server: address, key, headers and model") {
  std::string seen_head;
  LoopbackServer server([&](std::string_view head, std::string_view) {
    seen_head = head;
    return answer(200, kModels);
  });
  ApiServerOptions options;
  options.base_url = server.url().text() + "/v1";
  options.headers = {"X-Team=a=b"};
  options.extra_body = R"({"top_k": 3})";
  ::setenv("OPENAI_API_KEY", "sk-test", 1);
  const RemoteServer found = find_api_server(options, "");
  ::unsetenv("OPENAI_API_KEY");
  CHECK(found.base_url.text() == server.url().text());
  CHECK(found.model == "first");
  CHECK(found.extra_body == nlohmann::json{{"top_k", 3}});
  CHECK(contains(seen_head, "GET /v1/models HTTP/1.1"));
  CHECK(contains(seen_head, "Authorization: Bearer sk-test"));
  CHECK(contains(seen_head, "X-Team: a=b"));

  CHECK(find_api_server(options, "mine").model == "mine");
  CHECK_FALSE(contains(seen_head, "Authorization"));
  options.served_model_name = "served";
  CHECK(find_api_server(options, "mine").model == "served");
}

TEST_CASE("Api server: what is wrong is told") {
  std::string body = R"({"error": {"message": "wrong key"}})";
  int status = 401;
  LoopbackServer server([&](std::string_view, std::string_view) { return answer(status, body); });
  ApiServerOptions options;
  options.base_url = server.url().text();
  CHECK(contains(error_of(options), "/v1/models: status 401: wrong key"));
  status = 200;
  body = R"({"data": []})";
  CHECK(contains(error_of(options), "no model is served"));
  body = "<html>";
  CHECK(contains(error_of(options), "/v1/models"));
  options.extra_body = "[1]";
  CHECK(contains(error_of(options), "--extra-body"));
  options.extra_body = "";
  options.headers = {"nonsense"};
  CHECK(contains(error_of(options), "--header: 'nonsense': expected NAME=VALUE"));
  options.headers.clear();
  options.base_url = "ftp://a";
  CHECK(contains(error_of(options), "--base-url"));
  options.base_url = "http://127.0.0.1:1";
  CHECK(contains(error_of(options), "127.0.0.1:1"));
}

TEST_CASE("Api server: a server that starts late is waited for") {
  const auto count = std::make_shared<std::atomic<int>>(0);
  LoopbackServer server([count](std::string_view, std::string_view) {
    return (*count)++ < 2 ? std::string() : answer(200, kModels);
  });
  ApiServerOptions options;
  options.base_url = server.url().text();
  CHECK(error_of(options) != "no error");
  options.ready_timeout_s = 30;
  CHECK(find_api_server(options, "").model == "first");
}

TEST_CASE("Api failure: the message of an error body") {
  CHECK(error_message_of("plain words") == "plain words");
  CHECK(error_message_of(R"({"error": {"message": "a", "code": 1}})") == "a");
  CHECK(error_message_of(R"({"error": "b"})") == "b");
  CHECK(error_message_of(R"({"object": "error", "message": "c"})") == "c");
  CHECK(error_message_of(R"({"detail": [{"loc": 1}]})") == R"([{"loc":1}])");
  CHECK(error_message_of(R"({"error": {"code": 5}})") == R"({"code":5})");
  // Cut at a whole character.
  std::string euros;
  for (int i = 0; i < 200; ++i) euros += "\xE2\x82\xAC";
  CHECK(error_message_of("x" + euros).size() == 298);
  CHECK(
      failure_of(HttpClientResponseHead{.status = 429, .content_type = "", .retry_after_s = 3}, "")
          .can_retry);
  CHECK_FALSE(failure_of(HttpClientResponseHead{.status = 404, .content_type = ""}, "").can_retry);
}

}  // namespace
}  // namespace llmrun
