#include "tools/output/reorder_buffer.h"

#include <utility>

#include "engine/core/error.h"

namespace llmrun {

ReorderBuffer::ReorderBuffer(std::int64_t window, std::size_t max_bytes)
    : window_(window), max_bytes_(max_bytes) {}

bool ReorderBuffer::may_admit(std::int64_t index) const {
  if (index <= next_index_) return true;
  return index - next_index_ < window_ && num_bytes_ < max_bytes_;
}

std::vector<std::string> ReorderBuffer::put(std::int64_t index, std::optional<std::string> record) {
  num_bytes_ += record ? record->size() : 0;
  const bool is_new = index >= next_index_ && waiting_.emplace(index, std::move(record)).second;
  LLMRUN_CHECK(is_new);
  std::vector<std::string> ready;
  while (!waiting_.empty() && waiting_.begin()->first == next_index_) {
    std::optional<std::string>& first = waiting_.begin()->second;
    if (first) {
      num_bytes_ -= first->size();
      ready.push_back(std::move(*first));
    }
    waiting_.erase(waiting_.begin());
    ++next_index_;
  }
  return ready;
}

std::vector<std::string> ReorderBuffer::take_all() {
  std::vector<std::string> records;
  for (auto& [index, record] : waiting_) {
    if (record) records.push_back(std::move(*record));
  }
  waiting_.clear();
  num_bytes_ = 0;
  return records;
}

}  // namespace llmrun
