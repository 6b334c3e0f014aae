// The rows whose records an output already holds, in 30 bytes a row.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "tools/input/input_item.h"
#include "tools/input/row_table.h"

namespace llmrun {

// Small, since an output may hold many millions. Of both hashes a part tells enough: each is only
// ever compared with that of one other record of the same row.
struct FinishedRow {
  std::uint64_t input_hash = 0;      // its first half
  std::uint64_t line_hash : 62 = 0;  // of the whole record
  bool failed : 1 = false;           // it is an error record
  bool claimed : 1 = false;          // the input has this row
};
static_assert(sizeof(FinishedRow) == 16);

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
  std::string output_name_;
  bool accept_other_inputs_ = false;
  RowTable<FinishedRow> rows_;
  std::size_t num_failed_ = 0;
  std::size_t num_claimed_ = 0;
  std::size_t num_from_other_inputs_ = 0;
};

// The first half of an input_hash() of 32 hexadecimal digits; nothing when it is not that.
std::optional<std::uint64_t> parse_input_hash(std::string_view hex);

}  // namespace llmrun
