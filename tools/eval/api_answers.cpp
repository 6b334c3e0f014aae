#include "tools/eval/api_answers.h"

#include <algorithm>
#include <utility>

#include <fmt/format.h>

#include "engine/core/json.h"
#include "tools/api_client/api_failure.h"

namespace llmrun {
namespace {

using Clock = std::chrono::steady_clock;

constexpr std::size_t kMaxResponseBytes = std::size_t{16} << 20;
constexpr double kLongestWait = 0.1;  // seconds in advance(), so that signals are heard

std::int64_t count_of(const nlohmann::json& response, const char* key) {
  const auto usage = response.find("usage");
  if (usage == response.end() || !usage->is_object()) return 0;
  const auto count = usage->find(key);
  if (count == usage->end() || !count->is_number_unsigned()) return 0;
  return static_cast<std::int64_t>(
      std::min(count->get<std::uint64_t>(), static_cast<std::uint64_t>(INT64_MAX)));
}

std::string text_at(const nlohmann::json& object, const char* key) {
  if (!object.is_object()) return "";
  const auto found = object.find(key);
  return found != object.end() && found->is_string() ? found->get<std::string>() : "";
}

// The sample that a 200 response holds, or an error.
SampleAnswer sample_of(std::string_view body, std::int64_t& num_prompt_tokens) {
  SampleAnswer sample;
  const auto refuse = [&](std::string message) {
    sample.error = {"bad_response", std::move(message)};
    return sample;
  };
  std::string problem;
  const auto response = try_parse_json(body, kRequestJson, problem);
  if (!response) return refuse("the response is no JSON: " + problem);
  if (!response->is_object()) return refuse("the response is not a JSON object");
  if (response->contains("error") && !(*response)["error"].is_null()) {
    return refuse(error_message_of(body));
  }
  const auto choices = response->find("choices");
  if (choices == response->end() || !choices->is_array() || choices->empty() ||
      !choices->front().is_object()) {
    return refuse("the response has no choices");
  }
  const nlohmann::json& choice = choices->front();
  const auto message = choice.find("message");
  sample.text = message == choice.end() ? text_at(choice, "text") : text_at(*message, "content");
  sample.finish_reason = text_at(choice, "finish_reason");
  sample.num_tokens = count_of(*response, "completion_tokens");
  num_prompt_tokens = count_of(*response, "prompt_tokens");
  return sample;
}

}  // namespace

// One response as it comes; tells its owner at the end.
class ApiAnswers::Response : public HttpResponseHandler {
 public:
  Response(ApiAnswers& owner, std::size_t index) : owner_(owner), index_(index) {}

  void on_head(const HttpClientResponseHead& head) override { head_ = head; }
  void on_data(std::string_view bytes, Clock::time_point /*time*/) override {
    is_too_long_ = is_too_long_ || body_.size() + bytes.size() > kMaxResponseBytes;
    if (!is_too_long_) body_ += bytes;
  }
  void on_end(HttpFailure failure, const std::string& message) override {
    if (failure != HttpFailure::kNone) {
      failure_ = failure_of(failure, message);
    } else if (head_.status != 200) {
      failure_ = failure_of(head_, body_);
    } else if (is_too_long_) {
      failure_ = {
          .name = "bad_response",
          .message = fmt::format("the response is longer than {} MiB", kMaxResponseBytes >> 20)};
    }
    owner_.end(index_, *this);
  }

  const ApiFailure& failure() const { return failure_; }
  const std::string& body() const { return body_; }

