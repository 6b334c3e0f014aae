#include "tools/serve_bench/http_target.h"

#include <algorithm>
#include <iterator>
#include <utility>

#include <fmt/format.h>

#include "engine/core/error.h"
#include "engine/core/json.h"
#include "tools/api_client/api_failure.h"
#include "tools/serve_bench/completion_stream.h"

namespace llmrun {
namespace {

using Clock = std::chrono::steady_clock;

constexpr std::size_t kMaxErrorBytes = 64 << 10;

bool is_chat(const HttpTargetOptions& options) {
  return options.endpoint.ends_with("/chat/completions");
}

std::string common_fields(const HttpTargetOptions& options) {
  const SamplingParams defaults;
  nlohmann::ordered_json body = {{"model", options.server.model},
                                 {"stream", true},
                                 {"stream_options", {{"include_usage", true}}},
                                 {"temperature", options.sampling.temperature}};
  if (options.sampling.top_p != defaults.top_p) body["top_p"] = options.sampling.top_p;
  if (options.sampling.top_k != defaults.top_k) body["top_k"] = options.sampling.top_k;
  if (options.sampling.ignore_eos) body["ignore_eos"] = true;
  for (const auto& [key, value] : options.server.extra_body.items()) body[key] = value;
  return dump_json(body).substr(1);
}

}  // namespace

// One answer: its status, its stream, its end.
class HttpTarget::Answer : public HttpResponseHandler {
 public:
  Answer(std::size_t index, bool keep_text, BenchListener& listener)
      : index_(index), listener_(listener), stream_(keep_text) {}

  void on_head(const HttpClientResponseHead& head) override { head_ = head; }

  void on_data(std::string_view bytes, Clock::time_point time) override {
    if (!is_stream()) {
      body_ += bytes.substr(0, kMaxErrorBytes - std::min(kMaxErrorBytes, body_.size()));
      return;
    }
    const CompletionStream::Pieces pieces = stream_.feed(bytes);
    // Pieces of one read came at one time.
    for (std::int32_t i = 0; i < pieces.num_pieces; ++i) {
      const std::int32_t share = pieces.num_tokens / pieces.num_pieces;
      const std::int32_t rest = pieces.num_tokens % pieces.num_pieces;
      listener_.on_tokens(index_, share + (i < rest ? 1 : 0), time);
    }
    num_pieces_ += pieces.num_pieces;
  }

  void on_end(HttpFailure failure, const std::string& message) override {
    BenchOutcome outcome;
    judge(failure, message, outcome);
    outcome.num_prompt_tokens = stream_.num_prompt_tokens();
    outcome.num_output_tokens = stream_.num_output_tokens();
    outcome.text = stream_.text();
    listener_.on_end(index_, std::move(outcome), Clock::now());
  }

 private:
  bool is_stream() const {
    return head_.status == 200 && head_.content_type.starts_with("text/event-stream");
  }

  static void take(ApiFailure failure, BenchOutcome& outcome) {
    outcome.failure = std::move(failure.name);
    outcome.message = std::move(failure.message);
    outcome.can_retry = failure.can_retry;
    outcome.retry_after_s = failure.retry_after_s;
  }

  void judge(HttpFailure failure, const std::string& message, BenchOutcome& outcome) const {
    if (failure != HttpFailure::kNone && !stream_.is_done()) {
      take(failure_of(failure, message), outcome);
    } else if (head_.status != 200) {
      take(failure_of(head_, body_), outcome);
    } else if (!is_stream()) {
      outcome.failure = "bad_response";
      outcome.message =
          fmt::format("the answer is of type '{}', not a stream of events", head_.content_type);
    } else if (!stream_.error().empty()) {
      outcome.failure = "error";
      outcome.message = stream_.error();
    } else if (!stream_.is_done()) {
      outcome.failure = "disconnected";
      outcome.message = "the stream ended without [DONE]";
      outcome.can_retry = true;
    } else if (num_pieces_ == 0) {
      outcome.failure = "no_output";
      outcome.message = "the stream had no token";
    }
  }

  std::size_t index_;
  BenchListener& listener_;
  HttpClientResponseHead head_;
  CompletionStream stream_;
  std::string body_;  // of an answer that is no stream
  std::int64_t num_pieces_ = 0;
};

HttpTarget::HttpTarget(boost::asio::io_context& context, HttpTargetOptions options)
    : options_(std::move(options)),
      client_(context, options_.server.base_url, options_.server.client),
      body_end_(common_fields(options_)) {
  if (is_chat(options_) && options_.tokenizer == nullptr) {
    throw Error(ErrorKind::kUsage,
                "--endpoint " + options_.endpoint +
                    " sends prompts as text: --tokenizer DIR (or --model DIR) is needed");
  }
}

std::string HttpTarget::body_of(const BenchRequest& request) const {
  const std::vector<TokenId>& ids = *request.prompt_token_ids;
  std::string body;
  body.reserve(ids.size() * 6 + body_end_.size() + 128);
  if (is_chat(options_)) {
    const nlohmann::json message = {{"role", "user"},
                                    {"content", options_.tokenizer->decode(ids, true)}};
    body = R"({"messages":[)" + dump_json(message);
  } else {
    body = R"({"prompt":[)";
    for (std::size_t i = 0; i < ids.size(); ++i) {
      if (i > 0) body += ',';
      body += std::to_string(ids[i]);
    }
  }
  // JavaScript's numbers, which some servers read, are exact up to 2^53.
  fmt::format_to(std::back_inserter(body), R"(],"{}":{},"seed":{},)",
                 is_chat(options_) ? "max_completion_tokens" : "max_tokens", request.output_len,
                 request.seed >> 33);
  return body + body_end_;
}

void HttpTarget::send(std::size_t index, const BenchRequest& request, BenchListener& listener) {
  client_.send({.method = "POST",
                .target = options_.endpoint,
                .body = body_of(request),
                .headers = options_.server.headers},
               std::make_shared<Answer>(index, options_.keep_text, listener));
}

}  // namespace llmrun
