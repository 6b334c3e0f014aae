#include "tools/serve_bench/loopback_server.h"

#include <array>
#include <atomic>
#include <charconv>
#include <thread>

#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/write.hpp>
#include <fmt/format.h>

namespace llmrun {
namespace {

namespace asio = boost::asio;
using tcp = asio::ip::tcp;

constexpr std::int64_t kMaxTokens = 1 << 20;

// The number behind `name` in text; 0 when it is not there.
std::int64_t number_after(std::string_view text, std::string_view name) {
  const std::size_t found = text.find(name);
  if (found == std::string_view::npos) return 0;
  text.remove_prefix(found + name.size());
  while (text.starts_with(' ')) text.remove_prefix(1);
  std::int64_t number = 0;
  std::from_chars(text.data(), text.data() + text.size(), number);
  return number;
}

std::string chunk(std::string_view data) {
  return fmt::format("{:x}\r\n{}\r\n", data.size(), data);
}

}  // namespace

class LoopbackServer::Impl {
 public:
  explicit Impl(Respond respond)
      : respond_(std::move(respond)), acceptor_(context_, {asio::ip::address_v4::loopback(), 0}) {
    accept();
    thread_ = std::thread([this] { context_.run(); });
  }
  ~Impl() {
    context_.stop();
    thread_.join();
  }

  std::uint16_t port() const { return acceptor_.local_endpoint().port(); }
  std::int64_t num_requests() const { return num_requests_; }

 private:
  struct Session : std::enable_shared_from_this<Session> {
    Session(Impl& server, tcp::socket connection) : owner(server), socket(std::move(connection)) {}

    void read() {
      socket.async_read_some(
          asio::buffer(piece),
          [self = shared_from_this()](const boost::system::error_code& error, std::size_t size) {
            if (error) return;
            self->input.append(self->piece.data(), size);
            self->advance();
          });
    }

    void advance() {
      const std::size_t head_end = input.find("\r\n\r\n");
      if (head_end == std::string::npos) return read();
      const std::string_view head(input.data(), head_end);
      const auto body_size = static_cast<std::size_t>(number_after(head, "Content-Length:"));
      if (input.size() < head_end + 4 + body_size) return read();
      output = owner.respond_(head, std::string_view(input).substr(head_end + 4, body_size));
      ++owner.num_requests_;
      input.erase(0, head_end + 4 + body_size);
      if (output.empty()) return;
      asio::async_write(
          socket, asio::buffer(output),
          [self = shared_from_this()](const boost::system::error_code& error, std::size_t) {
            const bool close = self->output.find("Connection: close") != std::string::npos;
            if (!error && !close) self->advance();
          });
    }

    Impl& owner;
    tcp::socket socket;
    std::array<char, 16384> piece;
    std::string input;
    std::string output;
  };

  void accept() {
    acceptor_.async_accept([this](const boost::system::error_code& error, tcp::socket socket) {
      if (!error) {
        boost::system::error_code ignored;
        socket.set_option(tcp::no_delay(true), ignored);
        std::make_shared<Session>(*this, std::move(socket))->read();
      }
      accept();
    });
  }

  Respond respond_;
  std::atomic<std::int64_t> num_requests_ = 0;
  asio::io_context context_{1};
  tcp::acceptor acceptor_;
  std::thread thread_;
};

LoopbackServer::LoopbackServer(Respond respond)
    : impl_(std::make_unique<Impl>(std::move(respond))) {}
LoopbackServer::~LoopbackServer() = default;

HttpUrl LoopbackServer::url() const {
  return {.scheme = "http", .host = "127.0.0.1", .port = std::to_string(impl_->port()), .path = ""};
}

std::int64_t LoopbackServer::num_requests() const {
  return impl_->num_requests();
}

std::string null_completion(std::string_view /*head*/, std::string_view body) {
  constexpr std::string_view kToken =
      R"(data: {"id":"cmpl-0","object":"text_completion","created":1,"model":"null","choices":[{"index":0,"text":" token","logprobs":null,"finish_reason":null}]})"
      "\n\n";
  const std::int64_t num_tokens = std::min(number_after(body, R"("max_tokens":)"), kMaxTokens);
  std::string answer =
      "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";
  const std::string token = chunk(kToken);
  for (std::int64_t i = 0; i < num_tokens; ++i) answer += token;
  answer += chunk(fmt::format(
      R"(data: {{"id":"cmpl-0","object":"text_completion","created":1,"model":"null","choices":[],"usage":{{"prompt_tokens":1,"completion_tokens":{0},"total_tokens":{0}}}}})"
      "\n\ndata: [DONE]\n\n",
      num_tokens));
  return answer + "0\r\n\r\n";
}

}  // namespace llmrun
