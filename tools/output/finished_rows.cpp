#include "tools/output/finished_rows.h"

#include <utility>

#include <fmt/format.h>

#include "engine/core/counted.h"
#include "engine/core/error.h"

namespace llmrun {
namespace {

int digit_value(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  return -1;
}

}  // namespace

std::optional<std::uint64_t> parse_input_hash(std::string_view hex) {
  constexpr std::size_t kNumDigits = 32;
  if (hex.size() != kNumDigits) return std::nullopt;
  std::uint64_t first_half = 0;
  for (std::size_t i = 0; i < kNumDigits; ++i) {
    const int digit = digit_value(hex[i]);
    if (digit < 0) return std::nullopt;
    if (i < kNumDigits / 2) first_half = first_half << 4 | static_cast<std::uint64_t>(digit);
  }
  return first_half;
}

FinishedRows::FinishedRows(std::string output_name, bool accept_other_inputs)
    : output_name_(std::move(output_name)), accept_other_inputs_(accept_other_inputs) {}

bool FinishedRows::add(const RowKey& key, const FinishedRow& row) {
  if (!rows_.insert(key, row).second) return false;
  num_failed_ += row.failed ? 1 : 0;
  return true;
}

const FinishedRow* FinishedRows::find(const RowKey& key) const {
  return rows_.find(key);
}

void FinishedRows::remove_failed() {
  rows_.erase_if([](const FinishedRow& row) { return row.failed; });
  num_failed_ = 0;
}

bool FinishedRows::claim(const InputItem& item, std::string_view hash) {
  FinishedRow* row = rows_.find(row_key(item));
  if (row == nullptr) return false;
  const std::optional<std::uint64_t> wanted = parse_input_hash(hash);
  LLMRUN_CHECK(wanted.has_value());
  if (row->input_hash != *wanted) {
    if (!accept_other_inputs_) {
      throw Error(
          ErrorKind::kInput,
          fmt::format("{}: its record of row {} (input line {}) was made from another input "
                      "or with other parameters; run with --force-resume to keep such "
                      "records, or with --overwrite to start again",
                      output_name_, item.has_id ? item.id : std::to_string(item.index), item.line));
    }
    ++num_from_other_inputs_;
  }
  num_claimed_ += row->claimed ? 0 : 1;
  row->claimed = true;
  return true;
}

void FinishedRows::check_all_claimed() const {
  const std::size_t num_foreign = rows_.size() - num_claimed_;
  if (num_foreign == 0 || accept_other_inputs_) return;
  throw Error(ErrorKind::kInput,
              fmt::format("{}: holds {} not in the input; run with "
                          "--force-resume to keep them, or with --overwrite to start again",
                          output_name_,
                          counted(static_cast<std::int64_t>(num_foreign), "record of a row that is",
                                  "records of rows that are")));
}

}  // namespace llmrun
