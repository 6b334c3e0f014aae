#include "engine/async_engine.h"

#include <chrono>
#include <utility>

#include <fmt/format.h>

namespace llmrun {
namespace {

// How long the engine's thread waits for messages before it looks by itself.
constexpr std::chrono::seconds kIdleInterval{1};

RequestError to_request_error(const std::exception_ptr& error) {
  try {
    std::rethrow_exception(error);
  } catch (const std::exception& reason) {
    return {"internal", reason.what()};
  } catch (...) {
    return {"internal", "the engine failed"};
  }
}

}  // namespace

AsyncEngine::AsyncEngine(Engine& engine, const Options& options)
    : engine_(engine), options_(options), stats_(engine.stats()), thread_([this] { run(); }) {}

AsyncEngine::~AsyncEngine() {
  stop();
}

std::optional<RequestId> AsyncEngine::submit(EngineRequest request, Callbacks callbacks) {
  const std::int64_t num_sequences = request.params.num_sequences();
  request.streams = callbacks.on_token != nullptr;
  request.arrived_s = engine_.now();
  const std::lock_guard lock(mutex_);
  if (stopping_ || error_ != nullptr || !leak_.empty()) return std::nullopt;
  const std::int64_t num_unfinished = num_unfinished_sequences_.load(std::memory_order_relaxed);
  if (options_.max_unfinished_sequences > 0 &&
      num_unfinished + num_sequences > options_.max_unfinished_sequences) {
    return std::nullopt;
  }
  num_unfinished_sequences_.fetch_add(num_sequences, std::memory_order_relaxed);
  num_unfinished_requests_.fetch_add(1, std::memory_order_relaxed);
  const RequestId id = next_id_.fetch_add(1, std::memory_order_relaxed);
  messages_.emplace_back(Submission{id, std::move(request), std::move(callbacks)});
  progress_.begin();
  message_came_.notify_one();
  return id;
}

void AsyncEngine::abort(RequestId id) {
  send(Abort{id});
}

void AsyncEngine::abort_all() {
  send(AbortAll{});
}

void AsyncEngine::send(Message message) {
  const std::lock_guard lock(mutex_);
  messages_.push_back(std::move(message));
  progress_.begin();
  message_came_.notify_one();
}

AsyncEngine::Status AsyncEngine::status() const {
  const std::lock_guard lock(mutex_);
  Status status;
  status.stats = stats_;
  status.num_unfinished_requests = num_unfinished_requests_.load(std::memory_order_relaxed);
  status.failed = error_ != nullptr;
  status.leak = leak_;
  status.progress = progress_.state();
  return status;
}

std::exception_ptr AsyncEngine::error() const {
  const std::lock_guard lock(mutex_);
  return error_;
}

void AsyncEngine::stop() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
    message_came_.notify_one();
  }
  if (thread_.joinable()) thread_.join();
}

// --- on the engine's thread ---

void AsyncEngine::run() {
  try {
    while (handle_messages()) {
      abort_expired();
      if (engine_.has_unfinished()) engine_.step();
      publish_status();
      deliver();
      check_idle();
    }
    engine_.abort_all();
    while (engine_.has_unfinished()) engine_.step();
    deliver();
    check_idle();
  } catch (...) {
    const std::lock_guard lock(mutex_);
    error_ = std::current_exception();
  }
  fail_unfinished();
}

bool AsyncEngine::handle_messages() {
  std::vector<Message> messages;
  {
    std::unique_lock lock(mutex_);
    if (!engine_.has_unfinished()) {
      message_came_.wait_for(lock, kIdleInterval,
                             [this] { return !messages_.empty() || stopping_; });
    }
    if (stopping_) return false;
    messages.swap(messages_);
  }
  for (Message& message : messages) handle(message);
  return true;
}

