// Generation: one request of a client while the engine answers it. Between the engine's thread,
// which tells tokens, and the I/O thread, which sends them; lives until both are done with it.
#pragma once

#include <atomic>
#include <cstddef>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "engine/async_engine.h"
#include "tools/serve/api_request.h"
#include "tools/serve/api_response.h"
#include "tools/serve/http_server.h"
#include "tools/serve/server_metrics.h"

namespace llmrun {

class Generation final : public HttpBodySource, public std::enable_shared_from_this<Generation> {
 public:
  struct Services {
    AsyncEngine& engine;
    ServerMetrics& metrics;
    std::function<void(std::function<void()>)> run_on_worker;
    HttpHeaders headers;  // of every answer
    std::size_t max_unsent_bytes = 0;
  };
  struct Reply {
    RecordFormatter formatter;
    std::vector<std::string> prompt_texts;
    std::string model_name;
  };

  Generation(Services services, std::shared_ptr<HttpExchange> exchange, ApiRequest request,
             Reply reply);

  // Gives the engine a request for each prompt; the exchange is answered from then on.
  void start(std::vector<EngineRequest> requests);

  bool take(std::string& out) override;

 private:
  // How far a choice has been told.
  struct Choice {
    std::size_t num_text_bytes = 0;
    std::size_t num_tokens = 0;
    bool is_finished = false;
    double last_token_s = 0;
    std::optional<ChoiceDelta> pending;
  };

  void on_token(std::size_t prompt, TokenDelta delta);
  void on_finished(std::size_t prompt, RequestOutput output);
  // Both with the lock held.
  void add_pending(std::int32_t choice, ChoiceDelta delta);
  void add_rest(std::size_t prompt, const RequestOutput& output);
  void begin_stream();
  bool take_events(std::string& out);
  void answer_whole();
  void refuse_full();
  void abort();
  void abort_requests();
  void respond(HttpResponse response);

  Services services_;
  std::shared_ptr<HttpExchange> exchange_;
  const ApiRequest request_;
  ApiResponseWriter writer_;

  std::mutex mutex_;
  std::vector<RequestId> ids_;  // of the engine
  bool is_abandoned_ = false;   // refused or without a reader: outputs are not wanted
  std::vector<Choice> choices_;
  std::vector<std::int32_t> pending_choices_;  // in the order in which they got something
  std::size_t num_unsent_bytes_ = 0;           // of what is pending, about
  std::vector<RequestOutput> outputs_;         // by prompt
  std::size_t num_finished_ = 0;
  bool is_streaming_ = false;
  RequestError error_;
  TokenUsage usage_;
};

}  // namespace llmrun
