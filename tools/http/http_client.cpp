#include "tools/http/http_client.h"

#include <array>
#include <charconv>
#include <cmath>
#include <limits>
#include <optional>

#include <boost/asio/connect.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/ssl.hpp>
#include <boost/beast/core.hpp>
#include <boost/beast/http.hpp>
#include <boost/beast/ssl.hpp>
#include <fmt/format.h>

#include "engine/core/error.h"
#include "engine/core/version.h"

namespace llmrun {
namespace {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace http = boost::beast::http;
using tcp = asio::ip::tcp;
using Clock = std::chrono::steady_clock;

constexpr std::uint32_t kMaxHeadBytes = 64 << 10;
constexpr std::size_t kReadBytes = 16 << 10;
constexpr std::size_t kMaxIdleConnections = 4096;
constexpr std::size_t kMinPruned = 64;
constexpr auto kStopPollInterval = std::chrono::milliseconds(100);
constexpr const char* kCancelled = "given up";

using PlainStream = beast::tcp_stream;
using TlsStream = beast::ssl_stream<beast::tcp_stream>;

// What is asked, and who waits for the answer.
struct Exchange {
  http::request<http::string_body> request;
  std::shared_ptr<HttpResponseHandler> handler;
};

HttpFailure failure_of(const beast::error_code& error) {
  if (error == beast::error::timeout) return HttpFailure::kTimeout;
  if (error.category() == http::make_error_code(http::error::bad_version).category() &&
      error != http::error::end_of_stream && error != http::error::partial_message) {
    return HttpFailure::kProtocol;
  }
  return HttpFailure::kDisconnected;
}

HttpClientResponseHead head_of(const http::response_header<>& header) {
  HttpClientResponseHead head;
  head.status = header.result_int();
  head.content_type = std::string(header[http::field::content_type]);
  const beast::string_view wait = header[http::field::retry_after];
  std::from_chars(wait.data(), wait.data() + wait.size(), head.retry_after_s);
  if (!std::isfinite(head.retry_after_s) || head.retry_after_s < 0) head.retry_after_s = 0;
  return head;
}

}  // namespace

class HttpClient::Pool : public std::enable_shared_from_this<Pool> {
 public:
  Pool(asio::io_context& context, HttpUrl url, const Options& options);

  void send(HttpClientRequest request, std::shared_ptr<HttpResponseHandler> handler);
  // On a new connection.
  void start(Exchange exchange);
  void close_idle() { idle_.clear(); }
  void cancel_all();

  const HttpUrl& url() const { return url_; }
  std::int64_t num_connections() const { return num_connections_; }

 private:
  class Connection;
  template <typename Stream>
  class StreamConnection;

  void keep(std::shared_ptr<Connection> connection) {
    if (idle_.size() < kMaxIdleConnections) idle_.push_back(std::move(connection));
  }

