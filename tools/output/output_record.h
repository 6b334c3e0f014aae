// One answer as one line of JSON, without the newline.
//
// A record:
//   {"id", "index", "outputs": [{"index", "text", "token_ids", "logprobs", "cumulative_logprob",
//    "finish_reason", "stop_reason"}], "usage": {"prompt_tokens", "completion_tokens",
//    "total_tokens", "cached_tokens"}, "timings": {"queue_s", "ttft_s", "total_s"},
//    "prompt_token_ids", "prompt_logprobs", "metadata", "input_hash"}
// What was not asked for is left out: token ids, log-probabilities, metadata; and the text when
// detokenize is false, whose ids are then there.
//
// A record of a row that failed: {"id", "index", "error": {"code", "message", "file", "line"},
// "metadata", "input_hash"}. id is null when the row's own could not be read.
//
// Rows of an OpenAI batch are answered in its envelope: {"id", "custom_id", "response":
// {"status_code", "request_id", "body"}, "error"}; "id" ends in the input hash, "request_id" in the
// row's index. A failed row has no body. Source: vllm/entrypoints/openai/run_batch.py.
#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include <nlohmann/json.hpp>

#include "engine/core/token_id.h"
#include "engine/sequence/request.h"
#include "tools/input/input_item.h"

namespace llmrun {

class RecordFormatter {
 public:
  struct Options {
    bool return_token_ids = false;                     // of requests that do not say
    std::string input_name{};                          // for error records
    std::string model_name{};                          // for envelopes
    std::string fingerprint{};                         // see input_hash
    std::int64_t created = 0;                          // for envelopes: Unix time
    std::function<std::string(TokenId)> token_text{};  // bytes; need not be whole characters
  };

  explicit RecordFormatter(Options options);

  // The request's answer, or its error.
  std::string format(const InputItem& item, const RequestOutput& output) const;
  std::string format_error(const InputItem& item, const RequestError& error) const;

  // Parts of OpenAI's answers, for a server: one of "choices", and the value of "logprobs" in the
  // form of the item's endpoint.
  nlohmann::ordered_json choice(const InputItem& item, const CompletionOutput& output) const;
  // `num_characters_before`: where the first token's text stands in the sample's, for text_offset.
  nlohmann::ordered_json logprobs_of(const InputItem& item,
                                     const std::vector<TokenLogprobs>& entries,
                                     std::int64_t num_characters_before = 0) const;
  // Of every prompt token, in llmrun's own form; null for the first, which nothing predicts.
  nlohmann::ordered_json prompt_logprobs(const std::vector<TokenLogprobs>& entries) const;

 private:
  nlohmann::ordered_json native_record(const InputItem& item, const RequestOutput& output) const;
  nlohmann::ordered_json native_output(const InputItem& item, const CompletionOutput& output) const;
  nlohmann::ordered_json native_logprobs(const std::vector<TokenLogprobs>& entries) const;
  // Entries of llmrun's own form: token_id, token, logprob, rank.
  nlohmann::ordered_json logprob_entry(TokenId token, float logprob, std::int32_t rank) const;

  nlohmann::ordered_json envelope(const InputItem& item) const;
  nlohmann::ordered_json envelope_body(const InputItem& item, const RequestOutput& output) const;
  nlohmann::ordered_json chat_logprobs(const std::vector<TokenLogprobs>& entries) const;
  nlohmann::ordered_json completion_logprobs(const std::vector<TokenLogprobs>& entries,
                                             std::int64_t num_characters_before) const;

  std::string text_of(TokenId token) const;
  bool returns_token_ids(const InputItem& item) const;

  Options options_;
};

}  // namespace llmrun
