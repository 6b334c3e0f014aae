// ApiServer: the endpoints of `llmrun serve`, OpenAI's and vLLM's older one, over an AsyncEngine.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "engine/async_engine.h"
#include "engine/prompt_processor.h"
#include "tools/input/request_fields.h"
#include "tools/serve/api_access.h"
#include "tools/serve/api_request.h"
#include "tools/serve/http_server.h"
#include "tools/serve/server_metrics.h"

namespace llmrun {

class ApiServer {
 public:
  struct Options {
    std::vector<std::string> model_names;  // at least one; the first is what answers say
    SamplingParams defaults;
    std::int64_t max_model_len = 0;
    SamplingLimits limits;
    ApiAccess::Options access;
    // Without a step while there is work, until /health says 503; 0: never.
    double stall_timeout_s = kStallTimeoutSeconds;
    // Text and log-probabilities that may wait for a client that reads more slowly than they come.
    std::size_t max_unsent_bytes = 16 << 20;
  };

  // All must outlive the server, which answers from now on. At the end: stop `http` first, then the
  // engine, then destroy this.
  ApiServer(HttpServer& http, AsyncEngine& engine, const PromptProcessor& prompts,
            const Options& options);

  // From now on new requests are refused with 503; those under way go on.
  void start_draining() { draining_ = true; }

 private:
  void handle(const std::shared_ptr<HttpExchange>& exchange);
  HttpResponse answer_get(const HttpRequest& request) const;
  void handle_post(const std::shared_ptr<HttpExchange>& exchange);
  void handle_generation(const std::shared_ptr<HttpExchange>& exchange, ApiEndpoint endpoint,
                         nlohmann::ordered_json body);

  HttpResponse health() const;
  HttpResponse models() const;
  HttpResponse model(std::string_view name) const;
  nlohmann::ordered_json describe_model(const std::string& name) const;
  HttpResponse tokenize(const nlohmann::ordered_json& body) const;
  HttpResponse detokenize(const nlohmann::ordered_json& body) const;

  HttpServer& http_;
  AsyncEngine& engine_;
  const PromptProcessor& prompts_;
  const Options options_;
  const ApiAccess access_;
  RequestRules rules_;
  ServerMetrics metrics_;
  std::int64_t started_at_;  // Unix time
  std::atomic<bool> draining_ = false;
  std::atomic<std::uint64_t> next_key_;  // of requests without a seed
};

// The bytes a prompt may have: more cannot fit a context of this many tokens.
std::size_t max_prompt_bytes(std::int64_t max_model_len);

}  // namespace llmrun
