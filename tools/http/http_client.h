// An asynchronous HTTP/1.1 client: any number of requests at once on one thread's io_context,
// connections kept alive and reused, response bodies handed out as they come.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <boost/asio/io_context.hpp>

#include "tools/http/url.h"

namespace llmrun {

// Why an exchange ended without a whole response.
enum class HttpFailure : std::uint8_t {
  kNone,
  kConnect,       // no connection
  kTimeout,       // nothing came for HttpClient::Options::timeout
  kDisconnected,  // the server closed in the middle of it
  kProtocol,      // what came is not HTTP, or over a limit
};

struct HttpClientRequest {
  std::string method = "GET";
  std::string target;     // behind the base URL's path: "/v1/models"
  std::string body = {};  // empty: none
  std::vector<std::pair<std::string, std::string>> headers = {};  // besides Host, User-Agent, ...
};

// What the first lines of a response say.
struct HttpClientResponseHead {
  unsigned status = 0;
  std::string content_type;
  double retry_after_s = 0;  // 0: the server does not say
};

// Receives a response, in this order; all calls come on the thread that runs the io_context.
class HttpResponseHandler {
 public:
  virtual ~HttpResponseHandler() = default;
  virtual void on_head(const HttpClientResponseHead& head) = 0;
  // `time`: when the bytes were read.
  virtual void on_data(std::string_view bytes, std::chrono::steady_clock::time_point time) = 0;
  // The last call, always. `message` is empty unless it failed.
  virtual void on_end(HttpFailure failure, const std::string& message) = 0;
};

class HttpClient {
 public:
  struct Options {
    std::chrono::milliseconds connect_timeout{10'000};
    std::chrono::milliseconds timeout{600'000};  // between two pieces of an answer
    bool verify_certificate = true;              // https
    std::string ca_file = {};                    // PEM; empty: the system's authorities
  };

  // Looks the host up. Throws Error(kInput) when it has no address or ca_file cannot be read.
  HttpClient(boost::asio::io_context& context, HttpUrl base_url, const Options& options);
  ~HttpClient();  // the io_context must not run any more, or nothing be in flight
  HttpClient(const HttpClient&) = delete;
  HttpClient& operator=(const HttpClient&) = delete;

  // Sends on an idle connection or a new one. A kept-alive connection that the server has closed
  // meanwhile is replaced once.
  void send(HttpClientRequest request, std::shared_ptr<HttpResponseHandler> handler);

  // Ends every exchange under way with kDisconnected; their handlers hear of it on the io_context.
  void cancel_all();

  const HttpUrl& base_url() const;
  // Connections opened since the start.
  std::int64_t num_connections() const;

 private:
  class Pool;
  std::shared_ptr<Pool> pool_;
};

// A whole response, for questions before and after a load.
struct HttpClientResponse {
  HttpClientResponseHead head;
  std::string body;  // at most 1 MiB of it
};

// Asks on an io_context of its own and waits, until `is_stopped` (asked ten times a second; empty:
// never). Throws Error(kInput) when there is no answer.
HttpClientResponse http_fetch(const HttpUrl& base_url, const HttpClientRequest& request,
                              const HttpClient::Options& options,
                              const std::function<bool()>& is_stopped = {});

}  // namespace llmrun
