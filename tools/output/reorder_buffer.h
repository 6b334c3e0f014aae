// Puts records back into the order of their rows.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

namespace llmrun {

// A record that comes early waits for those before it. How many may wait is bounded by the caller
// asking may_admit before it starts a row; the row that everything waits for is always admitted.
class ReorderBuffer {
 public:
  // Rows [next_index, next_index + window) may be under way, while less than `max_bytes` wait.
  ReorderBuffer(std::int64_t window, std::size_t max_bytes);

  bool may_admit(std::int64_t index) const;
  // Hands in a row's record, or nothing for a row that has none (it is in the output already).
  // Returns the records whose turn it now is. REQUIRES: each index once.
  std::vector<std::string> put(std::int64_t index, std::optional<std::string> record);

  std::int64_t next_index() const { return next_index_; }
  std::size_t num_waiting() const { return waiting_.size(); }
  // All records that still wait, in order: rows before them were given up.
  std::vector<std::string> take_all();

 private:
  std::int64_t window_;
  std::size_t max_bytes_;
  std::int64_t next_index_ = 0;
  std::size_t num_bytes_ = 0;  // of the records that wait
  std::map<std::int64_t, std::optional<std::string>> waiting_;
};

}  // namespace llmrun
