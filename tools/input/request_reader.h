// The rows of an input, pulled one at a time, in memory that does not grow with the input: but for
// 11 bytes a row, to notice repeated ids. Lines of plain text have no ids, and need none.
//
// A bad row is an item with an error and never stops the others. Error(kInput) is for inputs that
// cannot be read at all: missing, a directory, no text (see opened_input.h), or without a single
// row.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "tools/input/input_buffer.h"
#include "tools/input/input_item.h"
#include "tools/input/opened_input.h"
#include "tools/input/row_reader.h"
#include "tools/input/row_table.h"

namespace llmrun {

enum class InputFormat : std::uint8_t { kAuto, kJsonl, kText, kShareGpt, kOpenAiBatch };

// "auto", "jsonl", "text", "sharegpt", "openai-batch"; nothing for any other name.
std::optional<InputFormat> input_format_from(std::string_view name);
const char* to_string(InputFormat format);

// The format of an input that begins with `head` (its first line, at least). A name that ends in
// .txt is text, one in .jsonl or .ndjson has JSON lines; else content decides: an array of objects
// is ShareGPT, an object is a line of JSON, everything else is text. JSON lines are an OpenAI batch
// when the first has custom_id, url and body.
InputFormat detect_format(std::string_view head, std::string_view name);

struct ReaderOptions {
  InputFormat format = InputFormat::kAuto;
  RowReaderOptions rows;
};

class RequestReader {
 public:
  // Throws Error(kInput).
  RequestReader(OpenedInput input, const ReaderOptions& options);
  // Any source; `name` stands for it in messages.
  RequestReader(std::unique_ptr<ByteSource> source, std::string name, const ReaderOptions& options);

  // Nothing at the end, or once the reading was interrupted. Throws Error(kInput) when the input
  // cannot be read, or ends without a row.
  std::optional<InputItem> next();
  // False when next() would wait for a pipe whose writer has not written the next row yet; what is
  // running already need not wait for it.
  bool ready() const { return at_end_ || interrupted_ || rows_->ready(); }

  // Throws Error(kInput) when the input was changed while it was read. For the end of a run.
  void check_unchanged() const;

  const std::string& name() const { return name_; }
  InputFormat format() const { return format_; }
  bool at_end() const { return at_end_; }
  bool interrupted() const { return interrupted_; }    // see FileSource
  std::int64_t num_rows() const { return num_rows_; }  // so far; all when at_end
  // Rows of the whole input: exact at the end, before it guessed from the bytes read so far.
  // Nothing for pipes that have not ended.
  std::optional<std::int64_t> estimated_rows() const;
  const IgnoredFields& ignored_fields() const { return rows_->ignored; }
  // Conversations that are no rows, by reason.
  const std::map<std::string, std::int64_t>& num_skipped() const { return rows_->num_skipped; }

 private:
  void open(const ReaderOptions& options);
  void detect(const ReaderOptions& options);
  std::optional<InputItem> next_row();
  void settle_id(InputItem& item);
  void check_model(InputItem& item);
  [[noreturn]] void fail_without_rows() const;

  std::string name_;
  const FileSource* file_ = nullptr;  // owned by input_; null for other sources
  std::unique_ptr<InputBuffer> input_;
  std::unique_ptr<RowReader> rows_;
  InputFormat format_ = InputFormat::kAuto;
  bool at_end_ = false;
  bool interrupted_ = false;
  std::int64_t num_rows_ = 0;
  RowTable<NoValue> ids_;
  std::string batch_model_;
};

}  // namespace llmrun
