#include "engine/null_engine.h"

#include <algorithm>
#include <limits>
#include <numeric>
#include <string>
#include <thread>
#include <utility>

#include <fmt/format.h>

#include "engine/core/counted.h"

namespace llmrun {

NullEngine::NullEngine(const Options& options)
    : options_(options), start_(std::chrono::steady_clock::now()), next_step_(start_) {}

double NullEngine::now() const {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count();
}

RequestId NullEngine::add_request(EngineRequest request) {
  Running running;
  running.id = running.output.id = next_id_++;
  running.output.timings.arrived = request.arrived_s > 0 ? request.arrived_s : now();
  const auto& prompt = request.prompt_token_ids;
  running.prompt_sum = std::accumulate(prompt.begin(), prompt.end(), std::int64_t{0});
  const std::int64_t room = options_.max_model_len - std::ssize(prompt);
  running.max_output_tokens = std::min<std::int64_t>(
      room, request.params.max_tokens.value_or(std::numeric_limits<std::int32_t>::max()));
  running.output.prompt_token_ids = std::move(request.prompt_token_ids);
  running.request = std::move(request);
  const RequestId id = running.id;
  if (running.output.prompt_token_ids.empty()) {
    refuse(running, {"empty_prompt", "the prompt has no tokens"});
  } else if (room < 1) {
    refuse(running,
           {"too_long", fmt::format("the prompt has {}; with at least one output "
                                    "token that is more than --max-model-len {}",
                                    counted(std::ssize(running.output.prompt_token_ids), "token"),
                                    options_.max_model_len)});
  } else {
    requests_.push_back(std::move(running));
  }
  return id;
}

void NullEngine::refuse(Running& running, RequestError error) {
  running.output.error = std::move(error);
  stats_.num_requests_failed += 1;
  stats_.num_requests_finished += 1;
  outputs_.push_back(std::move(running.output));
}

void NullEngine::abort(RequestId id) {
  const auto found =
      std::find_if(requests_.begin(), requests_.end(), [&](const auto& r) { return r.id == id; });
  if (found == requests_.end()) return;
  finish(*found, FinishReason::kAbort);
  requests_.erase(found);
}

void NullEngine::abort_all() {
  for (Running& running : requests_) finish(running, FinishReason::kAbort);
  requests_.clear();
}

void NullEngine::step() {
  wait_for_step();
  stats_.num_steps += 1;
  const double now_s = now();
  const auto end = requests_.begin() + num_running();
  for (auto running = requests_.begin(); running != end; ++running) advance(*running, now_s);
  std::erase_if(requests_, [this](Running& running) {
    if (running.output.outputs.empty()) return false;
    if (std::ssize(running.output.outputs.front().token_ids) < running.max_output_tokens)
      return false;
    finish(running, FinishReason::kLength);
    return true;
  });
}

// A step ends a fixed time after the one before, however long the caller took between them.
void NullEngine::wait_for_step() {
  if (options_.step_seconds <= 0) return;
  const auto step = std::chrono::duration_cast<std::chrono::steady_clock::duration>(
      std::chrono::duration<double>(options_.step_seconds));
  const auto now = std::chrono::steady_clock::now();
  next_step_ += step;
  if (next_step_ < now) next_step_ = now + step;  // it was idle
  std::this_thread::sleep_until(next_step_);
}

void NullEngine::advance(Running& running, double now_s) {
  RequestOutput& output = running.output;
  if (output.outputs.empty()) {
    output.timings.first_scheduled = output.timings.first_token = now_s;
    output.outputs.resize(static_cast<std::size_t>(running.request.params.n));
    for (std::int32_t i = 0; i < running.request.params.n; ++i) {
      output.outputs[static_cast<std::size_t>(i)].index = i;
    }
  }
  for (CompletionOutput& sample : output.outputs) {
    const std::int64_t position = std::ssize(sample.token_ids);
    const auto token =
        static_cast<TokenId>((running.prompt_sum + sample.index + position) % options_.vocab_size);
    std::string text = fmt::format("{} ", token);
    sample.token_ids.push_back(token);
    sample.text += text;
    stats_.num_output_tokens += 1;
    output.num_output_tokens += 1;
    if (!running.request.streams) continue;
    const bool is_last = position + 1 >= running.max_output_tokens;
    deltas_.push_back({.request_id = running.id,
                       .index = sample.index,
                       .token_id = token,
                       .text = std::move(text),
                       .finish_reason = is_last ? FinishReason::kLength : FinishReason::kNone,
                       .time_s = now_s});
  }
}

void NullEngine::finish(Running& running, FinishReason reason) {
  running.output.timings.finished = now();
  for (CompletionOutput& sample : running.output.outputs) sample.finish_reason = reason;
  stats_.num_requests_finished += 1;
  stats_.num_prompt_tokens += std::ssize(running.output.prompt_token_ids);
  outputs_.push_back(std::move(running.output));
}

std::int64_t NullEngine::num_running() const {
  return std::min<std::int64_t>(std::ssize(requests_), options_.max_num_seqs);
}

std::vector<TokenDelta> NullEngine::take_deltas() {
  return std::exchange(deltas_, {});
}

std::vector<RequestOutput> NullEngine::take_outputs() {
  return std::exchange(outputs_, {});
}

EngineStats NullEngine::stats() const {
  EngineStats stats = stats_;
  stats.num_sequences_running = num_running();
  stats.num_sequences_waiting = std::ssize(requests_) - num_running();
  return stats;
}

}  // namespace llmrun
