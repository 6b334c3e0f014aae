#include "tools/input/request_reader.h"

#include <algorithm>
#include <array>
#include <utility>

#include <fmt/format.h>

#include "engine/core/error.h"
#include "engine/core/json.h"

namespace llmrun {
namespace {

constexpr std::string_view kSpace = " \t\r\n";

constexpr std::array<std::pair<InputFormat, const char*>, 5> kFormatNames = {{
    {InputFormat::kAuto, "auto"},
    {InputFormat::kJsonl, "jsonl"},
    {InputFormat::kText, "text"},
    {InputFormat::kShareGpt, "sharegpt"},
    {InputFormat::kOpenAiBatch, "openai-batch"},
}};

std::string_view without_space(std::string_view text) {
  const std::size_t begin = text.find_first_not_of(kSpace);
  return begin == text.npos ? std::string_view() : text.substr(begin);
}

std::string_view without_mark(std::string_view text) {
  if (text.starts_with(kByteOrderMark)) text.remove_prefix(kByteOrderMark.size());
  return text;
}

InputFormat json_lines_format(std::string_view head) {
  const std::string_view line = head.substr(0, head.find('\n'));
  for (const char* key : {"\"custom_id\"", "\"url\"", "\"body\""}) {
    if (line.find(key) == line.npos) return InputFormat::kJsonl;
  }
  return InputFormat::kOpenAiBatch;
}

}  // namespace

std::optional<InputFormat> input_format_from(std::string_view name) {
  for (const auto& [format, format_name] : kFormatNames) {
    if (name == format_name) return format;
  }
  return std::nullopt;
}

const char* to_string(InputFormat format) {
  for (const auto& [known, name] : kFormatNames) {
    if (known == format) return name;
  }
  return "?";
}

InputFormat detect_format(std::string_view head, std::string_view name) {
  head = without_space(without_mark(head));
  if (name.ends_with(".txt")) return InputFormat::kText;
  if (name.ends_with(".jsonl") || name.ends_with(".ndjson")) return json_lines_format(head);
  if (head.empty()) return InputFormat::kText;
  const std::string_view inside = without_space(head.substr(1));
  // "[INST] ..." and "{name} ..." are text.
  if (head[0] == '[' && (inside.starts_with('{') || inside.starts_with(']'))) {
    return InputFormat::kShareGpt;
  }
  if (head[0] == '{' && (inside.starts_with('"') || inside.starts_with('}'))) {
    return json_lines_format(head);
  }
  return InputFormat::kText;
}

RequestReader::RequestReader(OpenedInput input, const ReaderOptions& options)
    : name_(std::move(input.name)), file_(input.file), input_(std::move(input.bytes)) {
  open(options);
}

RequestReader::RequestReader(std::unique_ptr<ByteSource> source, std::string name,
                             const ReaderOptions& options)
    : name_(std::move(name)), input_(std::make_unique<InputBuffer>(std::move(source))) {
  open(options);
}

void RequestReader::open(const ReaderOptions& options) {
  try {
    detect(options);
  } catch (const InputInterrupted&) {
    interrupted_ = true;
    rows_ = make_text_rows(*input_, options.rows);  // never read
  }
}

void RequestReader::detect(const ReaderOptions& options) {
  constexpr std::size_t kMaxHeadBytes = std::size_t{1} << 20;
  // One line tells the format, or what follows the bracket of an array.
  const auto is_enough = [this] {
    const std::string_view head = without_space(without_mark(input_->data()));
    if (head.starts_with('[')) return !without_space(head.substr(1)).empty();
    return head.find('\n') != head.npos;
  };
  while (!is_enough() && input_->data().size() < kMaxHeadBytes && input_->fill()) {
  }
  refuse_other_than_text(input_->data(), name_);
  const bool is_auto = options.format == InputFormat::kAuto;
  format_ = is_auto ? detect_format(input_->data(), name_) : options.format;
  switch (format_) {
    case InputFormat::kAuto:
    case InputFormat::kText: rows_ = make_text_rows(*input_, options.rows); break;
    case InputFormat::kJsonl: rows_ = make_jsonl_rows(*input_, options.rows); break;
    case InputFormat::kOpenAiBatch: rows_ = make_batch_rows(*input_, options.rows); break;
    case InputFormat::kShareGpt: rows_ = make_sharegpt_rows(*input_, options.rows, is_auto); break;
  }
}

std::optional<InputItem> RequestReader::next_row() {
  if (at_end_ || interrupted_) return std::nullopt;
  try {
    std::optional<InputItem> item = rows_->next();
    at_end_ = !item;
    return item;
  } catch (const InputInterrupted&) {
    interrupted_ = true;
    return std::nullopt;
  }
}

std::optional<InputItem> RequestReader::next() {
  std::optional<InputItem> item = next_row();
  if (!item) {
    if (at_end_ && num_rows_ == 0) fail_without_rows();
    return std::nullopt;
  }
  item->index = num_rows_++;
  settle_id(*item);
  if (!item->error) check_model(*item);
  return item;
}

void RequestReader::settle_id(InputItem& item) {
  if (format_ == InputFormat::kText && !item.error) {
    item.id = std::to_string(item.index);
    item.has_id = true;
    return;
  }
  if (item.has_id && format_ == InputFormat::kShareGpt && ids_.contains(row_key(item.id))) {
    // Conversations cut in parts repeat the id; they are then told apart by their place.
    item.has_id = false;
  }
  if (!item.has_id && !item.error) {
    item.id = std::to_string(item.index);
    item.has_id = true;
    item.id_is_integer = false;
  }
  if (!item.has_id || ids_.insert(row_key(item.id)).second) return;
  // The record has no id then: one id, one answer.
  item.has_id = false;
  item.error = RequestError{
      "duplicate_id", fmt::format("id {} was used before (rows without an id have their number, "
                                  "from 0)",
                                  describe_json(item.id))};
}

void RequestReader::check_model(InputItem& item) {
  if (format_ != InputFormat::kOpenAiBatch) return;
  if (batch_model_.empty()) batch_model_ = item.model;
  if (item.model == batch_model_) return;
  item.error =
      RequestError{"model_mismatch",
                   fmt::format("model: all lines must name the same one; expected {}, found {}",
                               describe_json(batch_model_), describe_json(item.model))};
}

void RequestReader::fail_without_rows() const {
  std::string skipped;
  for (const auto& [reason, count] : rows_->num_skipped) {
    skipped += fmt::format("{}{} with {}", skipped.empty() ? "" : ", ", count, reason);
  }
  throw Error(ErrorKind::kInput,
              skipped.empty()
                  ? fmt::format("{}: holds no prompts (read as {})", name_, to_string(format_))
                  : fmt::format("{}: holds no usable conversation: {}", name_, skipped));
}

void RequestReader::check_unchanged() const {
  if (file_ != nullptr) file_->check_unchanged();
}

std::optional<std::int64_t> RequestReader::estimated_rows() const {
  if (at_end_) return num_rows_;
  if (file_ == nullptr || !file_->size() || input_->offset() == 0) return std::nullopt;
  const double share = static_cast<double>(input_->offset()) / static_cast<double>(*file_->size());
  const auto guess = static_cast<std::int64_t>(static_cast<double>(num_rows_) / share);
  return std::max(guess, num_rows_);
}

}  // namespace llmrun
