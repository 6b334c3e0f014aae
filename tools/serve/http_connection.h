// HttpConnection: one client. A state machine on one I/O thread: head, body, answer, and again.
#pragma once

#include <atomic>
#include <chrono>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>

#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/beast/http/parser.hpp>
#include <boost/beast/http/string_body.hpp>

#include "tools/serve/http_server.h"
#include "tools/serve/io_loop.h"

namespace llmrun {

class HttpConnection;

// Holds its connection weakly: an answer may come when the client is gone.
class ConnectionExchange final : public HttpExchange,
                                 public std::enable_shared_from_this<ConnectionExchange> {
 public:
  ConnectionExchange(std::shared_ptr<IoLoop> loop, std::weak_ptr<HttpConnection> connection,
                     HttpRequest request);

  const HttpRequest& request() const override { return request_; }
  void respond(HttpResponse response) override;
  void stream(HttpResponse head, std::shared_ptr<HttpBodySource> source) override;
  void notify() override;
  void on_client_gone(std::function<void()> gone) override;

 private:
  friend class HttpConnection;
  // I/O thread. False: nobody had asked to be told.
  bool mark_gone();

  std::shared_ptr<IoLoop> loop_;
  std::weak_ptr<HttpConnection> connection_;
  HttpRequest request_;
  std::atomic<bool> notified_ = false;
  std::mutex mutex_;
  bool is_gone_ = false;
  std::function<void()> gone_;
};

class HttpConnection final : public std::enable_shared_from_this<HttpConnection> {
 public:
  struct Environment {
    HttpLimits limits;
    HttpServer::Timeouts timeouts;
    std::function<void(std::shared_ptr<ConnectionExchange>)> dispatch;
    std::function<void(const std::shared_ptr<HttpConnection>&)> closed;
    std::function<void(const HttpLogEntry&)> log;        // may be empty
    std::atomic<std::size_t>* num_unanswered = nullptr;  // counts exchanges under way
  };

  // `environment` must outlive the connection.
  HttpConnection(std::shared_ptr<IoLoop> loop, boost::asio::ip::tcp::socket socket,
                 boost::asio::ip::tcp::endpoint client, const Environment& environment);

  // All on the connection's I/O thread.
  void start();
  void close();

  boost::asio::ip::address address() const { return client_.address(); }

 private:
  friend class ConnectionExchange;
  using Clock = std::chrono::steady_clock;
  using Parser = boost::beast::http::request_parser<boost::beast::http::string_body>;
  enum class State { kIdle, kHead, kBody, kAnswer, kLinger, kClosed };

  void read();
  void on_read(boost::system::error_code failure, std::size_t num_bytes);
  void on_end_of_input();
  void advance();  // does what the bytes that came allow
  void take_head();
  void begin_body();
  void take_body();
  void begin_answer();
  void refuse(const HttpProblem& problem);
  void log(int status) const;

  // Of the exchange that is under way; calls of an earlier one are ignored.
  void respond(const ConnectionExchange& exchange, const HttpResponse& response);
  void stream(const ConnectionExchange& exchange, const HttpResponse& head,
              std::shared_ptr<HttpBodySource> source);
  void pump(const ConnectionExchange& exchange);
  void abandon(const ConnectionExchange& exchange);
  void fill_from_source();
  void write();
  void on_write(boost::system::error_code failure, std::size_t num_bytes);
  void finish_answer();
  void linger();

  void set_deadline(Clock::duration from_now);
  void clear_deadline() { deadline_ = Clock::time_point::max(); }
  void arm_timer(Clock::time_point at);
  void on_timer();

  std::shared_ptr<IoLoop> loop_;
  boost::asio::ip::tcp::socket socket_;
  const boost::asio::ip::tcp::endpoint client_;
  boost::asio::steady_timer timer_;
  const Environment& environment_;
  State state_ = State::kIdle;

  std::string read_buffer_;
  std::string input_;            // read, not yet parsed
  std::size_t num_scanned_ = 0;  // of input_, while the head is incomplete
  bool reading_ = false;
  bool input_ended_ = false;
  std::optional<Parser> parser_;
  std::size_t num_head_fields_ = 0;
  Clock::time_point body_start_;
  std::size_t num_body_bytes_ = 0;  // as they came, chunk sizes included

  std::shared_ptr<ConnectionExchange> exchange_;
  std::shared_ptr<HttpBodySource> source_;
  bool keep_alive_ = false;
  bool is_head_request_ = false;
  bool chunked_ = false;
  bool answer_complete_ = false;  // all of it is in output_ or sent
  std::string output_;
  std::size_t num_written_ = 0;  // of output_
  bool writing_ = false;
  Clock::time_point write_deadline_;  // of all of output_

  Clock::time_point deadline_ = Clock::time_point::max();
  Clock::time_point armed_ = Clock::time_point::max();
};

}  // namespace llmrun
