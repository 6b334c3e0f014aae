// Engine: what serves requests step by step. LlmEngine runs a model; NullEngine answers by a timer,
// so that what surrounds an engine (a server, a load generator) can be measured by itself.
//
// One thread at a time; AsyncEngine gives an engine a thread of its own.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "engine/core/token_id.h"
#include "engine/metrics/engine_stats.h"
#include "engine/sequence/request.h"

namespace llmrun {

// A request as an engine takes it: tokens, not text.
struct EngineRequest {
  std::vector<TokenId> prompt_token_ids;
  SamplingParams params;
  // Identity of the request in its job (a hash of its id). Without params.seed the random stream is
  // keyed by (engine seed, key), so that a resumed run chooses the same tokens.
  std::uint64_t key = 0;
  std::uint64_t cache_salt = 0;  // prefixes are shared only between equal salts
  // Each token is told by take_deltas() as it comes. Not for beam search and best_of > n, whose
  // outputs are chosen at the end.
  bool streams = false;
  double arrived_s = 0;  // on the engine's clock, when it waited elsewhere before; 0: now
};

class Engine {
 public:
  virtual ~Engine() = default;

  // Takes a request. One that can never run (too long, bad parameters) is finished at once, with
  // its error in its output; nothing is thrown for what a request asks.
  virtual RequestId add_request(EngineRequest request) = 0;
  // Ends a request with what it has; its output says "abort". Unknown or finished ids are ignored.
  virtual void abort(RequestId id) = 0;
  virtual void abort_all() = 0;

  virtual bool has_unfinished() const = 0;
  // Throws Error when the engine cannot go on.
  virtual void step() = 0;
  // Tokens of streaming requests since the last call, in order of time. Those of a request that
  // finished are all here before its output is in take_outputs().
  virtual std::vector<TokenDelta> take_deltas() = 0;
  // Requests finished since the last call, in order of completion.
  virtual std::vector<RequestOutput> take_outputs() = 0;

  // What is still held though nothing is unfinished, or nothing: a bug, after which the engine
  // would sooner or later have no room. REQUIRES: no unfinished request.
  virtual std::optional<std::string> find_leak() const { return std::nullopt; }

  virtual EngineStats stats() const = 0;
  // Seconds on the engine's clock: that of RequestTimings. May be called from any thread.
  virtual double now() const = 0;
};

}  // namespace llmrun
