// What a load is put on: the engine in this process, or a server behind a URL.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <vector>

#include "engine/core/token_id.h"
#include "engine/sequence/sampling_params.h"

namespace llmrun {

// A request of a load; ids and parameters live as long as the run.
struct BenchRequest {
  const std::vector<TokenId>* prompt_token_ids = nullptr;
  std::int32_t output_len = 0;
  std::uint64_t seed = 0;
};

// How a request ended.
struct BenchOutcome {
  // "connect", "timeout", "disconnected", "protocol", "http_429", "bad_response", "no_output",
  // "error", or the engine's code; empty: it was answered.
  std::string failure;
  std::string message;
  bool can_retry = false;    // it was not a fault of the request
  double retry_after_s = 0;  // the server's wish
  // As the answering side counts them; -1: it does not say.
  std::int64_t num_prompt_tokens = -1;
  std::int64_t num_output_tokens = -1;
  std::string text;  // only when asked for
};

// Hears of requests by their number. Calls for one request come after one another, from any thread.
class BenchListener {
 public:
  using Time = std::chrono::steady_clock::time_point;
  virtual ~BenchListener() = default;
  // A piece of the answer came, with `num_tokens` tokens in it (0: it does not say).
  virtual void on_tokens(std::size_t index, std::int32_t num_tokens, Time time) = 0;
  virtual void on_end(std::size_t index, BenchOutcome outcome, Time time) = 0;
};

class BenchTarget {
 public:
  virtual ~BenchTarget() = default;
  // Sends a request; the listener hears of it until its end. Called on the load's thread.
  virtual void send(std::size_t index, const BenchRequest& request, BenchListener& listener) = 0;
  // Gives up what is under way; the listener hears of the end of each, soon.
  virtual void abort_all() = 0;
};

}  // namespace llmrun
