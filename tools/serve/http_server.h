// HttpServer: connections, framing, limits and timeouts of an HTTP/1.1 server (Boost.Asio and
// Beast). What is asked for and answered is its handler's matter.
//
// Threads that read and write sockets do nothing else, so that a short answer never waits for a
// long one; requests with a body are handled on worker threads.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "tools/serve/http_message.h"

namespace llmrun {

// The body of a streamed answer, made when the client can take more.
class HttpBodySource {
 public:
  virtual ~HttpBodySource() = default;
  // Appends what there is to send by now, maybe nothing; false: that was the last. Called on an
  // I/O thread.
  virtual bool take(std::string& out) = 0;
};

// One request and the way to its answer. Its methods may be called from any thread, also when the
// client has gone.
class HttpExchange {
 public:
  virtual ~HttpExchange() = default;
  virtual const HttpRequest& request() const = 0;
  // Sends the whole answer. One of respond() and stream(), once.
  virtual void respond(HttpResponse response) = 0;
  // Sends the head now, and the body as `source` has it.
  virtual void stream(HttpResponse head, std::shared_ptr<HttpBodySource> source) = 0;
  // The source has more, or has ended.
  virtual void notify() = 0;
  // `gone` is called once, on an I/O thread, if the client leaves before its answer is complete;
  // at once if it has left already. A client that has closed its sending side has left: of the two
  // only sending tells which it is, and meanwhile work would be done for nobody.
  virtual void on_client_gone(std::function<void()> gone) = 0;
};

// One line of an access log.
struct HttpLogEntry {
  std::string_view client;  // address and port
  std::string_view method;  // empty: what came was no request
  std::string_view path;
  int status = 0;
};

class HttpServer {
 public:
  struct Timeouts {
    std::chrono::milliseconds head{10'000};  // from its first byte to its last
    std::chrono::milliseconds body{10'000};  // beside a second for each kB
    std::chrono::milliseconds idle{30'000};  // between two requests
    // Without the client taking a byte; in all, a second more for each kB there is to send.
    std::chrono::milliseconds write{30'000};
  };
  struct Options {
    std::string host = "127.0.0.1";
    std::uint16_t port = 0;  // 0: any free one
    int num_io_threads = 1;
    int num_worker_threads = 2;
    std::size_t max_connections = 8192;           // more are answered 503 and closed
    std::size_t max_connections_per_address = 0;  // likewise, of one address; 0: any number
    HttpLimits limits;
    Timeouts timeouts;
    // Called on an I/O thread when an answer begins: it must not wait. Empty: no log.
    std::function<void(const HttpLogEntry&)> log;
  };
  using Handler = std::function<void(std::shared_ptr<HttpExchange>)>;

  // Binds the address. Throws Error(kUsage) when it is taken or not this machine's.
  explicit HttpServer(const Options& options);
  ~HttpServer();  // stop()
  HttpServer(const HttpServer&) = delete;
  HttpServer& operator=(const HttpServer&) = delete;

  std::uint16_t port() const;
  // Whether only programs of this machine can connect.
  bool is_loopback() const;

  // Starts to answer by `handler`, which must not throw and must outlive the server.
  void start(Handler handler);
  // Runs `work` on a worker thread.
  void run_on_worker(std::function<void()> work);
  // Closes all connections and ends the threads.
  void stop();

  std::size_t num_connections() const;
  // Requests whose answers are not sent yet.
  std::size_t num_unanswered() const;

 private:
  class Impl;
  std::shared_ptr<Impl> impl_;
};

}  // namespace llmrun
