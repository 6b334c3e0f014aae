#include "tools/serve/generation.h"

#include <algorithm>
#include <iterator>
#include <utility>

namespace llmrun {
namespace {

void append(ChoiceDelta& to, ChoiceDelta&& from) {
  to.text += from.text;
  to.token_ids.insert(to.token_ids.end(), from.token_ids.begin(), from.token_ids.end());
  std::move(from.logprobs.begin(), from.logprobs.end(), std::back_inserter(to.logprobs));
  to.finish_reason = from.finish_reason;
  to.stop_string = std::move(from.stop_string);
  to.stop_token_id = from.stop_token_id;
}

// Roughly what a delta takes of memory until it is sent.
std::size_t size_of(const ChoiceDelta& delta) {
  std::size_t size = delta.text.size() + delta.token_ids.size() * sizeof(TokenId);
  for (const TokenLogprobs& token : delta.logprobs) {
    size += sizeof(token) + token.top.size() * sizeof(TokenLogprobs::Entry);
  }
  return size;
}

}  // namespace

Generation::Generation(Services services, std::shared_ptr<HttpExchange> exchange,
                       ApiRequest request, Reply reply)
    : services_(std::move(services)),
      exchange_(std::move(exchange)),
      request_(std::move(request)),
      writer_(request_, std::move(reply.formatter), std::move(reply.prompt_texts),
              reply.model_name),
      choices_(request_.prompts.size() * static_cast<std::size_t>(request_.sampling().n)),
      outputs_(request_.prompts.size()) {}

void Generation::start(std::vector<EngineRequest> requests) {
  const auto self = shared_from_this();
  for (const EngineRequest& request : requests) {
    usage_.num_prompt_tokens += std::ssize(request.prompt_token_ids);
  }
  for (std::size_t prompt = 0; prompt < requests.size(); ++prompt) {
    const auto id = services_.engine.submit(
        std::move(requests[prompt]),
        {.on_token = [self, prompt](TokenDelta delta) { self->on_token(prompt, std::move(delta)); },
         .on_finished =
             [self, prompt](RequestOutput output) {
               self->on_finished(prompt, std::move(output));
             }});
    if (!id) {
      refuse_full();
      return;
    }
    bool is_ended = false;
    {
      const std::lock_guard lock(mutex_);
      ids_.push_back(*id);
      is_ended = !error_.empty();
    }
    if (is_ended) services_.engine.abort(*id);
  }
  exchange_->on_client_gone([weak = weak_from_this()] {
    if (const auto generation = weak.lock()) generation->abort();
  });
}

void Generation::refuse_full() {
  abort();
  const AsyncEngine::Status status = services_.engine.status();
  const bool stopped = status.failed || !status.leak.empty();
  HttpResponse response =
      stopped ? error_response(503, "the engine has stopped")
              : error_response(429, "too many requests wait already; try again later");
  response.headers.emplace_back("Retry-After", "1");
  respond(std::move(response));
}

void Generation::respond(HttpResponse response) {
  response.headers.insert(response.headers.end(), services_.headers.begin(),
                          services_.headers.end());
  exchange_->respond(std::move(response));
}

void Generation::abort() {
  {
    const std::lock_guard lock(mutex_);
    is_abandoned_ = true;
  }
  abort_requests();
}

void Generation::abort_requests() {
  std::vector<RequestId> ids;
  {
    const std::lock_guard lock(mutex_);
    ids = ids_;
  }
  for (const RequestId id : ids) services_.engine.abort(id);
}

// --- on the engine's thread ---

void Generation::on_token(std::size_t prompt, TokenDelta delta) {
  const auto choice = static_cast<std::int32_t>(prompt) * request_.sampling().n + delta.index;
  bool reads_too_slowly = false;
  bool is_first = false;
  {
    const std::lock_guard lock(mutex_);
    Choice& state = choices_[static_cast<std::size_t>(choice)];
    if (state.last_token_s > 0) {
      services_.metrics.count_token_interval(delta.time_s - state.last_token_s);
    }
    state.last_token_s = delta.time_s;
    if (!request_.stream || is_abandoned_ || !error_.empty()) return;
    ChoiceDelta told{.choice = choice,
                     .text = std::move(delta.text),
                     .token_ids = {delta.token_id},
                     .logprobs = {},
                     .finish_reason = delta.finish_reason,
                     .stop_string = std::move(delta.stop_string),
                     .stop_token_id = delta.stop_token_id};
    if (delta.logprobs) told.logprobs.push_back(std::move(*delta.logprobs));
    usage_.num_output_tokens += 1;
    add_pending(choice, std::move(told));
    reads_too_slowly = num_unsent_bytes_ > services_.max_unsent_bytes;
    is_first = !is_streaming_;
    if (reads_too_slowly) error_ = {"slow_reader", "the answer was not read as fast as it came"};
  }
  if (reads_too_slowly) return abort_requests();
  if (is_first) begin_stream();
  exchange_->notify();
}

void Generation::add_pending(std::int32_t choice, ChoiceDelta delta) {
  Choice& state = choices_[static_cast<std::size_t>(choice)];
  num_unsent_bytes_ += size_of(delta);
  state.num_text_bytes += delta.text.size();
  state.num_tokens += delta.token_ids.size();
  state.is_finished = delta.finish_reason != FinishReason::kNone;
  if (state.pending) {
    append(*state.pending, std::move(delta));
    return;
  }
  state.pending = std::move(delta);
  pending_choices_.push_back(choice);
}

// What an output has beyond what was told token by token.
void Generation::add_rest(std::size_t prompt, const RequestOutput& output) {
  for (const CompletionOutput& sample : output.outputs) {
    const auto choice = static_cast<std::int32_t>(prompt) * request_.sampling().n + sample.index;
    const Choice& state = choices_[static_cast<std::size_t>(choice)];
    if (state.is_finished) continue;
    const auto told = static_cast<std::ptrdiff_t>(state.num_tokens);
    add_pending(choice, {.choice = choice,
                         .text = sample.text.substr(state.num_text_bytes),
                         .token_ids = {sample.token_ids.begin() + told, sample.token_ids.end()},
                         .logprobs = {},
                         .finish_reason = sample.finish_reason,
                         .stop_string = sample.stop_string,
                         .stop_token_id = sample.stop_token_id});
  }
}

void Generation::on_finished(std::size_t prompt, RequestOutput output) {
  services_.metrics.count_finished(output);
  bool is_last = false;
  {
    const std::lock_guard lock(mutex_);
    is_last = ++num_finished_ == outputs_.size();
    if (is_abandoned_) return;
    const bool was_aborted = std::any_of(
        output.outputs.begin(), output.outputs.end(),
        [](const auto& sample) { return sample.finish_reason == FinishReason::kAbort; });
    if (!output.error.empty() && error_.empty()) error_ = output.error;
    if (was_aborted && error_.empty()) error_ = {"abort", "the server is shutting down"};
    if (request_.stream && error_.empty()) {
      add_rest(prompt, output);
      usage_.num_cached_tokens += output.num_cached_tokens;
    } else if (!request_.stream) {
      outputs_[prompt] = std::move(output);
    }
    if (request_.stream && !error_.empty() && !is_streaming_ && !is_last) return;
  }
  if (request_.stream) {
    if (is_last) begin_stream();
    exchange_->notify();
  } else if (is_last) {
    // A long answer takes time to write; neither the engine nor other clients wait for it.
    services_.run_on_worker([self = shared_from_this()] { self->answer_whole(); });
  }
}

// The head is sent with the first token, so that a request that fails at once has a status.
void Generation::begin_stream() {
  {
    const std::lock_guard lock(mutex_);
    if (is_streaming_ || is_abandoned_) return;
    if (!error_.empty()) {
      is_abandoned_ = true;
    } else {
      is_streaming_ = true;
    }
  }
  if (!error_.empty()) {
    respond(response_of(error_));
    return;
  }
  HttpResponse head{.content_type = writer_.stream_content_type(), .headers = services_.headers};
  head.headers.emplace_back("Cache-Control", "no-cache");
  exchange_->stream(std::move(head), shared_from_this());
}

// --- on a worker ---

// An exception ends its request only.
void Generation::answer_whole() {
  HttpResponse response;
  try {
    response = error_.empty() ? writer_.whole(outputs_) : response_of(error_);
  } catch (const std::exception& problem) {
    response = response_of({"internal", problem.what()});
  }
  respond(std::move(response));
}

// --- on the I/O thread ---

bool Generation::take(std::string& out) {
  try {
    return take_events(out);
  } catch (const std::exception& problem) {
    const RequestError error{"internal", problem.what()};
    out.clear();
    writer_.append_error(status_of(error), message_for_client(error), out);
    abort();
    return false;
  }
}

bool Generation::take_events(std::string& out) {
  std::vector<ChoiceDelta> deltas;
  bool is_finished = false;
  TokenUsage usage;
  RequestError error;
  {
    const std::lock_guard lock(mutex_);
    for (const std::int32_t choice : pending_choices_) {
      Choice& state = choices_[static_cast<std::size_t>(choice)];
      deltas.push_back(std::move(*state.pending));
      state.pending.reset();
    }
    pending_choices_.clear();
    num_unsent_bytes_ = 0;
    is_finished = num_finished_ == outputs_.size();
    usage = usage_;
    if (is_finished) error = error_;
  }
  for (const ChoiceDelta& delta : deltas) writer_.append_delta(delta, usage, out);
  if (!is_finished) return true;
  if (!error.empty()) writer_.append_error(status_of(error), message_for_client(error), out);
  writer_.append_end(usage, out);
  return false;
}

}  // namespace llmrun
