// AsyncEngine: an engine on a thread of its own, for callers on other threads.
//
// Requests and aborts are messages that are applied between two steps, so that a caller that goes
// away never disturbs a step. Every submitted request is finished exactly once: answered, refused,
// aborted or, when the engine fails, with an error.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <exception>
#include <functional>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <unordered_map>
#include <variant>
#include <vector>

#include "engine/engine.h"
#include "engine/step_progress.h"

namespace llmrun {

class AsyncEngine {
 public:
  struct Options {
    // Samples of unfinished requests, those that wait included; 0: any number.
    std::int64_t max_unfinished_sequences = 0;
    // From submit() to the end, waiting included; what takes longer is aborted with the error
    // "timeout". 0: any time.
    double max_request_seconds = 0;
  };

  // Both are called on the engine's thread between steps: they must be quick and must not throw.
  struct Callbacks {
    // A token of a sample as it comes. Empty: nothing is told before the end.
    std::function<void(TokenDelta)> on_token;
    // Once, after the last token. The output's id is the one that submit() returned.
    std::function<void(RequestOutput)> on_finished;
  };

  struct Status {
    EngineStats stats;  // after the last step
    std::int64_t num_unfinished_requests = 0;
    // Of the work, what is done between two steps included: it begins when there is something to
    // do or, if later, when the last step ended.
    StepProgress::State progress;
    bool failed = false;
    // What the engine held when it had nothing to do; nothing has been taken since then. Empty:
    // all is well.
    std::string leak;
  };

  // `engine` must outlive this object and be touched by nobody else while it lives.
  explicit AsyncEngine(Engine& engine) : AsyncEngine(engine, Options()) {}
  AsyncEngine(Engine& engine, const Options& options);
  ~AsyncEngine();  // stop()
  AsyncEngine(const AsyncEngine&) = delete;
  AsyncEngine& operator=(const AsyncEngine&) = delete;

  // Takes a request; its time in the queue counts from now. `request.streams` and
  // `request.arrived_s` are set here. Nothing: the queue is full, or the engine has stopped, failed
  // or lost something (Status::leak); no callback is called then.
  std::optional<RequestId> submit(EngineRequest request, Callbacks callbacks);
  // Ends a request before the next step; its output says "abort". A request that is finished or
  // unknown is ignored.
  void abort(RequestId id);
  void abort_all();

  Status status() const;
  // Why the engine failed; null while it has not.
  std::exception_ptr error() const;
  double now() const { return engine_.now(); }  // the engine's clock, in seconds

  // Aborts what is unfinished, delivers it, and ends the thread.
  void stop();

 private:
  struct Submission {
    RequestId id = 0;
    EngineRequest request;
    Callbacks callbacks;
  };
  struct Abort {
    RequestId id = 0;
  };
  struct AbortAll {};
  using Message = std::variant<Submission, Abort, AbortAll>;

  // A request while the engine has it.
  struct Entry {
    RequestId id = 0;  // the caller's
    std::int64_t num_sequences = 0;
    Callbacks callbacks;
    bool is_expired = false;  // aborted since it took too long
  };
  // When a request's time is over.
  struct Deadline {
    RequestId id = 0;  // the caller's
    double at_s = 0;   // on the engine's clock
  };

  void send(Message message);
  void run();
  // Applies what was sent; waits while there is nothing to do. False: it is time to end.
  bool handle_messages();
  void handle(Message& message);
  void abort_expired();
  void deliver();
  void finish(const Entry& entry, RequestOutput output);
  void publish_status();
  void check_idle();
  void fail_unfinished();

  Engine& engine_;
  const Options options_;

  mutable std::mutex mutex_;
  std::condition_variable message_came_;
  std::vector<Message> messages_;
  bool stopping_ = false;
  std::exception_ptr error_;
  std::string leak_;
  EngineStats stats_;
  StepProgress progress_;

  std::atomic<RequestId> next_id_ = 1;
  std::atomic<std::int64_t> num_unfinished_sequences_ = 0;
  std::atomic<std::int64_t> num_unfinished_requests_ = 0;

  // Of the engine's thread only.
  std::unordered_map<RequestId, Entry> entries_;         // by the engine's id
  std::unordered_map<RequestId, RequestId> engine_ids_;  // by the caller's id
  std::deque<Deadline> deadlines_;                       // the earliest first; none without a limit

  std::thread thread_;
};

}  // namespace llmrun
