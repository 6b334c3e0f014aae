// The fields of one request, from JSON: a row of llmrun's own JSONL, or the body of an OpenAI
// request. Every function returns why the request is refused, or nothing.
//
// A field nobody knows is refused when it looks like a misspelt parameter, since ignoring it would
// change the output in silence, and when it is one of OpenAI's or vLLM's that would; otherwise it
// is the user's own column, and ignored.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <nlohmann/json.hpp>

#include "engine/sequence/sampling_params.h"
#include "tools/input/input_item.h"

namespace llmrun {

struct RequestRules {
  SamplingParams defaults;  // what a row's own parameters are laid over
  SamplingLimits limits;
  std::string prompt_field = "prompt";   // where llmrun's JSONL has the prompt
  std::size_t max_prompt_bytes = 0;      // 0: any
  std::vector<std::string> model_names;  // what "model" may be; empty: anything
  // Of OpenAI requests: a field nobody knows is an error, not a column of the user's.
  bool refuse_unknown_fields = false;
};

// Fields that were ignored, for one warning a run.
struct IgnoredFields {
  static constexpr std::size_t kMaxNames = 8;
  std::int64_t count = 0;
  std::vector<std::string> names;  // each once, the first kMaxNames
};

// One object of llmrun's JSONL: id, and one of prompt (text or token ids), text, messages,
// prompt_token_ids; tools, chat_template_kwargs, metadata, return_token_ids; any sampling
// parameter, also inside "sampling_params"; logprobs and top_logprobs also as chats have them,
// beside messages.
std::optional<RequestError> parse_request(const nlohmann::ordered_json& row,
                                          const RequestRules& rules, InputItem& item,
                                          IgnoredFields& ignored);

// The body of POST /v1/completions and of POST /v1/chat/completions, in OpenAI's words and with
// vLLM's additional sampling parameters. What would be answered wrongly (stream, echo, suffix,
// response_format, forced tools, images) is refused.
std::optional<RequestError> parse_completion_body(const nlohmann::ordered_json& body,
                                                  const RequestRules& rules, InputItem& item,
                                                  IgnoredFields& ignored);
std::optional<RequestError> parse_chat_body(const nlohmann::ordered_json& body,
                                            const RequestRules& rules, InputItem& item,
                                            IgnoredFields& ignored);

// One line of an OpenAI batch file: custom_id, method, url, body.
std::optional<RequestError> parse_batch_row(const nlohmann::ordered_json& row,
                                            const RequestRules& rules, InputItem& item,
                                            IgnoredFields& ignored);

// Takes the row's id from its string or integer field `key`, if it has one.
std::optional<RequestError> parse_id(const nlohmann::ordered_json& row, const char* key,
                                     InputItem& item);

// A plain prompt: not empty, not longer than the rules allow.
std::optional<RequestError> set_text_prompt(std::string text, const RequestRules& rules,
                                            InputItem& item);

// A known field that `name` is probably meant to be; empty when there is none.
std::string_view suggest_field(std::string_view name);

}  // namespace llmrun