 private:
  ApiAnswers& owner_;
  std::size_t index_;
  HttpClientResponseHead head_;
  std::string body_;
  bool is_too_long_ = false;
  ApiFailure failure_;
};

ApiAnswers::ApiAnswers(RemoteServer server, const SendLimits& limits)
    : server_(std::move(server)),
      start_(Clock::now()),
      client_(context_, server_.base_url, server_.client),
      queue_(limits) {}

ApiAnswers::~ApiAnswers() = default;

double ApiAnswers::now_s() const {
  return std::chrono::duration<double>(Clock::now() - start_).count();
}

void ApiAnswers::submit(AnswerRequest request) {
  const std::uint64_t key = request.key;
  const std::int32_t num_samples = request.params.n;
  UnderWay under_way;
  under_way.answers.key = key;
  under_way.num_missing = num_samples;
  under_way.request = std::move(request);
  requests_.emplace(key, std::move(under_way));
  for (std::int32_t i = 0; i < num_samples; ++i) {
    queries_[next_query_] = {.key = key, .sample = i, .num_attempts = 0};
    queue_.push(next_query_++);
  }
}

std::string ApiAnswers::body_of(const AnswerRequest& request, std::int32_t index) const {
  const bool is_chat = !request.messages.is_null();
  SamplingParams params = request.params;
  params.n = 1;
  params.seed.reset();
  nlohmann::ordered_json body = {{"model", server_.model}};
  if (is_chat) {
    body["messages"] = request.messages;
  } else {
    body["prompt"] = request.prompt;
  }
  body["temperature"] = params.temperature;
  body["top_p"] = params.top_p;
  body.update(to_json(params));
  if (is_chat && params.max_tokens) {
    body.erase("max_tokens");
    body["max_completion_tokens"] = *params.max_tokens;
  }
  // Not every server knows the field; a greedy answer has no use for it.
  if (params.temperature > 0 && request.params.seed) {
    body["seed"] = *request.params.seed + static_cast<std::uint64_t>(index);
  }
  for (const auto& [name, value] : server_.extra_body.items()) body[name] = value;
  return dump_json(body);
}

void ApiAnswers::send_due() {
  while (const std::optional<std::size_t> index = queue_.next(now_s())) send(*index);
}

void ApiAnswers::send(std::size_t index) {
  Query& query = queries_.at(index);
  ++query.num_attempts;
  const AnswerRequest& request = requests_.at(query.key).request;
  client_.send({.method = "POST",
                .target = request.messages.is_null() ? "/v1/completions" : "/v1/chat/completions",
                .body = body_of(request, query.sample),
                .headers = server_.headers},
               std::make_shared<Response>(*this, index));
}

void ApiAnswers::end(std::size_t index, const Response& response) {
  const Query& query = queries_.at(index);
  const ApiFailure& failure = response.failure();
  if (queue_.end(index, failure.can_retry, query.num_attempts, failure.retry_after_s, now_s())) {
    return;
  }
  SampleAnswer sample;
  std::int64_t num_prompt_tokens = 0;
  if (failure.name.empty()) {
    sample = sample_of(response.body(), num_prompt_tokens);
  } else {
    sample.error = {failure.name, failure.message};
  }
  sample.index = query.sample;
  finish(index, std::move(sample), num_prompt_tokens);
}

void ApiAnswers::finish(std::size_t index, SampleAnswer sample, std::int64_t num_prompt_tokens) {
  const std::uint64_t key = queries_.at(index).key;
  queries_.erase(index);
  UnderWay& under_way = requests_.at(key);
  Answers& answers = under_way.answers;
  if (!sample.error.empty()) ++stats_.num_requests_failed;
  stats_.num_output_tokens += sample.num_tokens;
  stats_.num_batched_tokens += sample.num_tokens + num_prompt_tokens;
  answers.num_prompt_tokens = std::max(answers.num_prompt_tokens, num_prompt_tokens);
  answers.num_output_tokens += sample.num_tokens;
  answers.samples.push_back(std::move(sample));
  if (--under_way.num_missing > 0) return;
  finished_.push_back(std::move(answers));
  requests_.erase(key);
}

std::vector<Answers> ApiAnswers::advance() {
  send_due();
  if (finished_.empty() && !requests_.empty()) {
    const std::chrono::duration<double> wait(
        std::clamp(queue_.wakes_at_s(now_s()) - now_s(), 0.0, kLongestWait));
    const auto work = boost::asio::make_work_guard(context_);
    context_.restart();
    context_.run_one_for(std::chrono::duration_cast<Clock::duration>(wait));
    context_.poll();
    send_due();
  }
  return std::exchange(finished_, {});
}

void ApiAnswers::abort_all() {
  queue_.erase_if([](std::size_t) { return true; });
  client_.cancel_all();
  const auto work = boost::asio::make_work_guard(context_);
  context_.restart();
  while (queue_.num_under_way() > 0) {
    context_.run_one();
    queue_.erase_if([](std::size_t) { return true; });  // no second attempts
  }
  queries_.clear();
  requests_.clear();
  finished_.clear();
}

EngineStats ApiAnswers::stats() const {
  EngineStats stats = stats_;
  stats.num_sequences_running = queue_.num_under_way();
  stats.num_sequences_waiting = queue_.num_waiting();
  return stats;
}

}  // namespace llmrun
