#include "tools/serve/http_connection.h"

#include <algorithm>
#include <cctype>
#include <iterator>
#include <utility>

#include <boost/asio/buffer.hpp>
#include <boost/asio/post.hpp>
#include <boost/beast/http/error.hpp>
#include <fmt/format.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

namespace llmrun {
namespace {

namespace asio = boost::asio;
namespace http = boost::beast::http;

constexpr std::size_t kReadBytes = 16 << 10;
constexpr std::size_t kMaxPipelinedBytes = 64 << 10;  // read ahead while a request is answered
constexpr std::size_t kLongBody = 1 << 20;
constexpr auto kLingerTime = std::chrono::seconds(2);
// What the system may hold of an answer before it is on its way: a client that reads slowly is
// noticed by this much, and what it has not read is not kept twice.
constexpr int kUnsentBytes = 128 << 10;

std::string to_text(const asio::ip::tcp::endpoint& client) {
  const std::string address = client.address().to_string();
  return client.address().is_v6() ? fmt::format("[{}]:{}", address, client.port())
                                  : fmt::format("{}:{}", address, client.port());
}

HttpRequest to_request(http::request<http::string_body>&& message) {
  HttpRequest request;
  request.method = std::string(message.method_string());
  request.path = std::string(message.target());
  request.path.resize(std::min(request.path.find('?'), request.path.size()));
  for (const auto& field : message) {
    std::string name(field.name_string());
    std::transform(name.begin(), name.end(), name.begin(),
                   [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
    request.headers.emplace_back(std::move(name), std::string(field.value()));
  }
  request.body = std::move(message.body());
  return request;
}

}  // namespace

// --- ConnectionExchange ---

ConnectionExchange::ConnectionExchange(std::shared_ptr<IoLoop> loop,
                                       std::weak_ptr<HttpConnection> connection,
                                       HttpRequest request)
    : loop_(std::move(loop)), connection_(std::move(connection)), request_(std::move(request)) {}

// At once where this is the connection's thread: a short answer does not queue behind long ones.
void ConnectionExchange::respond(HttpResponse response) {
  loop_->dispatch([self = shared_from_this(), response = std::move(response)] {
    if (const auto connection = self->connection_.lock()) connection->respond(*self, response);
  });
}

void ConnectionExchange::stream(HttpResponse head, std::shared_ptr<HttpBodySource> source) {
  loop_->post(
      [self = shared_from_this(), head = std::move(head), source = std::move(source)]() mutable {
        if (const auto connection = self->connection_.lock()) {
          connection->stream(*self, head, std::move(source));
        }
      });
}

void ConnectionExchange::notify() {
  if (notified_.exchange(true)) return;  // it will look anyway
  loop_->post([self = shared_from_this()] {
    self->notified_ = false;
    if (const auto connection = self->connection_.lock()) connection->pump(*self);
  });
}

void ConnectionExchange::on_client_gone(std::function<void()> gone) {
  {
    const std::lock_guard lock(mutex_);
    if (!is_gone_) {
      gone_ = std::move(gone);
      return;
    }
  }
  gone();
  loop_->post([self = shared_from_this()] {
    if (const auto connection = self->connection_.lock()) connection->abandon(*self);
  });
}

bool ConnectionExchange::mark_gone() {
  std::function<void()> gone;
  {
    const std::lock_guard lock(mutex_);
    is_gone_ = true;
    gone = std::exchange(gone_, nullptr);
  }
  if (gone) gone();
  return gone != nullptr;
}

// --- HttpConnection: reading ---

HttpConnection::HttpConnection(std::shared_ptr<IoLoop> loop, asio::ip::tcp::socket socket,
                               asio::ip::tcp::endpoint client, const Environment& environment)
    : loop_(std::move(loop)),
      socket_(std::move(socket)),
      client_(std::move(client)),
      timer_(loop_->context()),
      environment_(environment) {}

void HttpConnection::start() {
  boost::system::error_code ignored;
  socket_.set_option(asio::ip::tcp::no_delay(true), ignored);
  ::setsockopt(socket_.native_handle(), IPPROTO_TCP, TCP_NOTSENT_LOWAT, &kUnsentBytes,
               sizeof(kUnsentBytes));
  set_deadline(environment_.timeouts.idle);
  read();
}

void HttpConnection::read() {
  if (reading_ || input_ended_ || state_ == State::kClosed) return;
  // A client that sends on and on while it is answered waits.
  if (state_ == State::kAnswer && input_.size() >= kMaxPipelinedBytes) return;
  reading_ = true;
  read_buffer_.resize(kReadBytes);
  socket_.async_read_some(
      asio::buffer(read_buffer_),
      [self = shared_from_this()](boost::system::error_code failure, std::size_t num_bytes) {
        self->reading_ = false;
        self->on_read(failure, num_bytes);
      });
}

void HttpConnection::on_read(boost::system::error_code failure, std::size_t num_bytes) {
  if (state_ == State::kClosed) return;
  if (failure) {
    input_ended_ = true;
    on_end_of_input();
    return;
  }
  if (state_ != State::kLinger) input_.append(read_buffer_, 0, num_bytes);
  if (state_ == State::kBody) num_body_bytes_ += num_bytes;
  advance();
  read();
}

// The client has closed its side, or is gone. What is answered at once is still sent; what takes
// work has lost its reader.
void HttpConnection::on_end_of_input() {
  if (state_ != State::kAnswer) return close();
  keep_alive_ = false;
  if (!answer_complete_ && exchange_->mark_gone()) close();
}

void HttpConnection::abandon(const ConnectionExchange& exchange) {
  if (exchange_.get() == &exchange && !answer_complete_) close();
}

void HttpConnection::advance() {
  if (state_ == State::kIdle && !input_.empty()) {
    state_ = State::kHead;
    set_deadline(environment_.timeouts.head);
  }
  if (state_ == State::kHead) take_head();
  if (state_ == State::kBody) take_body();
}

void HttpConnection::take_head() {
  const std::size_t from = num_scanned_ < 3 ? 0 : num_scanned_ - 3;
  const std::string_view input = input_;
  const std::size_t end = input.find("\r\n\r\n", from);
  const std::size_t num_new = std::min(end, input.size()) - std::min(num_scanned_, input.size());
  const char previous = num_scanned_ == 0 ? '\0' : input[num_scanned_ - 1];
  const HttpLimits& limits = environment_.limits;
  if (end == input.npos || end >= num_scanned_) {
    if (has_bare_line_feed(input.substr(num_scanned_, num_new), previous)) {
      return refuse({400, "a line ends without a carriage return"});
    }
  }
  if ((end == input.npos ? input.size() : end) > limits.max_head_bytes) {
    return refuse({431, "the head is too long"});
  }
  if (end == input.npos) {
    num_scanned_ = input.size();
    return;
  }
  num_scanned_ = 0;
  const std::size_t head_size = end + 4;
  if (const auto problem = check_request_head(input.substr(0, head_size), limits)) {
    return refuse(*problem);
  }
  parser_.emplace();
  parser_->eager(true);
  parser_->body_limit(limits.max_body_bytes);
  parser_->header_limit(static_cast<std::uint32_t>(limits.max_head_bytes + 4));
  boost::system::error_code failure;
  const std::size_t used = parser_->put(asio::buffer(input_.data(), head_size), failure);
  input_.erase(0, used);
  if (failure == http::error::body_limit) return refuse({413, "the body is too large"});
  if (failure && failure != http::error::need_more) return refuse({400, "malformed request"});
  if (!parser_->is_header_done()) return refuse({400, "malformed request"});
  begin_body();
}

void HttpConnection::begin_body() {
  state_ = State::kBody;
  body_start_ = Clock::now();
  num_body_bytes_ = input_.size();
  const auto& message = parser_->get();
  num_head_fields_ = static_cast<std::size_t>(std::distance(message.begin(), message.end()));
  if (const auto length = parser_->content_length();
      length && *length > environment_.limits.max_body_bytes) {
    return refuse({413, "the body is too large"});
  }
  if (!parser_->is_done() && input_.empty() && message[http::field::expect] == "100-continue") {
    output_ += "HTTP/1.1 100 Continue\r\n\r\n";
    write();
  }
}

void HttpConnection::take_body() {
  auto& body = parser_->get().body();
  if (body.size() > kLongBody && body.capacity() < environment_.limits.max_body_bytes) {
    body.reserve(environment_.limits.max_body_bytes);  // once: growing would need it twice
  }
  std::size_t num_used = 0;  // of input_; taken out at the end, since chunks may be small and many
  while (!parser_->is_done() && num_used < input_.size()) {
    boost::system::error_code failure;
    const std::size_t used =
        parser_->put(asio::buffer(input_.data() + num_used, input_.size() - num_used), failure);
    num_used += used;
    if (failure == http::error::body_limit) return refuse({413, "the body is too large"});
    if (failure && failure != http::error::need_more) return refuse({400, "malformed body"});
    if (failure == http::error::need_more || used == 0) break;
  }
  input_.erase(0, num_used);
  if (!parser_->is_done()) {
    // Chunk sizes and extensions are no body, but not free either.
    if (num_body_bytes_ > 2 * environment_.limits.max_body_bytes ||
        input_.size() > environment_.limits.max_head_bytes) {
      return refuse({413, "the body is too large"});
    }
    const auto granted = environment_.timeouts.body +
                         std::chrono::milliseconds(static_cast<std::int64_t>(num_body_bytes_));
    set_deadline(body_start_ + granted - Clock::now());
    return;
  }
  const auto& message = parser_->get();
  if (static_cast<std::size_t>(std::distance(message.begin(), message.end())) != num_head_fields_) {
    return refuse({400, "trailers are not taken"});
  }
  begin_answer();
}

void HttpConnection::begin_answer() {
  state_ = State::kAnswer;
  clear_deadline();
  keep_alive_ = parser_->get().keep_alive();
  chunked_ = parser_->get().version() == 11;
  HttpRequest request = to_request(parser_->release());
  request.client = to_text(client_);
  parser_.reset();
  is_head_request_ = request.method == "HEAD";
  if (is_head_request_) request.method = "GET";
  answer_complete_ = false;
  *environment_.num_unanswered += 1;
  exchange_ = std::make_shared<ConnectionExchange>(loop_, weak_from_this(), std::move(request));
  environment_.dispatch(exchange_);
}

// An answer to what is not a request: nothing after it can be trusted to be one.
void HttpConnection::refuse(const HttpProblem& problem) {
  state_ = State::kAnswer;
  keep_alive_ = false;
  answer_complete_ = true;
  input_.clear();
  parser_.reset();
  log(problem.status);
  const HttpResponse response = error_response(problem.status, problem.message);
  output_ +=
      response_head(response, fmt::format("Content-Length: {}", response.body.size()), false);
  output_ += response.body;
  write();
}

void HttpConnection::log(int status) const {
  if (!environment_.log) return;
  if (exchange_ == nullptr) {
    environment_.log({.client = to_text(client_), .method = {}, .path = {}, .status = status});
    return;
  }
  const HttpRequest& request = exchange_->request();
  environment_.log({.client = request.client,
                    .method = is_head_request_ ? "HEAD" : request.method,
                    .path = request.path,
                    .status = status});
}

// --- answering ---

void HttpConnection::respond(const ConnectionExchange& exchange, const HttpResponse& response) {
  if (exchange_.get() != &exchange || answer_complete_ || source_ != nullptr) return;
  log(response.status);
  output_ += response_head(
      response,
      response.status == 204 ? "" : fmt::format("Content-Length: {}", response.body.size()),
      keep_alive_);
  if (!is_head_request_) output_ += response.body;
  answer_complete_ = true;
  write();
}

void HttpConnection::stream(const ConnectionExchange& exchange, const HttpResponse& head,
                            std::shared_ptr<HttpBodySource> source) {
  if (exchange_.get() != &exchange || answer_complete_ || source_ != nullptr) return;
  log(head.status);
  if (!chunked_) keep_alive_ = false;
  output_ += response_head(head, chunked_ ? "Transfer-Encoding: chunked" : "", keep_alive_);
  source_ = std::move(source);
  pump(exchange);
}

void HttpConnection::pump(const ConnectionExchange& exchange) {
  if (exchange_.get() != &exchange || writing_) return;
  fill_from_source();
  write();
}

void HttpConnection::fill_from_source() {
  if (source_ == nullptr) return;
  std::string body;
  const bool more = source_->take(body);
  if (!chunked_) {
    output_ += body;
  } else if (!body.empty()) {  // an empty chunk would be the end
    output_ += fmt::format("{:x}\r\n", body.size());
    output_ += body;
    output_ += "\r\n";
  }
  if (more) return;
  if (chunked_) output_ += "0\r\n\r\n";
  source_ = nullptr;
  answer_complete_ = true;
}

void HttpConnection::write() {
  if (writing_ || state_ == State::kClosed) return;
  if (output_.empty()) {
    if (state_ == State::kAnswer && answer_complete_) finish_answer();
    return;
  }
  writing_ = true;
  const auto now = Clock::now();
  if (num_written_ == 0) {
    write_deadline_ = now + environment_.timeouts.write +
                      std::chrono::milliseconds(static_cast<std::int64_t>(output_.size()));
  }
  set_deadline(std::min<Clock::duration>(environment_.timeouts.write, write_deadline_ - now));
  socket_.async_write_some(
      asio::buffer(output_.data() + num_written_, output_.size() - num_written_),
      [self = shared_from_this()](boost::system::error_code failure, std::size_t num_bytes) {
        self->writing_ = false;
        self->on_write(failure, num_bytes);
      });
}

void HttpConnection::on_write(boost::system::error_code failure, std::size_t num_bytes) {
  if (state_ == State::kClosed) return;
  if (failure) return close();
  num_written_ += num_bytes;
  if (num_written_ < output_.size()) return write();
  output_.clear();
  num_written_ = 0;
  if (state_ != State::kAnswer) return;  // "100 Continue"
  clear_deadline();
  fill_from_source();
  write();
}

void HttpConnection::finish_answer() {
  if (exchange_ != nullptr) *environment_.num_unanswered -= 1;  // null: what was refused
  exchange_ = nullptr;
  if (!keep_alive_) return linger();
  state_ = State::kIdle;
  set_deadline(environment_.timeouts.idle);
  // What the client has sent meanwhile; not from here, since many small answers would nest.
  asio::post(loop_->context(), [self = shared_from_this()] {
    self->advance();
    self->read();
  });
}

// Closes so that the answer arrives: a socket closed with unread input is reset, and the client
// would lose what it has not read.
void HttpConnection::linger() {
  boost::system::error_code ignored;
  socket_.shutdown(asio::ip::tcp::socket::shutdown_send, ignored);
  if (input_ended_) return close();
  state_ = State::kLinger;
  set_deadline(kLingerTime);
  read();
}

void HttpConnection::close() {
  if (state_ == State::kClosed) return;
  state_ = State::kClosed;
  boost::system::error_code ignored;
  socket_.close(ignored);
  timer_.cancel();
  source_ = nullptr;
  if (exchange_ != nullptr) {
    *environment_.num_unanswered -= 1;
    std::exchange(exchange_, nullptr)->mark_gone();
  }
  environment_.closed(shared_from_this());
}

// --- time ---

void HttpConnection::set_deadline(Clock::duration from_now) {
  deadline_ = Clock::now() + from_now;
  if (deadline_ < armed_) arm_timer(deadline_);
}

// Armed for the earliest deadline; when it comes and the deadline has moved on, it is armed again.
void HttpConnection::arm_timer(Clock::time_point at) {
  armed_ = at;
  timer_.expires_at(at);
  timer_.async_wait([self = weak_from_this()](boost::system::error_code failure) {
    if (failure) return;
    if (const auto connection = self.lock()) connection->on_timer();
  });
}

void HttpConnection::on_timer() {
  armed_ = Clock::time_point::max();
  if (state_ == State::kClosed || deadline_ == Clock::time_point::max()) return;
  if (Clock::now() < deadline_) return arm_timer(deadline_);
  if ((state_ == State::kHead || state_ == State::kBody) && !writing_) {
    refuse({408, "the request did not come in time"});
  } else {
    // With a reset: the system would keep what is not read, and try to send it for minutes.
    boost::system::error_code ignored;
    if (writing_) socket_.set_option(asio::socket_base::linger(true, 0), ignored);
    close();
  }
}

}  // namespace llmrun
