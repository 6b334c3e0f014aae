#include "tools/serve/api_request.h"

#include <cstdint>
#include <cstring>
#include <utility>

#include <fmt/format.h>

#include "engine/core/json.h"
#include "engine/core/sha256.h"
#include "engine/sequence/sampling_params.h"
#include "tools/input/request_checks.h"

namespace llmrun {
namespace {

using Json = nlohmann::ordered_json;
using Result = std::optional<RequestError>;

constexpr std::size_t kMaxPrompts = 1024;
constexpr std::int32_t kDefaultCompletionTokens = 16;  // OpenAI's, and vLLM's

RequestError bad(const std::string& param, std::string message) {
  return {"bad_parameter", std::move(message), param};
}

// The field's value, taken out of `body`; null when there is none.
Json take(Json& body, const char* name) {
  const auto found = body.find(name);
  if (found == body.end()) return nullptr;
  Json value = std::move(*found);
  body.erase(name);
  return value;
}

Result take_flag(Json& body, const char* name, bool& flag) {
  const Json value = take(body, name);
  if (value.is_null()) return std::nullopt;
  if (!value.is_boolean()) {
    return bad(name,
               fmt::format("{}: expected true or false, found {}", name, describe_json(value)));
  }
  flag = value.get<bool>();
  return std::nullopt;
}

Result take_stream_options(Json& body, ApiRequest& request) {
  Json options = take(body, "stream_options");
  if (options.is_null()) return std::nullopt;
  if (!options.is_object()) {
    return bad("stream_options",
               "stream_options: expected an object, found " + describe_json(options));
  }
  if (!request.stream) return bad("stream_options", "stream_options needs stream to be true");
  if (auto error = take_flag(options, "include_usage", request.include_usage)) return error;
  if (auto error = take_flag(options, "continuous_usage_stats", request.continuous_usage)) {
    return error;
  }
  bool ignored = false;  // OpenAI's padding against traffic analysis
  if (auto error = take_flag(options, "include_obfuscation", ignored)) return error;
  if (options.empty()) return std::nullopt;
  return bad("stream_options",
             fmt::format("stream_options: unknown field {}", describe_json(options.begin().key())));
}

Result take_own_fields(Json& body, ApiRequest& request) {
  const bool is_chat = request.endpoint == ApiEndpoint::kChatCompletions;
  if (auto error = take_flag(body, "stream", request.stream)) return error;
  if (auto error = take_stream_options(body, request)) return error;
  if (!is_chat) {
    if (auto error = take_flag(body, "echo", request.echo)) return error;
  }
  const Json salt = take(body, "cache_salt");
  if (salt.is_null()) return std::nullopt;
  if (!salt.is_string() || salt.get_ref<const std::string&>().empty()) {
    return bad("cache_salt", "cache_salt: expected a text, found " + describe_json(salt));
  }
  const Sha256Digest digest = sha256(salt.get_ref<const std::string&>());
  std::memcpy(&request.cache_salt, digest.data(), sizeof(request.cache_salt));
  return std::nullopt;
}

// Leaves the first prompt of a list in `body`, and the others in `rest`.
Result split_prompts(Json& body, std::vector<Json>& rest) {
  const auto found = body.find("prompt");
  if (found == body.end() || !found->is_array() || found->empty()) return std::nullopt;
  if (found->front().is_number()) return std::nullopt;  // token ids
  if (found->size() > kMaxPrompts) {
    return bad("prompt", fmt::format("prompt: at most {} prompts are taken, found {}", kMaxPrompts,
                                     found->size()));
  }
  Json prompts = std::move(*found);
  for (std::size_t i = 1; i < prompts.size(); ++i) rest.push_back(std::move(prompts[i]));
  body["prompt"] = std::move(prompts[0]);
  return std::nullopt;
}

// Echo alone gives the prompt and its log-probabilities; the engine makes one token for it.
void take_empty_output(Json& body, ApiRequest& request) {
  const auto found = body.find("max_tokens");
  if (!request.echo || found == body.end() || *found != 0) return;
  request.without_output = true;
  body["max_tokens"] = 1;
}

Result check_length(const char* name, std::int64_t value, std::int64_t max_model_len) {
  if (value <= max_model_len) return std::nullopt;
  return bad(name, fmt::format("{} must be at most the context's length ({}), got {}", name,
                               max_model_len, value));
}

// Without max_tokens a sample goes on until the context ends, but all samples together have no more
// than what a request may ask for.
Result bound_tokens(std::int64_t max_model_len, SamplingParams& params) {
  if (auto error = check_length("min_tokens", params.min_tokens, max_model_len)) return error;
  if (params.max_tokens) return check_length("max_tokens", *params.max_tokens, max_model_len);
  const std::int64_t share = kMaxTokensOfAllSamples / params.num_sequences();
  if (share < max_model_len) params.max_tokens = static_cast<std::int32_t>(share);
  return std::nullopt;
}

Result check_combination(ApiRequest& request) {
  SamplingParams& params = request.prompts.front().sampling;
  if (request.stream && params.use_beam_search) {
    return bad("stream", "stream cannot be used with use_beam_search");
  }
  if (request.stream && params.num_sequences() > params.n) {
    return bad("stream", "stream cannot be used with best_of greater than n");
  }
  if (request.echo && request.stream && (params.logprobs || request.without_output)) {
    return bad("echo", "echo with logprobs or max_tokens 0 cannot be streamed");
  }
  if (request.echo && params.logprobs && !params.prompt_logprobs) {
    params.prompt_logprobs = params.logprobs;
  }
  return std::nullopt;
}

}  // namespace

Result parse_api_request(ApiEndpoint endpoint, Json body, const RequestRules& rules,
                         std::int64_t max_model_len, ApiRequest& request) {
  request.endpoint = endpoint;
  if (!body.is_object()) {
    return RequestError{"invalid_json", "expected an object, found " + describe_json(body)};
  }
  if (auto error = take_own_fields(body, request)) return error;
  take_empty_output(body, request);
  std::vector<Json> rest;
  if (auto error = split_prompts(body, rest)) return error;

  InputItem item;
  IgnoredFields ignored;
  if (endpoint == ApiEndpoint::kChatCompletions) {
    item.envelope = Envelope::kChatCompletions;
    if (auto error = parse_chat_body(body, rules, item, ignored)) return error;
  } else {
    RequestRules completion_rules = rules;
    auto& default_tokens = completion_rules.defaults.max_tokens;
    if (!default_tokens) default_tokens = kDefaultCompletionTokens;
    item.envelope = Envelope::kCompletions;
    if (auto error = parse_completion_body(body, completion_rules, item, ignored)) return error;
  }
  if (item.model.empty() && !rules.model_names.empty()) item.model = rules.model_names.front();
  request.prompts.push_back(std::move(item));
  if (auto error = check_combination(request)) return error;
  if (auto error = bound_tokens(max_model_len, request.prompts.front().sampling)) return error;
  for (const Json& prompt : rest) {
    InputItem next = request.prompts.front();
    next.prompt.clear();
    next.prompt_token_ids.clear();
    if (auto error = parse_prompt("prompt", prompt, rules, next)) {
      error->param = "prompt";
      return error;
    }
    request.prompts.push_back(std::move(next));
  }
  return std::nullopt;
}

PromptProcessor::Result tokenize_prompt(const InputItem& item, const PromptProcessor& prompts,
                                        std::int64_t max_model_len) {
  PromptProcessor::Result result;
  const char* field = "prompt";
  if (item.kind == PromptKind::kTokenIds) {
    result.token_ids = item.prompt_token_ids;
  } else if (item.kind == PromptKind::kText) {
    result = prompts.from_text(item.prompt);
  } else {
    field = "messages";
    result = prompts.from_messages(item.messages, item.tools, item.chat_template_kwargs);
  }
  const std::int64_t num_tokens = std::ssize(result.token_ids);
  if (result.error.empty() && num_tokens == 0) {
    result.error = {"empty_prompt", fmt::format("{} has no tokens", field)};
  } else if (result.error.empty() && num_tokens >= max_model_len) {
    result.error = {"too_long", fmt::format("this model's maximum context length is {} tokens; {} "
                                            "has {}, which leaves no room for an answer",
                                            max_model_len, field, num_tokens)};
  }
  if (!result.error.empty()) result.error.param = field;
  return result;
}

}  // namespace llmrun
