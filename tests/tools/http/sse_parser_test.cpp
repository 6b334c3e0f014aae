#include "tools/http/sse_parser.h"

#include <string>
#include <vector>

#include <doctest/doctest.h>

#include "engine/core/error.h"
#include "tools/http/url.h"

namespace llmrun {
namespace {

std::vector<std::string> events_of(const std::vector<std::string_view>& pieces) {
  SseParser parser;
  std::vector<std::string> events;
  for (const std::string_view piece : pieces) {
    CHECK(parser.feed(piece, [&](std::string_view data) { events.emplace_back(data); }));
  }
  return events;
}

TEST_CASE("SSE: any two cuts of a stream give the same events") {
  const std::string stream =
      "\xef\xbb\xbf"
      ": comment\n\ndata: one\n\ndata:two\r\ndata: lines\r\n\r\nevent: x\ndata:  three\rid: 1\r\r"
      "data\n\ndatax: no\n\ndata: [DONE]\n\ndata: unfinished\n";
  const std::vector<std::string> expected = {"one", "two\nlines", " three", "", "[DONE]"};
  CHECK(events_of({stream}) == expected);
  for (std::size_t i = 0; i <= stream.size(); ++i) {
    for (std::size_t k = i; k <= stream.size(); ++k) {
      const std::string_view text = stream;
      const auto events = events_of({text.substr(0, i), text.substr(i, k - i), text.substr(k)});
      if (events != expected) FAIL("cut at ", i, " and ", k);
    }
  }
}

TEST_CASE("SSE: an event without end is bounded") {
  SseParser parser;
  const std::string piece(1 << 16, 'x');
  bool in_bounds = true;
  int count = 0;
  while (in_bounds && count < 1000) {
    in_bounds = parser.feed(piece, [](std::string_view) {});
    ++count;
  }
  CHECK(count == 17);
  CHECK_FALSE(parser.feed("\n\n", [](std::string_view) { FAIL("no event may come"); }));
}

TEST_CASE("HTTP URLs") {
  const HttpUrl plain = parse_http_url("http://example.org", "--base-url");
  CHECK(plain.host == "example.org");
  CHECK(plain.port == "80");
  CHECK(plain.path.empty());
  CHECK(plain.authority() == "example.org");
  const HttpUrl full = parse_http_url("https://[::1]:8443/api/", "--base-url");
  CHECK(full.host == "::1");
  CHECK(full.is_tls());
  CHECK(full.text() == "https://[::1]:8443/api");
  for (const char* bad :
       {"", "example.org", "ftp://a", "http://", "http://a:0", "http://a:99999", "http://a:x",
        "http://u@a", "http://a?b", "http://[::1", "http://a b", "http://a/b c", "http://[::1]x"}) {
    CAPTURE(bad);
    CHECK_THROWS_AS(static_cast<void>(parse_http_url(bad, "--base-url")), Error);
  }
}

}  // namespace
}  // namespace llmrun
