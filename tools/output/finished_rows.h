// The rows whose records an output already holds.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>

#include "tools/input/input_item.h"

namespace llmrun {

struct FinishedRow {
  std::array<char, 16> input_hash{};
  std::uint64_t line_hash = 0;  // of the whole record
  bool failed = false;          // it is an error record
  bool claimed = false;         // the input has this row
};

class FinishedRows {
 public:
  // `output_name` is for messages. With `accept_other_inputs`, records made from other inputs or
  // options count as well; otherwise claim refuses them.
  FinishedRows() = default;
  FinishedRows(std::string output_name, bool accept_other_inputs);

  // False when the row is known already.
  bool add(const RowKey& key, const FinishedRow& row);
  const FinishedRow* find(const RowKey& key) const;
  void remove_failed();

  // Whether the output holds the item's record, made from the same input; `hash` is its
  // input_hash. Throws Error(kInput) when it was made from another one.
  bool claim(const InputItem& item, std::string_view hash);
  // For the end of the input. Throws Error(kInput) when the output holds rows that nobody claimed.
  void check_all_claimed() const;

  std::size_t size() const { return rows_.size(); }
  std::size_t num_failed() const { return num_failed_; }
  std::size_t num_claimed() const { return num_claimed_; }
  std::size_t num_from_other_inputs() const { return num_from_other_inputs_; }

 private:
  struct KeyHash {
    std::size_t operator()(const RowKey& key) const noexcept { return key.low; }
  };

  std::string output_name_;
  bool accept_other_inputs_ = false;
  std::unordered_map<RowKey, FinishedRow, KeyHash> rows_;
  std::size_t num_failed_ = 0;
  std::size_t num_claimed_ = 0;
  std::size_t num_from_other_inputs_ = 0;
};

// 16 bytes from 32 hexadecimal digits; false when they are not that.
bool parse_input_hash(std::string_view hex, std::array<char, 16>& hash);

}  // namespace llmrun
