// The part of RecordFormatter that answers in OpenAI's words.
#include <string>
#include <unordered_set>
#include <utility>

#include "engine/core/utf8.h"
#include "tools/output/output_record.h"
#include "tools/output/record_json.h"

namespace llmrun {
namespace {

using Json = nlohmann::ordered_json;

// The token's bytes, since a token need not be whole characters.
Json bytes_json(const std::string& text) {
  Json bytes = Json::array();
  for (const char c : text) bytes.push_back(static_cast<unsigned char>(c));
  return bytes;
}

}  // namespace

std::int64_t num_characters(std::string_view text) {
  std::int64_t count = 0;
  for (const char c : text) count += (static_cast<unsigned char>(c) & 0xC0U) != 0x80 ? 1 : 0;
  return count;
}

Json openai_usage_json(std::int64_t num_prompt_tokens, std::int64_t num_output_tokens,
                       std::int64_t num_cached_tokens) {
  return {{"prompt_tokens", num_prompt_tokens},
          {"total_tokens", num_prompt_tokens + num_output_tokens},
          {"completion_tokens", num_output_tokens},
          {"prompt_tokens_details", {{"cached_tokens", num_cached_tokens}}}};
}

Json RecordFormatter::envelope(const InputItem& item) const {
  Json record = {{"id", "llmrun-" + input_hash(item, options_.fingerprint)}};
  record["custom_id"] = item.has_id ? Json(item.id) : Json(nullptr);
  return record;
}

Json RecordFormatter::envelope_body(const InputItem& item, const RequestOutput& output) const {
  const bool is_chat = item.envelope == Envelope::kChatCompletions;
  Json choices = Json::array();
  for (const CompletionOutput& sample : output.outputs) choices.push_back(choice(item, sample));
  Json body = {{"id", (is_chat ? "chatcmpl-" : "cmpl-") + input_hash(item, options_.fingerprint)},
               {"object", is_chat ? "chat.completion" : "text_completion"},
               {"created", options_.created},
               {"model", item.model.empty() ? options_.model_name : item.model},
               {"choices", std::move(choices)},
               {"usage", openai_usage_json(std::ssize(output.prompt_token_ids),
                                           output.num_output_tokens, output.num_cached_tokens)}};
  if (returns_token_ids(item)) body["prompt_token_ids"] = output.prompt_token_ids;
  if (item.sampling.prompt_logprobs) {
    body["prompt_logprobs"] = prompt_logprobs(output.prompt_logprobs);
  }
  return body;
}

Json RecordFormatter::choice(const InputItem& item, const CompletionOutput& output) const {
  const bool is_chat = item.envelope == Envelope::kChatCompletions;
  Json record = {{"index", output.index}};
  if (is_chat) {
    record["message"] = {{"role", "assistant"}, {"content", output.text}};
  } else {
    record["text"] = output.text;
  }
  record["logprobs"] = nullptr;
  if (item.sampling.logprobs) record["logprobs"] = logprobs_of(item, output.logprobs);
  record["finish_reason"] = finish_reason_json(output);
  record["stop_reason"] = stop_reason_json(output);
  if (returns_token_ids(item) || !item.sampling.detokenize) {
    record["token_ids"] = output.token_ids;
  }
  return record;
}

Json RecordFormatter::logprobs_of(const InputItem& item, const std::vector<TokenLogprobs>& entries,
                                  std::int64_t num_characters_before) const {
  return item.envelope == Envelope::kChatCompletions
             ? chat_logprobs(entries)
             : completion_logprobs(entries, num_characters_before);
}

Json RecordFormatter::chat_logprobs(const std::vector<TokenLogprobs>& entries) const {
  const auto entry_json = [this](TokenId token, float logprob) {
    const std::string text = text_of(token);
    return Json{{"token", text}, {"logprob", logprob_json(logprob)}, {"bytes", bytes_json(text)}};
  };
  Json content = Json::array();
  for (const TokenLogprobs& entry : entries) {
    Json record = entry_json(entry.token_id, entry.logprob);
    Json top = Json::array();
    for (const auto& other : entry.top) top.push_back(entry_json(other.token_id, other.logprob));
    record["top_logprobs"] = std::move(top);
    content.push_back(std::move(record));
  }
  return {{"content", std::move(content)}};
}

Json RecordFormatter::completion_logprobs(const std::vector<TokenLogprobs>& entries,
                                          std::int64_t num_characters_before) const {
  Json text_offsets = Json::array();
  Json token_logprobs = Json::array();
  Json tokens = Json::array();
  Json top_logprobs = Json::array();
  std::int64_t offset = num_characters_before;  // as Python counts
  for (const TokenLogprobs& entry : entries) {
    const std::string text = replace_invalid_utf8(text_of(entry.token_id));
    text_offsets.push_back(offset);
    offset += num_characters(text);
    tokens.push_back(text);
    token_logprobs.push_back(logprob_json(entry.logprob));
    // A map from text: of tokens that look alike, the likeliest counts; the chosen one is in it.
    Json::object_t top;  // which would look through all before it for each that is emplaced
    std::unordered_set<std::string> texts;
    const auto add = [&](const std::string& other, float logprob) {
      if (texts.insert(other).second) top.emplace_back(other, logprob_json(logprob));
    };
    for (const auto& other : entry.top) {
      add(replace_invalid_utf8(text_of(other.token_id)), other.logprob);
    }
    add(text, entry.logprob);
    top_logprobs.push_back(std::move(top));
  }
  return {{"text_offset", std::move(text_offsets)},
          {"token_logprobs", std::move(token_logprobs)},
          {"tokens", std::move(tokens)},
          {"top_logprobs", std::move(top_logprobs)}};
}

}  // namespace llmrun