void AsyncEngine::handle(Message& message) {
  if (auto* submission = std::get_if<Submission>(&message)) {
    const std::int64_t num_sequences = submission->request.params.num_sequences();
    if (options_.max_request_seconds > 0) {
      deadlines_.push_back(
          {submission->id, submission->request.arrived_s + options_.max_request_seconds});
    }
    const RequestId engine_id = engine_.add_request(std::move(submission->request));
    engine_ids_.emplace(submission->id, engine_id);
    entries_.emplace(engine_id, Entry{.id = submission->id,
                                      .num_sequences = num_sequences,
                                      .callbacks = std::move(submission->callbacks)});
  } else if (const auto* abort = std::get_if<Abort>(&message)) {
    const auto found = engine_ids_.find(abort->id);
    if (found != engine_ids_.end()) engine_.abort(found->second);
  } else {
    engine_.abort_all();
  }
}

// All have the same time, so that they are over in the order of their arrival.
void AsyncEngine::abort_expired() {
  const double now_s = engine_.now();
  while (!deadlines_.empty()) {
    const auto found = engine_ids_.find(deadlines_.front().id);
    const bool is_finished = found == engine_ids_.end();
    if (!is_finished && deadlines_.front().at_s > now_s) return;
    deadlines_.pop_front();
    if (is_finished) continue;
    entries_.at(found->second).is_expired = true;
    engine_.abort(found->second);
  }
}

void AsyncEngine::deliver() {
  for (TokenDelta& delta : engine_.take_deltas()) {
    const auto found = entries_.find(delta.request_id);
    if (found == entries_.end()) continue;  // a token too late hurts nobody else's request
    delta.request_id = found->second.id;
    found->second.callbacks.on_token(std::move(delta));
  }
  for (RequestOutput& output : engine_.take_outputs()) {
    const auto found = entries_.find(output.id);
    if (found == entries_.end()) continue;
    Entry entry = std::move(found->second);
    entries_.erase(found);
    engine_ids_.erase(entry.id);
    finish(entry, std::move(output));
  }
}

void AsyncEngine::finish(const Entry& entry, RequestOutput output) {
  output.id = entry.id;
  if (entry.is_expired && output.error.empty()) {
    output.error = {"timeout", fmt::format("the request was not finished within its {} s",
                                           options_.max_request_seconds)};
  }
  num_unfinished_sequences_.fetch_sub(entry.num_sequences, std::memory_order_relaxed);
  num_unfinished_requests_.fetch_sub(1, std::memory_order_relaxed);
  if (entry.callbacks.on_finished) entry.callbacks.on_finished(std::move(output));
}

void AsyncEngine::publish_status() {
  const EngineStats stats = engine_.stats();
  const std::lock_guard lock(mutex_);
  stats_ = stats;
  progress_.end();
  if (engine_.has_unfinished() || !messages_.empty()) progress_.begin();
}

// What was asked so far is answered; what would come next could wait for room that never comes.
void AsyncEngine::check_idle() {
  if (engine_.has_unfinished()) return;
  std::optional<std::string> leak = engine_.find_leak();
  if (!leak) return;
  const std::lock_guard lock(mutex_);
  leak_ = std::move(*leak);
}

// What the engine has not answered when it ends: nothing after a stop() of a sound engine but what
// was sent too late.
void AsyncEngine::fail_unfinished() {
  std::vector<Message> messages;
  RequestError error = {"abort", "the engine has stopped"};
  {
    const std::lock_guard lock(mutex_);
    messages.swap(messages_);
    stopping_ = true;
    progress_.end();
    if (error_ != nullptr) error = to_request_error(error_);
  }
  std::vector<Entry> entries;
  for (auto& [engine_id, entry] : entries_) entries.push_back(std::move(entry));
  entries_.clear();
  for (Message& message : messages) {
    if (auto* submission = std::get_if<Submission>(&message)) {
      entries.push_back({.id = submission->id,
                         .num_sequences = submission->request.params.num_sequences(),
                         .callbacks = std::move(submission->callbacks)});
    }
  }
  for (const Entry& entry : entries) {
    RequestOutput output;
    output.error = error;
    finish(entry, std::move(output));
  }
}

}  // namespace llmrun
