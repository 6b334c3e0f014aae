// Any OpenAI-compatible server as a target, over HTTP with streamed answers.
#pragma once

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <boost/asio/io_context.hpp>
#include <nlohmann/json.hpp>

#include "engine/tokenizer/tokenizer.h"
#include "tools/http/http_client.h"
#include "tools/serve_bench/bench_target.h"

namespace llmrun {

struct HttpTargetOptions {
  HttpUrl base_url;                                      // without /v1
  std::string endpoint = "/v1/completions";              // or /v1/chat/completions
  std::string model;                                     // the name in each request
  SamplingParams sampling = {};                          // temperature, top_p, top_k, ignore_eos
  nlohmann::json extra_body = nlohmann::json::object();  // on top of each request
  std::vector<std::pair<std::string, std::string>> headers = {};  // Authorization among them
  std::shared_ptr<const Tokenizer> tokenizer = nullptr;           // chat: prompts are sent as text
  bool keep_text = false;
  HttpClient::Options client = {};
};

class HttpTarget : public BenchTarget {
 public:
  // Throws Error(kUsage) for a chat endpoint without a tokenizer, Error(kInput) for an unknown
  // host.
  HttpTarget(boost::asio::io_context& context, HttpTargetOptions options);

  void send(std::size_t index, const BenchRequest& request, BenchListener& listener) override;

  // The body of a request: prompts as token ids, as text for a chat.
  std::string body_of(const BenchRequest& request) const;

 private:
  class Answer;

  HttpTargetOptions options_;
  HttpClient client_;
  std::string body_end_;  // what all bodies have in common, without its opening brace
};

// The first name of GET /v1/models. Throws Error(kInput).
std::string first_served_model(const HttpTargetOptions& options);

}  // namespace llmrun
