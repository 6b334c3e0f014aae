// Answers of the generating endpoints: whole, and in chunks as tokens come.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include <nlohmann/json.hpp>

#include "engine/sequence/request.h"
#include "tools/output/output_record.h"
#include "tools/serve/api_request.h"
#include "tools/serve/http_message.h"

namespace llmrun {

struct TokenUsage {
  std::int64_t num_prompt_tokens = 0;
  std::int64_t num_output_tokens = 0;
  std::int64_t num_cached_tokens = 0;
};

// Tokens of one choice that one chunk tells: usually one; more when the client is slow.
struct ChoiceDelta {
  std::int32_t choice = 0;  // index in the answer: prompt * n + sample
  std::string text;
  std::vector<TokenId> token_ids;
  std::vector<TokenLogprobs> logprobs;
  FinishReason finish_reason = FinishReason::kNone;
  std::string stop_string;
  std::optional<TokenId> stop_token_id;
};

// Writes the answer to one request. One thread at a time.
class ApiResponseWriter {
 public:
  // `request` must outlive the writer. `formatter` writes choices; `prompt_texts`, one a prompt,
  // are needed for echo and /generate.
  ApiResponseWriter(const ApiRequest& request, RecordFormatter formatter,
                    std::vector<std::string> prompt_texts, std::string_view model_name);

  // One output for each prompt, none of them failed.
  HttpResponse whole(const std::vector<RequestOutput>& outputs) const;

  // --- streamed: events (or, for /generate, lines), appended to `out` ---
  void append_delta(const ChoiceDelta& delta, const TokenUsage& usage, std::string& out);
  void append_error(int status, std::string_view message, std::string& out) const;
  void append_end(const TokenUsage& usage, std::string& out) const;

  const char* stream_content_type() const;

 private:
  struct ChoiceState {
    bool is_started = false;
    std::int64_t num_characters = 0;
    std::string text;  // /generate tells all of it every time
  };

  nlohmann::ordered_json whole_choice(std::size_t prompt, const RequestOutput& output,
                                      const CompletionOutput& sample) const;
  void add_echo(std::size_t prompt, const RequestOutput& output, const CompletionOutput& sample,
                nlohmann::ordered_json& choice) const;
  void append_generate_line(const ChoiceDelta& delta, std::string& out);
  std::string usage_member(const TokenUsage& usage) const;
  std::size_t prompt_of(std::int32_t choice) const;
  bool is_chat() const { return request_.endpoint == ApiEndpoint::kChatCompletions; }

  const ApiRequest& request_;
  RecordFormatter formatter_;
  std::vector<std::string> prompt_texts_;
  std::string id_;
  std::int64_t created_;
  std::string model_;
  std::string chunk_head_;  // up to the choice's index
  std::vector<ChoiceState> choices_;
};

// 32 random hexadecimal digits.
std::string random_id();

// The status that a request's error is answered with.
int status_of(const RequestError& error);
// What the client is told: not what an exception says, which may name files and addresses.
std::string message_for_client(const RequestError& error);
HttpResponse response_of(const RequestError& error);

}  // namespace llmrun
