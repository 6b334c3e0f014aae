// What a request asks of generation. Names, meanings and ranges are those of vLLM's SamplingParams
// and BeamSearchParams (vllm/sampling_params.py); max_tokens differs: absent means "until the
// context ends".
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

#include "engine/core/token_id.h"

namespace llmrun {

struct SamplingParams {
  std::int32_t n = 1;  // outputs returned per prompt
  std::optional<std::int32_t>
      best_of;  // outputs generated; the n with the best cumulative_logprob are returned
  double temperature = 1.0;           // 0: greedy
  double top_p = 1.0;                 // (0, 1]
  std::int32_t top_k = 0;             // 0 or -1: all
  double min_p = 0.0;                 // [0, 1]
  double presence_penalty = 0.0;      // [-2, 2], over output tokens
  double frequency_penalty = 0.0;     // [-2, 2], over output tokens
  double repetition_penalty = 1.0;    // > 0, over prompt and output tokens
  std::optional<std::uint64_t> seed;  // absent: derived from the run's seed and the request's id

  std::optional<std::int32_t> max_tokens;  // absent: until the end of the context
  std::int32_t min_tokens = 0;             // no end-of-sequence and no stop token before this many
  bool ignore_eos = false;
  std::vector<std::string> stop;
  std::vector<TokenId> stop_token_ids;
  bool include_stop_str_in_output = false;

  std::vector<std::pair<TokenId, float>> logit_bias;
  std::vector<TokenId> allowed_token_ids;  // empty: all
  std::vector<std::string> bad_words;

  // The k best per output token, and the chosen one; kAllLogprobs: all of the vocabulary.
  std::optional<std::int32_t> logprobs;
  std::optional<std::int32_t> prompt_logprobs;  // the same per prompt token
  bool skip_special_tokens = true;
  bool detokenize = true;

  bool use_beam_search = false;  // n beams; temperature must be 0
  double length_penalty = 1.0;   // beam score = cumulative_logprob / length ^ length_penalty
  bool early_stopping = false;   // stop as soon as n beams have ended

  // Sequences that run for one prompt.
  std::int32_t num_sequences() const { return best_of.value_or(n); }

  bool operator==(const SamplingParams&) const = default;
};

// n (or best_of) times max_tokens, at most; reliability rule S01.
inline constexpr std::int64_t kMaxTokensOfAllSamples = 1'000'000;

// As a number of log-probabilities: as many as the vocabulary has tokens.
inline constexpr std::int32_t kAllLogprobs = -1;

// Limits that parameters are checked against; reliability rules S01-S07.
struct SamplingLimits {
  std::int64_t vocab_size = 0;       // 0: unknown, token ids are then only checked to be >= 0
  std::int32_t max_sequences = 128;  // n and best_of
  std::int32_t max_logprobs = 100;   // of one position; kAllLogprobs: any number
  std::int32_t max_stop_strings = 16;
  std::int32_t max_stop_bytes = 1024;  // of one stop string
  std::int32_t max_logit_biases = 1024;
};

// What is wrong with the parameters ("temperature must be between 0 and 100, got -1"), or nothing.
std::optional<std::string> validate(const SamplingParams& params, const SamplingLimits& limits);

// Sets the parameter called `name` (a field above; also max_completion_tokens, best_of) from JSON.
// Null leaves it as it is. Returns false when no parameter has this name. Throws
// std::invalid_argument that names the parameter, what was expected and what was found.
bool set_parameter(SamplingParams& params, const std::string& name, const nlohmann::json& value);

// OpenAI's chat form of `logprobs`: true asks for the chosen token's, and top_logprobs (0 to 20)
// for that many best. Null: absent. Throws std::invalid_argument as set_parameter does.
void set_chat_logprobs(SamplingParams& params, const nlohmann::json& logprobs,
                       const nlohmann::json& top_logprobs);

// All parameters that differ from SamplingParams(), for logs, manifests and hashes; keys as above,
// in that order.
nlohmann::ordered_json to_json(const SamplingParams& params);

}  // namespace llmrun
