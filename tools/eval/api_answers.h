// An OpenAI-compatible server that answers the questions of an evaluation: one request a sample,
// within the limits of a SendQueue. A sample whose request fails for good has an error; the others
// go on.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include <boost/asio/io_context.hpp>

#include "tools/api_client/api_server_options.h"
#include "tools/api_client/send_queue.h"
#include "tools/eval/answer_source.h"
#include "tools/http/http_client.h"

namespace llmrun {

class ApiAnswers final : public AnswerSource {
 public:
  // Throws Error(kInput) when the server's host has no address.
  ApiAnswers(RemoteServer server, const SendLimits& limits);
  ~ApiAnswers() override;

  void submit(AnswerRequest request) override;
  bool has_unfinished() const override { return !requests_.empty() || !finished_.empty(); }
  std::vector<Answers> advance() override;
  void abort_all() override;
  EngineStats stats() const override;

  // Of sample `index` of a request: to /v1/chat/completions when it has messages, else to
  // /v1/completions. Sampling parameters that are OpenAI's defaults are left out, but for
  // temperature and top_p, of which servers have defaults of their own.
  std::string body_of(const AnswerRequest& request, std::int32_t index) const;

 private:
  class Response;
  // A request of an evaluation while some of its samples are missing.
  struct UnderWay {
    AnswerRequest request;
    Answers answers;
    std::int32_t num_missing = 0;
  };
  // One sample's request.
  struct Query {
    std::uint64_t key = 0;
    std::int32_t sample = 0;
    std::int32_t num_attempts = 0;
  };

  double now_s() const;
  void send_due();
  void send(std::size_t index);
  void end(std::size_t index, const Response& response);
  void finish(std::size_t index, SampleAnswer sample, std::int64_t num_prompt_tokens);

  RemoteServer server_;
  std::chrono::steady_clock::time_point start_;
  boost::asio::io_context context_{1};
  HttpClient client_;
  SendQueue queue_;
  std::size_t next_query_ = 0;
  std::unordered_map<std::size_t, Query> queries_;        // by number
  std::unordered_map<std::uint64_t, UnderWay> requests_;  // by key
  std::vector<Answers> finished_;
  EngineStats stats_;
};

}  // namespace llmrun
