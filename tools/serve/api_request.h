// What a client asks of the generating endpoints: one request, with one prompt or many.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "engine/prompt_processor.h"
#include "tools/input/input_item.h"
#include "tools/input/request_fields.h"

namespace llmrun {

enum class ApiEndpoint : std::uint8_t {
  kCompletions,      // POST /v1/completions
  kChatCompletions,  // POST /v1/chat/completions
  kGenerate,         // POST /generate, vLLM's older API: {"text": [...]}
};

struct ApiRequest {
  ApiEndpoint endpoint = ApiEndpoint::kCompletions;
  std::vector<InputItem> prompts;  // at least one; all have the same parameters
  bool stream = false;
  bool include_usage = false;     // stream_options: usage in a chunk of its own at the end
  bool continuous_usage = false;  // stream_options: usage in every chunk
  bool echo = false;              // the prompt before its completion
  bool without_output = false;    // echo with max_tokens 0: nothing but the prompt
  std::uint64_t cache_salt = 0;

  const SamplingParams& sampling() const { return prompts.front().sampling; }
  bool returns_token_ids() const { return prompts.front().return_token_ids.value_or(false); }
};

// Reads a body. Returns why it is refused, with the field in `param`.
std::optional<RequestError> parse_api_request(ApiEndpoint endpoint, nlohmann::ordered_json body,
                                              const RequestRules& rules, std::int64_t max_model_len,
                                              ApiRequest& request);

// The tokens of a prompt that leave room for at least one more, or why there are none.
PromptProcessor::Result tokenize_prompt(const InputItem& item, const PromptProcessor& prompts,
                                        std::int64_t max_model_len);

}  // namespace llmrun
