// Values that llmrun's own records and OpenAI's envelopes write alike.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include <nlohmann/json.hpp>

#include "engine/sequence/request.h"

namespace llmrun {

// The shortest decimal that reads back as this float. Minus infinity, which JSON cannot say, is
// -9999, as OpenAI and vLLM write it.
nlohmann::ordered_json logprob_json(float logprob);

// The stop string or stop token that ended the output; null for none.
nlohmann::ordered_json stop_reason_json(const CompletionOutput& output);

// Null while it runs.
nlohmann::ordered_json finish_reason_json(const CompletionOutput& output);

// OpenAI's "usage".
nlohmann::ordered_json openai_usage_json(std::int64_t num_prompt_tokens,
                                         std::int64_t num_output_tokens,
                                         std::int64_t num_cached_tokens);

// Of UTF-8 text: its code points.
std::int64_t num_characters(std::string_view text);

}  // namespace llmrun
