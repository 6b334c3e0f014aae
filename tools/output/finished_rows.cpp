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

bool parse_input_hash(std::string_view hex, std::array<char, 16>& hash) {
  if (hex.size() != 2 * hash.size()) return false;
  for (std::size_t i = 0; i < hash.size(); ++i) {
    const int high = digit_value(hex[2 * i]);
    const int low = digit_value(hex[2 * i + 1]);
    if (high < 0 || low < 0) return false;
    hash[i] = static_cast<char>(16 * high + low);
  }
  return true;
}

FinishedRows::FinishedRows(std::string output_name, bool accept_other_inputs)
    : output_name_(std::move(output_name)), accept_other_inputs_(accept_other_inputs) {}

bool FinishedRows::add(const RowKey& key, const FinishedRow& row) {
  if (!rows_.emplace(key, row).second) return false;
  num_failed_ += row.failed ? 1 : 0;
  return true;
}

const FinishedRow* FinishedRows::find(const RowKey& key) const {
  const auto it = rows_.find(key);
  return it == rows_.end() ? nullptr : &it->second;
}

void FinishedRows::remove_failed() {
  std::erase_if(rows_, [](const auto& entry) { return entry.second.failed; });
  num_failed_ = 0;
}

bool FinishedRows::claim(const InputItem& item, std::string_view hash) {
  const auto it = rows_.find(row_key(item));
  if (it == rows_.end()) return false;
  FinishedRow& row = it->second;
  std::array<char, 16> wanted{};
  LLMRUN_CHECK(parse_input_hash(hash, wanted));
  if (row.input_hash != wanted) {
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
  num_claimed_ += row.claimed ? 0 : 1;
  row.claimed = true;
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
