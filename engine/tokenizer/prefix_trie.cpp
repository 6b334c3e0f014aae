#include "engine/tokenizer/prefix_trie.h"

#include <algorithm>
#include <utility>

namespace llmrun {

PrefixTrie::PrefixTrie(std::vector<Entry> entries) {
  std::stable_sort(entries.begin(), entries.end(),
                   [](const Entry& a, const Entry& b) { return a.text < b.text; });
  // The entries below a node, which all begin with its `depth` bytes.
  struct Range {
    std::uint32_t node;
    std::size_t begin;
    std::size_t end;
    std::size_t depth;
  };
  std::vector<Range> level{{kRoot, 0, entries.size(), 0}};
  while (!level.empty()) {
    std::vector<Range> next_level;
    for (const Range& range : level) {
      std::size_t begin = range.begin;
      while (begin < range.end && entries[begin].text.size() == range.depth) {
        if (range.depth > 0) nodes_[range.node].id = entries[begin].id;
        ++begin;
      }
      nodes_[range.node].first_child = static_cast<std::uint32_t>(nodes_.size());
      while (begin < range.end) {
        const char byte = entries[begin].text[range.depth];
        std::size_t end = begin;
        while (end < range.end && entries[end].text[range.depth] == byte) ++end;
        next_level.push_back(
            {static_cast<std::uint32_t>(nodes_.size()), begin, end, range.depth + 1});
        nodes_.push_back({.byte = static_cast<std::uint8_t>(byte)});
        ++nodes_[range.node].num_children;
        begin = end;
      }
    }
    level = std::move(next_level);
  }
  const Node& root = nodes_[kRoot];
  for (std::uint32_t i = 0; i < root.num_children; ++i) {
    root_children_[nodes_[root.first_child + i].byte] = root.first_child + i;
  }
}

std::uint32_t PrefixTrie::child(std::uint32_t node, std::uint8_t byte) const {
  if (node == kRoot) return root_children_[byte];
  const auto first = nodes_.begin() + nodes_[node].first_child;
  const auto last = first + nodes_[node].num_children;
  const auto found =
      std::partition_point(first, last, [&](const Node& n) { return n.byte < byte; });
  if (found == last || found->byte != byte) return kNone;
  return static_cast<std::uint32_t>(found - nodes_.begin());
}

}  // namespace llmrun
