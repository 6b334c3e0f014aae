// What HTTP/1.1 forbids and what two programs could read differently, and odd twins that are right:
// each cut in two at every byte, with another request behind it. What is wrong gets one refusal and
// its connection is closed, so that the request behind it is not seen; behind what is right it is.
#include <algorithm>
#include <string>
#include <vector>

#include <doctest/doctest.h>
#include <fmt/format.h>

#include "tests/tools/serve/test_server.h"

namespace llmrun {
namespace {

using namespace testing;
using namespace std::string_literals;

constexpr int kClosed = 0;  // added to a status: whatever is behind it is not answered
constexpr int kGoesOn = 1000;
constexpr const char* kServer = "\r\nServer: llmrun\r\n";  // once in each answer

struct CorpusCase {
  std::string request;
  int outcome = 0;  // the status, and kClosed or kGoesOn
};

const std::string kBody = R"({"prompt":[1],"max_tokens":1})";

// A request without a body that has this header beside its Host.
std::string with_header(const std::string& header) {
  return "GET /health HTTP/1.1\r\nHost: localhost\r\n" + header + "\r\n\r\n";
}

std::string with_line(const std::string& request_line) {
  return request_line + "\r\nHost: localhost\r\n\r\n";
}

// A completion whose body is framed by these headers.
std::string with_body(const std::string& headers, const std::string& body) {
  return "POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n" +
         headers + "\r\n\r\n" + body;
}

std::string chunked(const std::string& body) {
  return with_body("Transfer-Encoding: chunked", body);
}

// The whole body as one chunk, then what follows it.
std::string one_chunk(const std::string& size_suffix, const std::string& end,
                      const std::string& rest) {
  return chunked(fmt::format("{:x}{}{}{}{}", kBody.size(), size_suffix, "\r\n", kBody, end) + rest);
}

void check(const std::vector<CorpusCase>& cases, std::size_t stride = 1) {
  TestServer server({.step_seconds = 0});
  const std::string behind = get("/version");
  for (const auto& [request, outcome] : cases) {
    CAPTURE(request.substr(0, 200));
    for (std::size_t cut = 1; cut <= request.size(); cut += stride) {
      CAPTURE(cut);
      Client client(server.port());
      client.send(request.substr(0, cut));
      client.send(request.substr(cut) + behind);
      const std::string answer = client.read_all();
      REQUIRE(client.has_ended());
      REQUIRE(status_of_answer(answer) == outcome % kGoesOn);
      REQUIRE((answer.find("\"version\"") != answer.npos) == (outcome >= kGoesOn));
      if (outcome < kGoesOn) REQUIRE(answer.find(kServer) == answer.rfind(kServer));
    }
  }
  CHECK(eventually([&] { return server.http().num_connections() == 0; }));
}

TEST_CASE("raw HTTP: request lines") {
  check({
      {with_line("GET /health HTTP/1.1"), kGoesOn + 200},
      {with_line("GET /health?a=b HTTP/1.1"), kGoesOn + 200},
      {with_line("GET /nowhere HTTP/1.1"), kGoesOn + 404},
      {with_line("BREW /health HTTP/1.1"), kGoesOn + 405},
      {"GET /health HTTP/1.0\r\n\r\n", kClosed + 200},
      {"GET /health HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", kGoesOn + 200},
      {"GET /health\r\n\r\n", kClosed + 400},  // HTTP/0.9
      {with_line("GET /health"), kClosed + 400},
      {with_line("GET  /health HTTP/1.1"), kClosed + 400},
      {with_line("GET /health  HTTP/1.1"), kClosed + 400},
      {with_line("GET /health HTTP/1.1 "), kClosed + 400},
      {with_line(" GET /health HTTP/1.1"), kClosed + 400},
      {with_line("GET /he alth HTTP/1.1"), kClosed + 400},
      {with_line("GET\t/health\tHTTP/1.1"), kClosed + 400},
      {with_line("G(T /health HTTP/1.1"), kClosed + 400},
      {with_line("GET http://localhost/health HTTP/1.1"), kClosed + 400},
      {with_line("GET localhost HTTP/1.1"), kClosed + 400},
      {with_line("OPTIONS * HTTP/1.1"), kClosed + 400},
      {with_line("CONNECT localhost:1 HTTP/1.1"), kClosed + 400},
      {with_line("GET /health http/1.1"), kClosed + 400},
      {with_line("GET /health HTTP/2.0"), kClosed + 505},
      {with_line("GET /health HTTP/1.2"), kClosed + 505},
      {with_line("GET /health HTTP/1.1x"), kClosed + 505},
      {with_line("GET /he\0alth HTTP/1.1"s), kClosed + 400},
      {with_line("GET /he\x7f"s + "alth HTTP/1.1"), kClosed + 400},
      {"\r\n" + with_line("GET /health HTTP/1.1"), kClosed + 400},
      {"GET /health HTTP/1.1\nHost: localhost\n\n", kClosed + 400},
      {"GET /health HTTP/1.1\nHost: localhost\r\n\r\n", kClosed + 400},
      {"GET /health HTTP/1.1\r\nHost: localhost\n\r\n", kClosed + 400},
      {"GET /health HTTP/1.1\r\rHost: localhost\r\n\r\n", kClosed + 400},
  });
}

TEST_CASE("raw HTTP: headers") {
  check({
      {with_header("X:"), kGoesOn + 200},
      {with_header("x-y:\tz "), kGoesOn + 200},
      {with_header("X: \xc3\xa9"), kGoesOn + 200},
      {with_header("Upgrade: h2c\r\nConnection: Upgrade"), kGoesOn + 200},  // not taken up
      {with_header("Range: bytes=0-1"), kGoesOn + 200},
      {with_header("Connection: close"), kClosed + 200},
      {with_header("Content-Encoding: gzip"), kClosed + 415},
      {with_header("X: a\r\n b"), kClosed + 400},
      {with_header("X: a\r\n\tb"), kClosed + 400},
      {"GET /health HTTP/1.1\r\n X: a\r\nHost: localhost\r\n\r\n", kClosed + 400},
      {with_header("X : a"), kClosed + 400},
      {with_header("X\t: a"), kClosed + 400},
      {with_header(": a"), kClosed + 400},
      {with_header("X"), kClosed + 400},
      {with_header("X(Y): a"), kClosed + 400},
      {with_header("X\xc3\xa9: a"), kClosed + 400},
      {with_header("X: a\rb"), kClosed + 400},
      {with_header("X: a\0b"s), kClosed + 400},
      {with_header("X: a\x01"), kClosed + 400},
      {with_header("X: a\x7f"), kClosed + 400},
      {"GET /health HTTP/1.1\r\n\r\n", kClosed + 400},  // no Host
      {"GET /health HTTP/1.1\r\nX: a\r\n\r\n", kClosed + 400},
      {with_header("Host: localhost"), kClosed + 400},
      {"GET /health HTTP/1.1\r\nHost: elsewhere\r\n\r\n", kGoesOn + 403},
      {"GET /health HTTP/1.1\r\nHost: localhost@elsewhere\r\n\r\n", kGoesOn + 403},
  });
}

TEST_CASE("raw HTTP: lengths of bodies") {
  const std::string length = fmt::format("Content-Length: {}", kBody.size());
  check({
      {with_body(length, kBody), kGoesOn + 200},
      {with_body(fmt::format("content-length:{}", kBody.size()), kBody), kGoesOn + 200},
      {with_body(fmt::format("Content-Length: 000{}", kBody.size()), kBody), kGoesOn + 200},
      {"GET /health HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\r\nhello", kGoesOn + 200},
      {with_body(length + "\r\nTransfer-Encoding: chunked", "0\r\n\r\n"), kClosed + 400},
      {with_body("Transfer-Encoding: chunked\r\n" + length, "0\r\n\r\n"), kClosed + 400},
      {with_body(length + "\r\n" + length, kBody), kClosed + 400},
      {with_body("Content-Length: 0\r\n" + length, kBody), kClosed + 400},
      {with_body("Content-Length: +5", "hello"), kClosed + 400},
      {with_body("Content-Length: -5", "hello"), kClosed + 400},
      {with_body("Content-Length: 5 5", "hello"), kClosed + 400},
      {with_body("Content-Length: 5, 5", "hello"), kClosed + 400},
      {with_body("Content-Length: 0x5", "hello"), kClosed + 400},
      {with_body("Content-Length: 5.0", "hello"), kClosed + 400},
      {with_body("Content-Length: ", "hello"), kClosed + 400},
      {with_body("Content-Length : 5", "hello"), kClosed + 400},
      {with_body("Content-Length: 18446744073709551621", "hello"), kClosed + 400},
      {with_body("Content-Length: 999999999999999999", "hello"), kClosed + 413},
      {with_body("Content-Length: 16777217", "hello"), kClosed + 413},
      {with_body("Transfer-Encoding: gzip", "hello"), kClosed + 501},
      {with_body("Transfer-Encoding: gzip, chunked", "0\r\n\r\n"), kClosed + 501},
      {with_body("Transfer-Encoding: chunked, identity", "0\r\n\r\n"), kClosed + 501},
      {with_body("Transfer-Encoding: chunked, chunked", "0\r\n\r\n"), kClosed + 501},
      {with_body("Transfer-Encoding: xchunked", "0\r\n\r\n"), kClosed + 501},
      {with_body("Transfer-Encoding: \"chunked\"", "0\r\n\r\n"), kClosed + 501},
      {with_body("Transfer-Encoding:", "0\r\n\r\n"), kClosed + 501},
      {with_body("Transfer-Encoding: \x0b"
                 "chunked",
                 "0\r\n\r\n"),
       kClosed + 400},
      {with_body("Transfer-Encoding : chunked", "0\r\n\r\n"), kClosed + 400},
      {with_body("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked", "0\r\n\r\n"),
       kClosed + 400},
      {"POST /v1/completions HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
       kClosed + 400},
  });
}

TEST_CASE("raw HTTP: chunks") {
  const std::string end = "\r\n0\r\n\r\n";
  check({
      {one_chunk("", end, ""), kGoesOn + 200},
      {one_chunk(";a=b;c", end, ""), kGoesOn + 200},
      {one_chunk(";a=\"b;c\"", end, ""), kGoesOn + 200},
      {chunked(fmt::format("000{:X}\r\n{}{}", kBody.size(), kBody, end)), kGoesOn + 200},
      {chunked(fmt::format("1\r\n{}\r\n{:x}\r\n{}\r\n00\r\n\r\n", kBody[0], kBody.size() - 1,
                           kBody.substr(1))),
       kGoesOn + 200},
      {with_body("transfer-encoding: CHUNKED",
                 fmt::format("{:x}\r\n{}{}", kBody.size(), kBody, end)),
       kGoesOn + 200},
      {chunked("+2\r\n{}" + end), kClosed + 400},
      {chunked("-2\r\n{}" + end), kClosed + 400},
      {chunked("0x2\r\n{}" + end), kClosed + 400},
      {chunked(" 2\r\n{}" + end), kClosed + 400},
      {chunked("g\r\n{}" + end), kClosed + 400},
      {chunked("\r\n{}" + end), kClosed + 400},
      {chunked(";a\r\n{}" + end), kClosed + 400},
      {chunked("fffffffffffffffff\r\n{}" + end), kClosed + 400},
      {chunked("10000000000000002\r\n{}" + end), kClosed + 400},
      {chunked("2\n{}" + end), kClosed + 400},
      {chunked("2;a\n{}" + end), kClosed + 400},
      {chunked("2\r{}" + end), kClosed + 400},
      {chunked("2\r\n{}\n0\r\n\r\n"), kClosed + 400},
      {chunked("2\r\n{}x" + end), kClosed + 400},
      {chunked("2\r\n{}0\r\n\r\n"), kClosed + 400},
      {chunked("2\r\n{}\r\n0\r\nX: y\r\n\r\n"), kClosed + 400},
      {chunked("2\r\n{}\r\n0\r\nContent-Length: 9\r\n\r\n"), kClosed + 400},
      {chunked("2\r\n{}\r\n0\n\n"), kClosed + 400},
      {chunked("fffffff\r\n{}"), kClosed + 413},
  });
}

TEST_CASE("raw HTTP: what is too long") {
  std::string many;
  for (int i = 0; i < 101; ++i) many += "X: a\r\n";
  check({{with_line("GET /" + std::string(8200, 'a') + " HTTP/1.1"), kClosed + 431},
         {with_header("X: " + std::string(8200, 'a')), kClosed + 431},
         {with_header(std::string(8200, 'a') + ": X"), kClosed + 431},
         {with_header(many + "Y: b"), kClosed + 431},
         {std::string(40'000, 'a'), kClosed + 431},
         {with_header("X: " + std::string(8000, 'a')), kGoesOn + 200}},
        97);
}

}  // namespace
}  // namespace llmrun
