// What is refused of a request's head, and its twins that must be taken (RFC 9112).
#include "tools/serve/http_message.h"

#include <string>

#include <doctest/doctest.h>

namespace llmrun {
namespace {

int status_of_head(const std::string& head, const HttpLimits& limits = {}) {
  const auto problem = check_request_head(head, limits);
  return problem ? problem->status : 200;
}
std::string with(const std::string& header) {
  return "POST /v1/completions HTTP/1.1\r\nHost: localhost\r\n" + header + "\r\n\r\n";
}

TEST_CASE("heads that two readers could read differently are refused") {
  CHECK(status_of_head(with("Content-Length: 5\r\nTransfer-Encoding: chunked")) == 400);
  CHECK(status_of_head(with("Content-Length: 5\r\nContent-Length: 5")) == 400);
  for (const char* length : {"+5", "-5", "5 5", "5,5", "0x5", "", "5a", "9999999999999999999"}) {
    CAPTURE(length);
    CHECK(status_of_head(with(std::string("Content-Length: ") + length)) == 400);
  }
  for (const char* encoding : {"gzip", "chunked, chunked", "gzip, chunked", "xchunked", ""}) {
    CAPTURE(encoding);
    CHECK(status_of_head(with(std::string("Transfer-Encoding: ") + encoding)) == 501);
  }
  CHECK(status_of_head(with("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked")) == 400);
  CHECK(status_of_head(with("Content-Length : 5")) == 400);
  CHECK(status_of_head(with("X: a\r\n b")) == 400);
  CHECK(status_of_head(with("X: a\rb")) == 400);
  CHECK(status_of_head(with(std::string("X: a\0b", 6))) == 400);
  CHECK(status_of_head(with("no colon")) == 400);
  CHECK(status_of_head(with("Host: other")) == 400);
  CHECK(status_of_head(with("Content-Encoding: gzip")) == 415);
  CHECK(status_of_head("GET / HTTP/1.1\r\n\r\n") == 400);
  CHECK(status_of_head("GET /\r\n\r\n") == 400);
  CHECK(status_of_head("GET  / HTTP/1.1\r\nHost: a\r\n\r\n") == 400);
  CHECK(status_of_head("GET http://a/ HTTP/1.1\r\nHost: a\r\n\r\n") == 400);
  CHECK(status_of_head("GET / HTTP/2.0\r\nHost: a\r\n\r\n") == 505);
  CHECK(status_of_head("\r\n\r\n") == 400);
  CHECK(has_bare_line_feed("a\nb", 'x'));
  CHECK(has_bare_line_feed("\nb", 'x'));
  CHECK_FALSE(has_bare_line_feed("\nb", '\r'));
}

TEST_CASE("odd heads that are right are taken") {
  CHECK(status_of_head(with("Content-Length: 5")) == 200);
  CHECK(status_of_head(with("content-length:5")) == 200);
  CHECK(status_of_head(with("Transfer-Encoding: CHUNKED")) == 200);
  CHECK(status_of_head(with("Content-Encoding: identity")) == 200);
  CHECK(status_of_head(with("X-Empty:")) == 200);
  CHECK(status_of_head("GET /health HTTP/1.0\r\n\r\n") == 200);
}

TEST_CASE("lines, headers and their number are bounded") {
  CHECK(status_of_head(with("X: " + std::string(8200, 'a'))) == 431);
  CHECK(status_of_head(with("X: " + std::string(8100, 'a'))) == 200);
  std::string many;
  for (int i = 0; i < 98; ++i) many += "X: a\r\n";
  CHECK(status_of_head(with(many + "Y: b")) == 200);
  CHECK(status_of_head(with(many + "Y: b\r\nZ: c")) == 431);
}

}  // namespace
}  // namespace llmrun