  asio::io_context& context_;
  HttpUrl url_;
  Options options_;
  std::vector<tcp::endpoint> endpoints_;
  std::optional<asio::ssl::context> tls_;
  std::vector<std::shared_ptr<Connection>> idle_;
  std::vector<std::weak_ptr<Connection>> all_;  // some of them gone
  std::size_t prune_at_ = kMinPruned;
  std::int64_t num_connections_ = 0;
};

class HttpClient::Pool::Connection {
 public:
  virtual ~Connection() = default;
  virtual void connect(Exchange exchange) = 0;
  virtual void reuse(Exchange exchange) = 0;
  // Ends the exchange under way, if there is one.
  virtual void cancel() = 0;
};

template <typename Stream>
class HttpClient::Pool::StreamConnection
    : public Connection,
      public std::enable_shared_from_this<StreamConnection<Stream>> {
 public:
  template <typename... Arguments>
  explicit StreamConnection(const std::shared_ptr<Pool>& pool, Arguments&&... arguments)
      : pool_(pool), stream_(std::forward<Arguments>(arguments)...) {}

  void connect(Exchange exchange) override {
    exchange_ = std::move(exchange);
    auto pool = pool_.lock();
    if (pool == nullptr) return;
    lowest().expires_after(pool->options_.connect_timeout);
    lowest().async_connect(pool->endpoints_, [self = this->shared_from_this()](
                                                 const beast::error_code& error,
                                                 const tcp::endpoint&) { self->connected(error); });
  }

  void reuse(Exchange exchange) override {
    exchange_ = std::move(exchange);
    is_reused_ = true;
    write();
  }

  void cancel() override {
    is_cancelled_ = true;
    lowest().close();
  }

 private:
  PlainStream& lowest() { return beast::get_lowest_layer(stream_); }

  void connected(const beast::error_code& error) {
    if (error) return fail_connect(error);
    beast::error_code ignored;
    lowest().socket().set_option(tcp::no_delay(true), ignored);
    if constexpr (std::is_same_v<Stream, TlsStream>) {
      handshake();
    } else {
      write();
    }
  }

  void handshake() {
    const auto pool = pool_.lock();
    if (pool == nullptr) return;
    const std::string& host = pool->url_.host;
    if (SSL_set_tlsext_host_name(stream_.native_handle(), host.c_str()) != 1) {
      return finish(HttpFailure::kConnect, "bad host name for TLS");
    }
    if (pool->options_.verify_certificate) {
      stream_.set_verify_mode(asio::ssl::verify_peer);
      stream_.set_verify_callback(asio::ssl::host_name_verification(host));
    }
    stream_.async_handshake(asio::ssl::stream_base::client,
                            [self = this->shared_from_this()](const beast::error_code& error) {
                              if (error) return self->fail_handshake(error);
                              self->write();
                            });
  }

  void fail_handshake(const beast::error_code& error) {
    if constexpr (std::is_same_v<Stream, TlsStream>) {
      const long verdict = SSL_get_verify_result(stream_.native_handle());
      const auto pool = pool_.lock();
      if (verdict != X509_V_OK && pool != nullptr && pool->options_.verify_certificate) {
        return finish(HttpFailure::kConnect,
                      fmt::format("the certificate of {} is not trusted ({}); name its authority "
                                  "by --ca-file, or add --insecure",
                                  pool->url_.authority(), X509_verify_cert_error_string(verdict)));
      }
    }
    fail_connect(error);
  }

  void fail_connect(const beast::error_code& error) {
    if (is_cancelled_) return finish(HttpFailure::kDisconnected, kCancelled);
    finish(error == beast::error::timeout ? HttpFailure::kTimeout : HttpFailure::kConnect,
           error == beast::error::timeout ? "no connection in time" : error.message());
  }

  void await() {
    if (const auto pool = pool_.lock()) lowest().expires_after(pool->options_.timeout);
  }

  void write() {
    await();
    http::async_write(
        stream_, exchange_.request,
        [self = this->shared_from_this()](const beast::error_code& error, std::size_t) {
          if (error) return self->broke(error);
          self->read_head();
        });
  }

  void read_head() {
    parser_.emplace();
    parser_->header_limit(kMaxHeadBytes);
    parser_->body_limit(std::numeric_limits<std::uint64_t>::max());
    await();
    http::async_read_header(
        stream_, buffer_, *parser_,
        [self = this->shared_from_this()](const beast::error_code& error, std::size_t) {
          if (error) return self->broke(error);
          self->exchange_.handler->on_head(head_of(self->parser_->get().base()));
          self->read_body();
        });
  }

  void read_body() {
    if (parser_->is_done()) return done();
    parser_->get().body().data = data_.data();
    parser_->get().body().size = data_.size();
    await();
    http::async_read_some(stream_, buffer_, *parser_,
                          [self = this->shared_from_this()](beast::error_code error, std::size_t) {
                            const auto now = Clock::now();
                            if (error == http::error::need_buffer) error = {};
                            const std::size_t size =
                                self->data_.size() - self->parser_->get().body().size;
                            if (size > 0)
                              self->exchange_.handler->on_data({self->data_.data(), size}, now);
                            if (error) return self->broke(error);
                            self->read_body();
                          });
  }

  // The server may have closed a connection while it was idle: then nothing of this request has
  // been answered, and it is sent again on a new one.
  void broke(const beast::error_code& error) {
    if (is_cancelled_) return finish(HttpFailure::kDisconnected, kCancelled);
    const HttpFailure failure = failure_of(error);
    const bool nothing_came = !parser_ || !parser_->got_some();
    const auto pool = pool_.lock();
    if (is_reused_ && nothing_came && failure == HttpFailure::kDisconnected && pool != nullptr) {
      return pool->start(std::move(exchange_));
    }
    finish(failure, failure == HttpFailure::kTimeout ? "no answer in time"
                    : failure == HttpFailure::kDisconnected
                        ? "the server closed the connection (" + error.message() + ")"
                        : error.message());
  }

  void done() {
    const bool keep_alive = parser_->keep_alive();
    lowest().expires_never();
    Exchange exchange = std::move(exchange_);
    exchange_ = {};
    parser_.reset();
    if (const auto pool = pool_.lock(); keep_alive && !is_cancelled_ && pool != nullptr) {
      pool->keep(this->shared_from_this());
    }
    exchange.handler->on_end(HttpFailure::kNone, "");
  }

  void finish(HttpFailure failure, const std::string& message) {
    const auto handler = std::move(exchange_.handler);
    beast::error_code ignored;
    lowest().socket().close(ignored);
    handler->on_end(failure, message);
  }

  std::weak_ptr<Pool> pool_;
  Stream stream_;
  bool is_reused_ = false;
  bool is_cancelled_ = false;
  Exchange exchange_;
  beast::flat_buffer buffer_{kMaxHeadBytes + kReadBytes};
  std::optional<http::response_parser<http::buffer_body>> parser_;
  std::array<char, kReadBytes> data_;
};

HttpClient::Pool::Pool(asio::io_context& context, HttpUrl url, const Options& options)
    : context_(context), url_(std::move(url)), options_(options) {
  beast::error_code error;
  tcp::resolver resolver(context_);
  for (const auto& entry : resolver.resolve(url_.host, url_.port, error)) {
    endpoints_.push_back(entry.endpoint());
  }
  if (error || endpoints_.empty()) {
    throw Error(ErrorKind::kInput,
                fmt::format("{}: the host has no address: {}", url_.text(), error.message()));
  }
  if (url_.is_tls()) {
    tls_.emplace(asio::ssl::context::tls_client);
    if (options_.ca_file.empty()) {
      tls_->set_default_verify_paths();
    } else {
      tls_->load_verify_file(options_.ca_file, error);
    }
    if (error) {
      throw Error(ErrorKind::kInput, fmt::format("--ca-file {}: no certificates can be read: {}",
                                                 options_.ca_file, error.message()));
    }
  }
}

void HttpClient::Pool::send(HttpClientRequest request,
                            std::shared_ptr<HttpResponseHandler> handler) {
  Exchange exchange;
  exchange.handler = std::move(handler);
  auto& message = exchange.request;
  message.version(11);
  message.method_string(request.method);
  message.target(url_.path + request.target);
  message.set(http::field::host, url_.authority());
  message.set(http::field::user_agent, fmt::format("llmrun/{}", kVersion));
  message.set(http::field::accept, "*/*");
  if (!request.body.empty()) message.set(http::field::content_type, "application/json");
  for (const auto& [name, value] : request.headers) message.set(name, value);
  message.body() = std::move(request.body);
  message.prepare_payload();
  if (idle_.empty()) return start(std::move(exchange));
  const std::shared_ptr<Connection> connection = std::move(idle_.back());
  idle_.pop_back();
  connection->reuse(std::move(exchange));
}

void HttpClient::Pool::start(Exchange exchange) {
  ++num_connections_;
  std::shared_ptr<Connection> connection;
  if (tls_) {
    connection = std::make_shared<StreamConnection<TlsStream>>(shared_from_this(), context_, *tls_);
  } else {
    connection = std::make_shared<StreamConnection<PlainStream>>(shared_from_this(), context_);
  }
  if (all_.size() >= prune_at_) {
    std::erase_if(all_, [](const auto& one) { return one.expired(); });
    prune_at_ = 2 * all_.size() + kMinPruned;
  }
  all_.push_back(connection);
  connection->connect(std::move(exchange));
}

void HttpClient::Pool::cancel_all() {
  close_idle();
  for (const std::weak_ptr<Connection>& one : all_) {
    if (const auto connection = one.lock()) connection->cancel();
  }
}

HttpClient::HttpClient(asio::io_context& context, HttpUrl base_url, const Options& options)
    : pool_(std::make_shared<Pool>(context, std::move(base_url), options)) {}

HttpClient::~HttpClient() {
  pool_->close_idle();
}

void HttpClient::send(HttpClientRequest request, std::shared_ptr<HttpResponseHandler> handler) {
  pool_->send(std::move(request), std::move(handler));
}

void HttpClient::cancel_all() {
  pool_->cancel_all();
}

const HttpUrl& HttpClient::base_url() const {
  return pool_->url();
}
std::int64_t HttpClient::num_connections() const {
  return pool_->num_connections();
}

namespace {

class CollectedResponse : public HttpResponseHandler {
 public:
  void on_head(const HttpClientResponseHead& head) override { response.head = head; }
  void on_data(std::string_view bytes, Clock::time_point /*time*/) override {
    constexpr std::size_t kMaxBytes = std::size_t{1} << 20;
    response.body += bytes.substr(0, kMaxBytes - std::min(kMaxBytes, response.body.size()));
  }
  void on_end(HttpFailure failure_kind, const std::string& why) override {
    failure = failure_kind;
    message = why;
  }

  HttpClientResponse response;
  HttpFailure failure = HttpFailure::kNone;
  std::string message;
};

}  // namespace

HttpClientResponse http_fetch(const HttpUrl& base_url, const HttpClientRequest& request,
                              const HttpClient::Options& options,
                              const std::function<bool()>& is_stopped) {
  asio::io_context context(1);
  HttpClient client(context, base_url, options);
  const auto collected = std::make_shared<CollectedResponse>();
  client.send(request, collected);
  if (is_stopped) {
    while (!context.stopped() && !is_stopped()) context.run_for(kStopPollInterval);
    client.cancel_all();
  }
  context.run();
  if (collected->failure != HttpFailure::kNone) {
    throw Error(ErrorKind::kInput,
                fmt::format("{}{}: {}", base_url.text(), request.target, collected->message));
  }
  return std::move(collected->response);
}

}  // namespace llmrun
