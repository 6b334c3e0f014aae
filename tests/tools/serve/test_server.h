// A server on a free port over the null engine or a given one, and clients on raw sockets.
#pragma once

#include <chrono>
#include <memory>
#include <string>
#include <thread>
#include <utility>

#include <arpa/inet.h>
#include <doctest/doctest.h>
#include <fmt/format.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#include "engine/null_engine.h"
#include "tools/serve/api_server.h"

namespace llmrun::testing {

class TestServer {
 public:
  struct Options {
    double step_seconds = 0.0005;
    std::int64_t max_unfinished = 0;
    double max_request_seconds = 0;
    std::size_t max_unsent_bytes = 16 << 20;
    double stall_timeout_s = kStallTimeoutSeconds;
    HttpServer::Options http{};
    ApiAccess::Options access{};
  };
  explicit TestServer(const Options& options) : TestServer(options, nullptr) {}
  // `engine`, which must outlive the server, instead of the null engine; null: the null engine.
  TestServer(const Options& options, Engine* engine)
      : null_engine_({.step_seconds = options.step_seconds, .max_model_len = 4096}),
        http_(options.http),
        async_(engine == nullptr ? null_engine_ : *engine,
               {.max_unfinished_sequences = options.max_unfinished,
                .max_request_seconds = options.max_request_seconds}),
        api_(std::make_unique<ApiServer>(
            http_, async_, prompts_,
            ApiServer::Options{.model_names = {"null"},
                               .defaults = {},
                               .max_model_len = 4096,
                               .limits = {.vocab_size = 32000},
                               .access = options.access,
                               .stall_timeout_s = options.stall_timeout_s,
                               .max_unsent_bytes = options.max_unsent_bytes})) {}
  ~TestServer() {
    http_.stop();
    async_.stop();
  }
  std::uint16_t port() const { return http_.port(); }
  AsyncEngine& engine() { return async_; }
  HttpServer& http() { return http_; }
  ApiServer& api() { return *api_; }

 private:
  NullEngine null_engine_;
  PromptProcessor prompts_{nullptr, std::nullopt};
  HttpServer http_;
  AsyncEngine async_;
  std::unique_ptr<ApiServer> api_;
};

class Client {
 public:
  // `receive_bytes` > 0: what the system keeps for this client until it reads.
  explicit Client(std::uint16_t port, int receive_bytes = 0)
      : fd_(::socket(AF_INET, SOCK_STREAM, 0)) {
    if (receive_bytes > 0) {
      ::setsockopt(fd_, SOL_SOCKET, SO_RCVBUF, &receive_bytes, sizeof(receive_bytes));
    }
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(port);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    REQUIRE(::connect(fd_, reinterpret_cast<sockaddr*>(&address), sizeof(address)) == 0);
    const timeval patience{.tv_sec = 30, .tv_usec = 0};
    ::setsockopt(fd_, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
    const int at_once = 1;  // each send() in a segment of its own
    ::setsockopt(fd_, IPPROTO_TCP, TCP_NODELAY, &at_once, sizeof(at_once));
  }
  ~Client() { close(); }
  Client(const Client&) = delete;
  Client& operator=(const Client&) = delete;

  void close() {
    if (fd_ >= 0) ::close(std::exchange(fd_, -1));
  }
  void end_sending() { ::shutdown(fd_, SHUT_WR); }
  bool send(std::string_view bytes) {
    while (!bytes.empty()) {
      const ssize_t sent = ::send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
      if (sent <= 0) return false;
      bytes.remove_prefix(static_cast<std::size_t>(sent));
    }
    return true;
  }
  // Until `text` has come, or the end.
  std::string read_until(std::string_view text) {
    while (received_.find(text) == received_.npos) {
      char buffer[4096];
      const ssize_t count = ::recv(fd_, buffer, sizeof(buffer), 0);
      has_ended_ = count == 0;
      if (count <= 0) break;
      received_.append(buffer, static_cast<std::size_t>(count));
    }
    return received_;
  }
  bool read_byte() {
    char byte = 0;
    return ::recv(fd_, &byte, 1, 0) == 1;
  }
  std::string read_all() { return read_until("never in an answer"); }
  // Whether the server has closed in order, as far as was read.
  bool has_ended() const { return has_ended_; }

 private:
  int fd_;
  std::string received_;
  bool has_ended_ = false;
};

inline std::string post(const std::string& path, const std::string& body, bool close = true,
                        const std::string& headers = "") {
  return fmt::format(
      "POST {} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n{}{}"
      "Content-Length: {}\r\n\r\n{}",
      path, headers, close ? "Connection: close\r\n" : "", body.size(), body);
}
inline std::string get(const std::string& path, const std::string& headers = "") {
  return fmt::format("GET {} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{}\r\n", path,
                     headers);
}
inline std::string completion(int first_id, int max_tokens, bool stream) {
  return fmt::format(R"({{"prompt":[{},1],"max_tokens":{},"stream":{}}})", first_id, max_tokens,
                     stream);
}
inline int status_of_answer(const std::string& answer) {
  return answer.starts_with("HTTP/1.1 ") ? std::stoi(answer.substr(9, 3)) : 0;
}
inline std::string ask(std::uint16_t port, const std::string& request) {
  Client client(port);
  client.send(request);
  return client.read_all();
}
// What the null engine writes for completion(first_id, ...).
inline std::string expected_text(int first_id, int count) {
  std::string text;
  for (int i = 0; i < count; ++i) text += fmt::format("{} ", first_id + 1 + i);
  return text;
}
// The texts of all events, joined.
inline std::string streamed_text(const std::string& answer) {
  std::string text;
  const std::string mark = "\"text\":\"";
  for (auto at = answer.find(mark); at != answer.npos; at = answer.find(mark, at)) {
    at += mark.size();
    text += answer.substr(at, answer.find('"', at) - at);
  }
  return text;
}
template <typename Condition>
bool eventually(Condition condition) {
  for (int i = 0; i < 8000 && !condition(); ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  return condition();
}

}  // namespace llmrun::testing
