#include <string_view>
#include <utility>

#include <fmt/format.h>

#include "engine/core/json.h"
#include "tools/input/json_array_reader.h"
#include "tools/input/row_reader.h"

namespace llmrun {
namespace {

using Json = nlohmann::ordered_json;

// Files of this kind were made by many hands: what repeats a key is still read.
constexpr JsonLimits kShareGptJson{
    .max_depth = 256, .reject_duplicate_keys = false, .error_kind = ErrorKind::kInput};

const std::string* find_text(const Json& object, const char* key) {
  if (!object.is_object()) return nullptr;
  const auto it = object.find(key);
  return it != object.end() && it->is_string() ? &it->get_ref<const std::string&>() : nullptr;
}

bool is_human(const Json& turn) {
  const std::string* from = find_text(turn, "from");
  return from != nullptr && (*from == "human" || *from == "user");
}

class ShareGptRows final : public RowReader {
 public:
  ShareGptRows(InputBuffer& input, const RowReaderOptions& options, bool allow_requests)
      : options_(options),
        allow_requests_(allow_requests),
        input_(&input),
        elements_(input, options.max_row_bytes) {}

  std::optional<InputItem> next() override {
    while (const std::optional<ArrayElement> element = elements_.next()) {
      InputItem item;
      item.line = element->line;
      item.byte_offset = element->offset;
      item.content_hash = content_hash(element->text);
      item.sampling = options_.rules.defaults;
      const char* reason_to_skip = parse(*element, item);
      if (reason_to_skip == nullptr) return item;
      ++num_skipped[reason_to_skip];
    }
    return std::nullopt;
  }
  bool ready() const override { return input_->ready(); }

 private:
  // Why the element is not a row; null when it is one, good or bad.
  const char* parse(const ArrayElement& element, InputItem& item) {
    if (!element.error.empty()) {
      item.error = RequestError{"invalid_json", element.error};
      return nullptr;
    }
    if (element.too_long) {
      item.error = RequestError{"line_too_long",
                                fmt::format("the conversation has {} bytes; at most {} are read",
                                            element.length, options_.max_row_bytes)};
      return nullptr;
    }
    std::string reason;
    const auto row = try_parse_ordered_json(element.text, kShareGptJson, reason);
    if (!row) {
      item.error = RequestError{"invalid_json", std::move(reason)};
      return nullptr;
    }
    if (!row->is_object()) return "not an object";
    const auto conversations = row->find("conversations");
    if (conversations == row->end() && allow_requests_) {
      item.error = parse_request(*row, options_.rules, item, ignored);
      return nullptr;
    }
    if (conversations == row->end() || !conversations->is_array()) return "no conversations";
    static_cast<void>(parse_id(*row, "id", item));  // one that cannot be used is as good as none
    return parse_conversation(*conversations, item);
  }

  const char* parse_conversation(const Json& turns, InputItem& item) const {
    const bool first_two = options_.sharegpt_turns == ShareGptTurns::kFirstTwo;
    if (first_two && turns.size() < 2) return "fewer than two turns";
    std::size_t prompt = 0;
    if (!first_two) {
      while (prompt < turns.size() && !is_human(turns[prompt])) ++prompt;
      if (prompt == turns.size()) return "no human turn";
    }
    const std::string* text = find_text(turns[prompt], "value");
    const std::string* completion =
        prompt + 1 < turns.size() ? find_text(turns[prompt + 1], "value") : nullptr;
    if (text == nullptr || (first_two && completion == nullptr)) return "a turn without text";
    if (text->empty()) return "an empty prompt";
    if (completion != nullptr) item.expected_completion = *completion;
    item.error = set_text_prompt(*text, options_.rules, item);
    return nullptr;
  }

  RowReaderOptions options_;
  bool allow_requests_;
  const InputBuffer* input_;
  JsonArrayReader elements_;
};

}  // namespace

std::unique_ptr<RowReader> make_sharegpt_rows(InputBuffer& input, const RowReaderOptions& options,
                                              bool allow_requests) {
  return std::make_unique<ShareGptRows>(input, options, allow_requests);
}

}  // namespace llmrun
