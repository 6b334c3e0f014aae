// Rules S01 to S11 of a request's fields: what is out of bounds is a 400 that names its field, and
// its twin at the bound is served.
#include <string>
#include <vector>

#include <doctest/doctest.h>
#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "tests/tools/serve/test_server.h"

namespace llmrun {
namespace {

using namespace testing;

struct Answer {
  int status = 0;
  nlohmann::json body;
};

Answer ask_json(TestServer& server, const std::string& path, const std::string& body) {
  const std::string answer = ask(server.port(), post(path, body));
  return {status_of_answer(answer),
          nlohmann::json::parse(answer.substr(answer.find("\r\n\r\n") + 4), nullptr, false)};
}

// `count` times `element`, with commas between.
std::string repeated(const std::string& element, int count) {
  std::string list;
  for (int i = 0; i < count; ++i) list += (i == 0 ? "" : ",") + element;
  return list;
}

std::string letters(int count) {
  return fmt::format("\"{}\"", std::string(static_cast<std::size_t>(count), 'a'));
}

std::string biases(int count) {
  std::string list;
  for (int i = 0; i < count; ++i) list += fmt::format("{}\"{}\":1", i == 0 ? "" : ",", i);
  return list;
}

TEST_CASE("S01-S07: a parameter out of bounds is named") {
  TestServer server({.step_seconds = 0});
  struct Case {
    std::string fields;
    std::string param;
  };
  const std::vector<Case> cases = {
      {R"("n":129)", "n"},
      {R"("n":-1)", "n"},
      {R"("best_of":129)", "best_of"},
      {R"("n":3,"best_of":2)", "best_of"},
      {R"("n":100,"max_tokens":4096,"best_of":128)", ""},  // 524,288: served
      {R"("max_tokens":4097)", "max_tokens"},
      {R"("max_tokens":0)", "max_tokens"},
      {R"("min_tokens":4097,"max_tokens":null)", "min_tokens"},
      {R"("min_tokens":5,"max_tokens":4)", "min_tokens"},
      {R"("max_tokens":4294967297)", "max_tokens"},  // would be 1 in 32 bits
      {R"("max_tokens":1.0)", "max_tokens"},
      {R"("max_tokens":true)", "max_tokens"},
      {R"("seed":18446744073709551616)", "seed"},
      {R"("top_k":9223372036854775808)", "top_k"},
      {R"("temperature":100.5)", "temperature"},
      {R"("temperature":"1")", "temperature"},
      {R"("top_p":0)", "top_p"},
      {R"("min_p":1.1)", "min_p"},
      {R"("presence_penalty":2.1)", "presence_penalty"},
      {R"("frequency_penalty":-2.1)", "frequency_penalty"},
      {R"("repetition_penalty":0)", "repetition_penalty"},
      {R"("logprobs":101)", "logprobs"},
      {R"("logprobs":100)", ""},
      {R"("stop":[)" + repeated("\"a\"", 17) + "]", "stop"},
      {R"("stop":[)" + repeated(letters(1024), 5) + "]", "stop"},
      {R"("stop":)" + letters(1025), "stop"},
      {R"("stop":"")", "stop"},
      {R"("logit_bias":{)" + biases(1025) + "}", "logit_bias"},
      {R"("logit_bias":{)" + biases(1024) + "}", ""},
      {R"("logit_bias":{"32000":1})", "logit_bias"},
      {R"("stop_token_ids":[32000])", "stop_token_ids"},
      {R"("allowed_token_ids":[-1])", "allowed_token_ids"},
      {R"("prompt_logprobs":101)", "prompt_logprobs"},
      {R"("prompt_logprobs":-1)", "prompt_logprobs"},
      {R"("logprobs":-1)", "logprobs"},
      {R"("prompt_embeds":"AAAA")", "prompt_embeds"},
  };
  for (const auto& [fields, param] : cases) {
    CAPTURE(fields.substr(0, 80));
    const Answer answer = ask_json(server, "/v1/completions", R"({"prompt":[1,2],)" + fields + "}");
    CHECK(answer.status == (param.empty() ? 200 : 400));
    if (!param.empty()) CHECK(answer.body["error"]["param"] == param);
  }
}

TEST_CASE("S01: without max_tokens all samples together have a bound too") {
  const auto max_tokens = [&](int n) {
    ApiRequest request;
    const auto error = parse_api_request(
        ApiEndpoint::kChatCompletions,
        {{"messages", {{{"role", "user"}, {"content", "a"}}}}, {"n", n}, {"temperature", 1}}, {},
        131'072, request);
    REQUIRE_FALSE(error.has_value());
    return request.sampling().max_tokens;
  };
  CHECK_FALSE(max_tokens(1).has_value());
  CHECK_FALSE(max_tokens(7).has_value());
  CHECK(max_tokens(8) == 125'000);
  CHECK(max_tokens(128) == 7812);
}

TEST_CASE("S06, S08, S09: prompts") {
  TestServer server({.step_seconds = 0});
  const auto check = [&](const std::string& path, const std::string& body,
                         const std::string& param) {
    CAPTURE(body.substr(0, 80));
    const Answer answer = ask_json(server, path, body);
    CHECK(answer.status == (param.empty() ? 200 : 400));
    if (!param.empty()) CHECK(answer.body["error"]["param"] == param);
  };
  const std::string completions = "/v1/completions";
  check(completions, R"({"prompt":[)" + repeated("[1]", 1025) + R"(],"max_tokens":1})", "prompt");
  check(completions, R"({"prompt":[)" + repeated("[1]", 1024) + R"(],"max_tokens":1})", "");
  check(completions, R"({"prompt":""})", "prompt");
  check(completions, R"({"prompt":[]})", "prompt");
  check(completions, R"({"prompt":[[]]})", "prompt");
  check(completions, R"({"prompt":[32000]})", "prompt");
  check(completions, R"({"prompt":[-1]})", "prompt");
  check(completions, R"({"prompt":[1.0]})", "prompt");
  check(completions, R"({"prompt":null})", "prompt");
  check(completions, R"({"prompt":)" + letters(4096 * 256 + 1) + "}", "prompt");
  check(completions, R"({"prompt":[)" + repeated("1", 4096) + "]}", "prompt");
  const std::string chat = "/v1/chat/completions";
  const std::string message = R"({"role":"user","content":"a"})";
  check(chat, R"({"messages":[)" + repeated(message, 4097) + "]}", "messages");
  check(chat, R"({"messages":[]})", "messages");
  check(chat, R"({"messages":[{"role":"user"}]})", "messages");
  check(chat, R"({"messages":[{"role":"","content":"a"}]})", "messages");
  check(chat, R"({"messages":[)" + message + R"(],"logprobs":true,"top_logprobs":21})", "logprobs");
  // S22, S33: neither a template nor anything to fetch comes with a request.
  check(chat, R"({"messages":[)" + message + R"(],"chat_template":"{{ 1 }}"})", "chat_template");
  check(chat,
        R"({"messages":[{"role":"user","content":[{"type":"image_url","image_url":"http://a"}]}]})",
        "messages");
  check(chat, R"({"messages":[)" + message + R"(],"chat_template_kwargs":{"a":[1]}})",
        "chat_template_kwargs");
}

TEST_CASE("S18: a body must say that it is JSON; curl's guide to /generate need not") {
  TestServer server({.step_seconds = 0});
  const auto status = [&](const std::string& path, const std::string& headers) {
    const std::string body = completion(1, 2, false);
    return status_of_answer(ask(
        server.port(), fmt::format("POST {} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{}"
                                   "Content-Length: {}\r\n\r\n{}",
                                   path, headers, body.size(), body)));
  };
  const std::string form = "Content-Type: application/x-www-form-urlencoded\r\n";
  CHECK(status("/v1/completions", "Content-Type: application/json; charset=utf-8\r\n") == 200);
  CHECK(status("/v1/completions", "") == 415);
  CHECK(status("/v1/completions", "Content-Type: text/plain\r\n") == 415);
  CHECK(status("/v1/completions", form) == 415);
  CHECK(status("/generate", form) == 200);
  CHECK(status("/generate", form + "Origin: http://localhost\r\n") != 200);
}

TEST_CASE("S34: what a client sent comes back cut and escaped, and nothing of the server's own") {
  TestServer server({.step_seconds = 0});
  const std::string name(4000, 'x');
  const Answer answer =
      ask_json(server, "/v1/completions", R"({"prompt":[1],"\u0007<b>)" + name + R"(":1})");
  CHECK(answer.status == 400);
  const std::string message = answer.body["error"]["message"];
  CHECK(message.size() < 300);
  CHECK(message.find('\a') == message.npos);
  CHECK(message.find(LLMRUN_SOURCE_DIR) == message.npos);
}

}  // namespace
}  // namespace llmrun
