// Any OpenAI-compatible server as a target, over HTTP with streamed answers.
#pragma once

#include <memory>
#include <string>

#include <boost/asio/io_context.hpp>

#include "engine/tokenizer/tokenizer.h"
#include "tools/api_client/api_server_options.h"
#include "tools/http/http_client.h"
#include "tools/serve_bench/bench_target.h"

namespace llmrun {

struct HttpTargetOptions {
  RemoteServer server;
  std::string endpoint = "/v1/completions";              // or /v1/chat/completions
  SamplingParams sampling = {};                          // temperature, top_p, top_k, ignore_eos
  std::shared_ptr<const Tokenizer> tokenizer = nullptr;  // chat: prompts are sent as text
  bool keep_text = false;
};

class HttpTarget : public BenchTarget {
 public:
  // Throws Error(kUsage) for a chat endpoint without a tokenizer, Error(kInput) for an unknown
  // host.
  HttpTarget(boost::asio::io_context& context, HttpTargetOptions options);

  void send(std::size_t index, const BenchRequest& request, BenchListener& listener) override;
  void abort_all() override { client_.cancel_all(); }

  // The body of a request: prompts as token ids, as text for a chat.
  std::string body_of(const BenchRequest& request) const;

 private:
  class Answer;

  HttpTargetOptions options_;
  HttpClient client_;
  std::string body_end_;  // what all bodies have in common, without its opening brace
};

}  // namespace llmrun
