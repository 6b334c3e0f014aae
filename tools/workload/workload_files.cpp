#include <fstream>
#include <memory>
#include <string>
#include <utility>

#include <fmt/format.h>

#include "engine/core/counted.h"
#include "engine/core/error.h"
#include "engine/core/json.h"
#include "engine/core/sha256.h"
#include "tools/input/json_array_reader.h"
#include "tools/input/request_reader.h"
#include "tools/workload/python_random.h"
#include "tools/workload/workload_sources.h"

namespace llmrun {
namespace {

constexpr std::size_t kMaxRowBytes = std::size_t{64} << 20;
constexpr JsonLimits kShareGptJson{
    .max_depth = 256, .reject_duplicate_keys = false, .error_kind = ErrorKind::kInput};

std::string file_sha256(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::vector<char> buffer(std::size_t{1} << 20);
  Sha256 hash;
  while (file) {
    file.read(buffer.data(), static_cast<std::streamsize>(buffer.size()));
    hash.update({buffer.data(), static_cast<std::size_t>(file.gcount())});
  }
  return to_hex(hash.finish());
}

// Counts a row by its reason; of the first one, `example` is told too.
void leave_out(Workload& workload, const std::string& reason, const std::string& example = "") {
  for (auto& [name, count] : workload.num_left_out) {
    if (name.starts_with(reason)) {
      ++count;
      return;
    }
  }
  workload.num_left_out.emplace_back(reason + example, 1);
}

const Tokenizer& require_tokenizer(const WorkloadModel& model, const std::string& dataset) {
  if (model.tokenizer != nullptr) return *model.tokenizer;
  throw Error(ErrorKind::kUsage,
              fmt::format("--dataset-name {} needs a tokenizer, and this model has none; "
                          "use --tokenizer FOLDER",
                          dataset));
}

// The first two turns of a conversation.
struct Conversation {
  std::string prompt;
  std::string completion;
  std::int64_t index = 0;  // in the file
};

std::string turn_text(const nlohmann::ordered_json& turn) {
  if (!turn.is_object()) return "";
  const auto value = turn.find("value");
  return value != turn.end() && value->is_string() ? value->get<std::string>() : "";
}

// All with two turns or more, in the file's order.
std::vector<Conversation> read_conversations(const std::string& path, Workload& workload) {
  std::vector<Conversation> conversations;
  InputBuffer input(std::make_unique<FileSource>(path));
  JsonArrayReader elements(input, kMaxRowBytes);
  for (std::int64_t index = 0; const auto element = elements.next(); ++index) {
    std::string error = element->error;
    if (element->too_long) error = "a conversation is too long to be read";
    std::optional<nlohmann::ordered_json> row;
    if (error.empty()) row = try_parse_ordered_json(element->text, kShareGptJson, error);
    if (!row) {
      throw Error(ErrorKind::kInput, fmt::format("{}: line {}: {}", path, element->line, error));
    }
    const auto turns = row->is_object() ? row->find("conversations") : row->end();
    if (!row->is_object() || turns == row->end() || !turns->is_array() || turns->size() < 2) {
      leave_out(workload, "with fewer than two turns");
      continue;
    }
    conversations.push_back({turn_text((*turns)[0]), turn_text((*turns)[1]), index});
  }
  return conversations;
}

}  // namespace

const char* reason_to_leave_out(std::int64_t prompt_len, std::int64_t output_len,
                                const LengthFilter& filter) {
  if (prompt_len < filter.min_len) return "with a prompt that is too short";
  if (filter.check_min_output_len && output_len < filter.min_len) {
    return "with an output that is too short";
  }
  if (prompt_len > filter.max_prompt_len) return "with a prompt that is too long";
  if (prompt_len + output_len > filter.max_total_len) return "that are too long in all";
  return nullptr;
}

// As vLLM's ShareGPTDataset: shuffled by the seed, both turns tokenized, the prompt with the
// special tokens the model wants and without a chat template.
void append_sharegpt(const WorkloadOptions& options, const WorkloadModel& model,
                     Workload& workload) {
  const Tokenizer& tokenizer = require_tokenizer(model, options.dataset);
  workload.path = options.path;
  std::vector<Conversation> conversations = read_conversations(options.path, workload);
  workload.file_sha256 = file_sha256(options.path);
  workload.description = fmt::format(
      "conversations by the rules of vLLM's ShareGPTDataset: turn 0 is the prompt, turn "
      "1 {}, prompts of 4 to 1024 tokens, at most 2048 in all",
      options.output_len > 0 ? "is replaced by " + counted(options.output_len, "token")
                             : "gives the output's length");
  LengthFilter filter;
  filter.check_min_output_len = options.output_len == 0;
  if (model.max_model_len < filter.max_total_len) {
    filter.max_total_len = model.max_model_len;
    workload.description += fmt::format("; here {}, by --max-model-len", model.max_model_len);
  }
  if (!options.disable_shuffle) PythonRandom(workload.seed).shuffle(conversations);
  for (const Conversation& conversation : conversations) {
    if (std::ssize(workload.requests) == options.num_prompts) break;
    std::vector<TokenId> ids = tokenizer.encode(conversation.prompt, true);
    const auto output_len =
        options.output_len > 0
            ? options.output_len
            : static_cast<std::int32_t>(tokenizer.encode(conversation.completion, true).size());
    const char* reason = reason_to_leave_out(std::ssize(ids), output_len, filter);
    if (reason != nullptr) {
      leave_out(workload, reason);
    } else {
      workload.requests.push_back({std::move(ids), output_len, conversation.index});
    }
  }
}

void append_custom(const WorkloadOptions& options, const WorkloadModel& model, Workload& workload) {
  constexpr std::int32_t kDefaultOutputLen = 128;
  workload.path = options.path;
  workload.description =
      options.output_len > 0
          ? fmt::format("JSON lines; output tokens: {}", options.output_len)
          : fmt::format("JSON lines; output tokens: the line's max_tokens, else {}",
                        kDefaultOutputLen);
  ReaderOptions reader_options;
  reader_options.format = InputFormat::kJsonl;
  reader_options.rows.rules.prompt_field = options.prompt_field;
  reader_options.rows.rules.limits.vocab_size = model.vocab_size;
  reader_options.rows.rules.defaults.max_tokens = kDefaultOutputLen;
  RequestReader reader(open_input(options.path), reader_options);
  while (std::ssize(workload.requests) < options.num_prompts) {
    std::optional<InputItem> item = reader.next();
    if (!item) break;
    if (item->error) {
      leave_out(workload, "that cannot be read",
                fmt::format(" (the first: line {}: {})", item->line, item->error->message));
      continue;
    }
    if (item->kind == PromptKind::kMessages) {
      leave_out(workload, "with messages (only prompt and prompt_token_ids are sent)");
      continue;
    }
    std::vector<TokenId> ids =
        item->kind == PromptKind::kTokenIds
            ? std::move(item->prompt_token_ids)
            : require_tokenizer(model, options.dataset).encode(item->prompt, true);
    const std::int32_t output_len =
        options.output_len > 0 ? options.output_len : *item->sampling.max_tokens;
    if (std::ssize(ids) + output_len > model.max_model_len) {
      leave_out(workload, "longer than --max-model-len");
    } else {
      workload.requests.push_back({std::move(ids), output_len, item->index});
    }
  }
  workload.file_sha256 = file_sha256(options.path);
}

}  // namespace llmrun
