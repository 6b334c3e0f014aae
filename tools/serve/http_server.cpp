#include "tools/serve/http_server.h"

#include <algorithm>
#include <atomic>
#include <map>
#include <mutex>
#include <thread>
#include <unordered_set>
#include <utility>
#include <vector>

#include <boost/asio/post.hpp>
#include <boost/asio/thread_pool.hpp>
#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include "engine/core/error.h"
#include "tools/serve/http_connection.h"

namespace llmrun {
namespace {

namespace asio = boost::asio;
using asio::ip::tcp;

constexpr int kBacklog = 4096;
constexpr int kAcceptsAtOnce = 64;
constexpr auto kPauseWithoutDescriptors = std::chrono::milliseconds(100);

tcp::endpoint resolve(const HttpServer::Options& options, asio::io_context& context) {
  boost::system::error_code failure;
  tcp::resolver resolver(context);
  const auto found = resolver.resolve(options.host, fmt::format("{}", options.port),
                                      tcp::resolver::passive, failure);
  if (failure || found.empty()) {
    throw Error(ErrorKind::kUsage, fmt::format("--host {}: {}", options.host, failure.message()));
  }
  return found.begin()->endpoint();
}

}  // namespace

class HttpServer::Impl : public std::enable_shared_from_this<HttpServer::Impl> {
 public:
  explicit Impl(const Options& options) : options_(options), workers_(workers_of(options)) {
    for (int i = 0; i < std::max(1, options.num_io_threads); ++i) {
      io_.push_back(std::make_unique<IoThread>());
    }
    acceptor_.emplace(io_[0]->loop->context());
    bind(resolve(options, io_[0]->loop->context()));
  }

  std::uint16_t port() const { return endpoint_.port(); }
  bool is_loopback() const { return endpoint_.address().is_loopback(); }
  std::size_t num_connections() const { return num_connections_; }
  std::size_t num_unanswered() const { return num_unanswered_; }

  void start(Handler handler) {
    handler_ = std::move(handler);
    for (auto& io : io_) prepare(*io);
    reserve_ = ::open("/dev/null", O_RDONLY | O_CLOEXEC);
    boost::system::error_code failure;
    acceptor_->listen(kBacklog, failure);
    if (failure) throw Error(ErrorKind::kUsage, address_problem(failure.message()));
    acceptor_->non_blocking(true, failure);
    accept();
    for (auto& io : io_) io->thread = std::thread([&io] { io->loop->run(); });
  }

  void run_on_worker(std::function<void()> work) { asio::post(workers_, std::move(work)); }

  void stop() {
    if (std::exchange(stopped_, true)) return;
    io_[0]->loop->post([this] {
      boost::system::error_code ignored;
      acceptor_->close(ignored);
      if (pause_) pause_->cancel();
    });
    for (auto& io : io_) {
      io->loop->post([&io] {
        const auto connections = io->connections;  // closing takes them out
        for (const auto& connection : connections) connection->close();
        io->loop->finish();
      });
    }
    for (auto& io : io_) {
      if (io->thread.joinable()) io->thread.join();
    }
    workers_.join();
    if (reserve_ >= 0) ::close(std::exchange(reserve_, -1));
  }

 private:
  struct IoThread {
    std::shared_ptr<IoLoop> loop = std::make_shared<IoLoop>();
    std::unordered_set<std::shared_ptr<HttpConnection>> connections;  // of its own thread only
    HttpConnection::Environment environment;
    std::thread thread;
  };

  void prepare(IoThread& io) {
    io.environment = {
        .limits = options_.limits,
        .timeouts = options_.timeouts,
        .dispatch =
            [this](std::shared_ptr<ConnectionExchange> exchange) { dispatch(std::move(exchange)); },
        .closed =
            [this, &io](const std::shared_ptr<HttpConnection>& connection) {
              num_connections_ -= 1;
              leave(connection->address());
              io.connections.erase(connection);
            },
        .log = options_.log,
        .num_unanswered = &num_unanswered_};
  }

  static std::size_t workers_of(const Options& options) {
    return static_cast<std::size_t>(std::max(1, options.num_worker_threads));
  }

  std::string address_problem(const std::string& reason) const {
    return fmt::format("cannot listen on {}:{}: {}; choose another --port (0: any free one)",
                       options_.host, options_.port, reason);
  }

  void bind(const tcp::endpoint& endpoint) {
    boost::system::error_code failure;
    acceptor_->open(endpoint.protocol(), failure);
    if (!failure) acceptor_->set_option(tcp::acceptor::reuse_address(true), failure);
    if (!failure) acceptor_->bind(endpoint, failure);
    if (failure) throw Error(ErrorKind::kUsage, address_problem(failure.message()));
    endpoint_ = acceptor_->local_endpoint();
  }

  void dispatch(std::shared_ptr<ConnectionExchange> exchange) {
    if (exchange->request().method != "POST") {
      handler_(std::move(exchange));
      return;
    }
    asio::post(workers_,
               [this, exchange = std::move(exchange)]() mutable { handler_(std::move(exchange)); });
  }

  IoThread& next_io() { return *io_[next_io_++ % io_.size()]; }

  void accept() {
    IoThread& io = next_io();
    acceptor_->async_accept(io.loop->context(),
                            [this, &io](boost::system::error_code failure, tcp::socket socket) {
                              on_accept(io, failure, std::move(socket));
                            });
  }

