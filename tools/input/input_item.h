// One row of an input: what to generate from, and how; or why it cannot be used.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <nlohmann/json.hpp>

#include "engine/core/token_id.h"
#include "engine/sequence/request.h"
#include "engine/sequence/sampling_params.h"

namespace llmrun {

enum class PromptKind : std::uint8_t { kText, kMessages, kTokenIds };

// Which envelope the row came in, and its answer goes out in.
enum class Envelope : std::uint8_t {
  kNone,             // llmrun's own records
  kCompletions,      // OpenAI batch, /v1/completions
  kChatCompletions,  // OpenAI batch, /v1/chat/completions; also rows whose endpoint is unknown
};

struct InputItem {
  std::int64_t index = 0;         // from 0, dense: the rows an input yields are counted
  std::int64_t line = 0;          // where it stands in the file, from 1
  std::uint64_t byte_offset = 0;  // of its first byte

  std::string id;              // unique among the rows that have one
  bool has_id = false;         // false only for rows with an error: their id could not be read
  bool id_is_integer = false;  // it was written as a JSON integer, and is written back as one
  std::string content_hash;    // 16 bytes, over the bytes of the row

  PromptKind kind = PromptKind::kText;
  std::string prompt;                           // kText
  nlohmann::ordered_json messages;              // kMessages: [{"role": ..., "content": ...}, ...]
  std::vector<TokenId> prompt_token_ids;        // kTokenIds
  nlohmann::ordered_json tools;                 // for the chat template; null: none
  nlohmann::ordered_json chat_template_kwargs;  // the same; names with scalar values
  std::optional<std::string> expected_completion;  // ShareGPT: the turn after the prompt
  nlohmann::ordered_json metadata;                 // copied to the output; null: none

  SamplingParams sampling;
  std::optional<bool> return_token_ids;  // in the answer; absent: as the run has it
  Envelope envelope = Envelope::kNone;
  std::string model;  // the name an OpenAI request gives

  // Set: the row cannot be used, and its prompt is meaningless. Codes beside the engine's:
  // "invalid_json", "invalid_utf8", "missing_prompt", "unknown_field", "unsupported", "bad_id",
  // "duplicate_id", "line_too_long", "model_not_found", ...; the message is without file and line.
  std::optional<RequestError> error;
};

// Names a row and all that its answer depends on: 32 hexadecimal digits over id, content, sampling
// parameters and `fingerprint`, which stands for the model and the run's options. A record that
// carries it can be trusted on --resume.
std::string input_hash(const InputItem& item, std::string_view fingerprint);

// What records of a row are found by: its id, or its index when it has none. 16 bytes.
struct RowKey {
  std::uint64_t high = 0;
  std::uint64_t low = 0;
  bool operator==(const RowKey&) const = default;
};
RowKey row_key(std::string_view id);
RowKey row_key(std::int64_t index);
RowKey row_key(const InputItem& item);

// The first 16 bytes of the SHA-256 of `bytes`.
std::string content_hash(std::string_view bytes);

}  // namespace llmrun
