// Formats with one row a line: plain text, llmrun's JSONL, OpenAI batch files.
#include <algorithm>
#include <string_view>
#include <utility>

#include <fmt/format.h>

#include "engine/core/json.h"
#include "engine/core/utf8.h"
#include "tools/input/line_reader.h"
#include "tools/input/row_reader.h"

namespace llmrun {
namespace {

bool is_blank(std::string_view text) {
  return text.find_first_not_of(" \t\r\v\f") == text.npos;
}

// Yields one item a line that is not blank; what is in the line is the derived class's.
class LineRows : public RowReader {
 public:
  LineRows(InputBuffer& input, const RowReaderOptions& options)
      : options_(options), lines_(input, options.max_row_bytes) {}

  std::optional<InputItem> next() override {
    while (const std::optional<Line> line = lines_.next()) {
      if (!line->too_long && is_blank(line->text)) continue;
      InputItem item;
      item.line = line->number;
      item.byte_offset = line->offset;
      item.content_hash = content_hash(line->text);
      item.error = line->too_long ? too_long(*line) : parse(line->text, item);
      return item;
    }
    return std::nullopt;
  }
  bool ready() const override { return lines_.ready(); }

 protected:
  virtual std::optional<RequestError> parse(std::string_view text, InputItem& item) = 0;

  RowReaderOptions options_;

 private:
  RequestError too_long(const Line& line) const {
    return {"line_too_long", fmt::format("the line has {} bytes; at most {} are read", line.size,
                                         options_.max_row_bytes)};
  }

  LineReader lines_;
};

class TextRows final : public LineRows {
 public:
  using LineRows::LineRows;

 private:
  std::optional<RequestError> parse(std::string_view text, InputItem& item) override {
    item.sampling = options_.rules.defaults;
    if (const std::size_t bad = first_invalid_utf8(text); bad != text.npos) {
      return RequestError{"invalid_utf8",
                          fmt::format("byte {} of the line: invalid UTF-8 (byte 0x{:02X})", bad,
                                      static_cast<unsigned char>(text[bad]))};
    }
    if (const std::size_t nul = text.find('\0'); nul != text.npos) {
      return RequestError{"invalid_text", fmt::format("byte {} of the line: NUL byte", nul)};
    }
    return set_text_prompt(std::string(text), options_.rules, item);
  }
};

class JsonRows final : public LineRows {
 public:
  JsonRows(InputBuffer& input, const RowReaderOptions& options, bool is_batch)
      : LineRows(input, options), is_batch_(is_batch) {}

 private:
  std::optional<RequestError> parse(std::string_view text, InputItem& item) override {
    if (is_batch_) item.envelope = Envelope::kChatCompletions;
    std::string reason;
    const auto row = try_parse_ordered_json(text, kRequestJson, reason);
    if (!row) return RequestError{"invalid_json", std::move(reason)};
    return is_batch_ ? parse_batch_row(*row, options_.rules, item, ignored)
                     : parse_request(*row, options_.rules, item, ignored);
  }

  bool is_batch_;
};

}  // namespace

std::unique_ptr<RowReader> make_text_rows(InputBuffer& input, const RowReaderOptions& options) {
  return std::make_unique<TextRows>(input, options);
}

std::unique_ptr<RowReader> make_jsonl_rows(InputBuffer& input, const RowReaderOptions& options) {
  return std::make_unique<JsonRows>(input, options, false);
}

std::unique_ptr<RowReader> make_batch_rows(InputBuffer& input, const RowReaderOptions& options) {
  return std::make_unique<JsonRows>(input, options, true);
}

}  // namespace llmrun