  void on_accept(IoThread& io, boost::system::error_code failure, tcp::socket socket) {
    if (failure == asio::error::operation_aborted || !acceptor_->is_open()) return;
    if (lacks_descriptors(failure)) return refuse_without_descriptors();
    if (!failure) admit(io, std::move(socket));
    // All that wait, not one a turn: a turn is long when many connections have work, and clients
    // that find the queue full try again only after a second.
    for (int i = 0; i < kAcceptsAtOnce; ++i) {
      IoThread& next = next_io();
      tcp::socket more(next.loop->context());
      acceptor_->accept(more, failure);
      if (failure == asio::error::would_block) break;
      if (lacks_descriptors(failure)) return refuse_without_descriptors();
      if (!failure) admit(next, std::move(more));
    }
    accept();
  }

  static bool lacks_descriptors(const boost::system::error_code& failure) {
    return failure == asio::error::no_descriptors ||
           failure == boost::system::errc::too_many_files_open_in_system;
  }

  void admit(IoThread& io, tcp::socket socket) {
    boost::system::error_code failure;
    const tcp::endpoint client = socket.remote_endpoint(failure);
    if (failure) return;  // it has left
    if (num_connections_ >= options_.max_connections) {
      refuse(std::move(socket), "too many connections");
    } else if (!enter(client.address())) {
      refuse(std::move(socket), "too many connections from this address");
    } else {
      open(io, std::move(socket), client);
    }
  }

  // Counts connections by address. False: it has as many as it may have.
  bool enter(const asio::ip::address& address) {
    if (options_.max_connections_per_address == 0) return true;
    const std::lock_guard lock(addresses_mutex_);
    std::size_t& count = num_connections_of_[address];  // not 0 between two calls
    if (count >= options_.max_connections_per_address) return false;
    count += 1;
    return true;
  }
  void leave(const asio::ip::address& address) {
    if (options_.max_connections_per_address == 0) return;
    const std::lock_guard lock(addresses_mutex_);
    const auto found = num_connections_of_.find(address);
    if (--found->second == 0) num_connections_of_.erase(found);
  }

  void open(IoThread& io, tcp::socket socket, const tcp::endpoint& client) {
    num_connections_ += 1;
    auto connection =
        std::make_shared<HttpConnection>(io.loop, std::move(socket), client, io.environment);
    io.loop->dispatch([&io, connection = std::move(connection)] {
      io.connections.insert(connection);
      connection->start();
    });
  }

  // A few bytes always fit the socket's empty buffer.
  static void refuse(tcp::socket socket, std::string_view reason) {
    HttpResponse response = error_response(503, reason);
    response.headers.emplace_back("Retry-After", "1");
    const std::string text =
        response_head(response, fmt::format("Content-Length: {}", response.body.size()), false) +
        response.body;
    boost::system::error_code ignored;
    socket.non_blocking(true, ignored);
    socket.send(asio::buffer(text), 0, ignored);
    socket.shutdown(tcp::socket::shutdown_send, ignored);
  }

  // The reserved descriptor takes the client that waits longest, to tell it; then a pause, since
  // there is no event for a descriptor that becomes free.
  void refuse_without_descriptors() {
    if (reserve_ >= 0) {
      ::close(reserve_);
      boost::system::error_code failure;
      tcp::socket socket = acceptor_->accept(io_[0]->loop->context(), failure);
      if (!failure) refuse(std::move(socket), "too many connections");
      reserve_ = ::open("/dev/null", O_RDONLY | O_CLOEXEC);
    }
    pause_.emplace(io_[0]->loop->context(), kPauseWithoutDescriptors);
    pause_->async_wait([this](boost::system::error_code failure) {
      if (!failure && acceptor_->is_open()) accept();
    });
  }

  const Options options_;
  Handler handler_;
  std::vector<std::unique_ptr<IoThread>> io_;
  std::optional<tcp::acceptor> acceptor_;
  std::optional<asio::steady_timer> pause_;
  tcp::endpoint endpoint_;
  std::size_t next_io_ = 0;
  int reserve_ = -1;
  std::atomic<std::size_t> num_connections_ = 0;
  std::atomic<std::size_t> num_unanswered_ = 0;
  std::mutex addresses_mutex_;
  std::map<asio::ip::address, std::size_t> num_connections_of_;  // with a limit only
  bool stopped_ = false;
  asio::thread_pool workers_;
};

HttpServer::HttpServer(const Options& options) : impl_(std::make_shared<Impl>(options)) {}

HttpServer::~HttpServer() {
  stop();
}

std::uint16_t HttpServer::port() const {
  return impl_->port();
}
bool HttpServer::is_loopback() const {
  return impl_->is_loopback();
}
void HttpServer::start(Handler handler) {
  impl_->start(std::move(handler));
}
void HttpServer::run_on_worker(std::function<void()> work) {
  impl_->run_on_worker(std::move(work));
}
void HttpServer::stop() {
  impl_->stop();
}
std::size_t HttpServer::num_connections() const {
  return impl_->num_connections();
}
std::size_t HttpServer::num_unanswered() const {
  return impl_->num_unanswered();
}

}  // namespace llmrun
