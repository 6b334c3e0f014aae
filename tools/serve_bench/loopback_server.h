// A server that answers at once what its owner says: the null engine behind HTTP, and the other
// end in tests. One thread; requests are only cut at their Content-Length.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "tools/http/url.h"

namespace llmrun {

class LoopbackServer {
 public:
  // Returns the bytes to send, head included. An empty answer closes the connection, and so does
  // one with the header "Connection: close", after it is sent.
  using Respond = std::function<std::string(std::string_view head, std::string_view body)>;

  // Listens on a free port of 127.0.0.1.
  explicit LoopbackServer(Respond respond);
  ~LoopbackServer();

  HttpUrl url() const;
  std::int64_t num_requests() const;

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

// Answers a streamed completion with max_tokens tokens, an event each, and the usage event.
std::string null_completion(std::string_view head, std::string_view body);

}  // namespace llmrun
