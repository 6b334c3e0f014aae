// A trie of byte strings: which of them a text begins with. Built once, then constant.
#pragma once

#include <array>
#include <cstdint>
#include <string_view>
#include <vector>

#include "engine/core/token_id.h"

namespace llmrun {

class PrefixTrie {
 public:
  struct Entry {
    std::string_view text;
    TokenId id;
  };

  PrefixTrie() = default;
  // Of equal texts the last one counts; empty texts are ignored.
  explicit PrefixTrie(std::vector<Entry> entries);

  // Calls visit(length, id) for each entry that `text` begins with, the shortest first.
  template <typename Visitor>
  void for_each_prefix(std::string_view text, Visitor visit) const {
    std::uint32_t node = kRoot;
    for (std::size_t length = 1; length <= text.size(); ++length) {
      node = child(node, static_cast<unsigned char>(text[length - 1]));
      if (node == kNone) return;
      if (nodes_[node].id != kNoEntry) visit(length, nodes_[node].id);
    }
  }

 private:
  static constexpr std::uint32_t kRoot = 0;
  static constexpr std::uint32_t kNone = 0;  // the root is nobody's child
  static constexpr TokenId kNoEntry = -1;
  struct Node {
    std::uint32_t first_child = 0;  // children lie together, sorted by byte
    std::uint16_t num_children = 0;
    std::uint8_t byte = 0;  // leads here from the parent
    TokenId id = kNoEntry;
  };

  std::uint32_t child(std::uint32_t node, std::uint8_t byte) const;

  std::vector<Node> nodes_{Node{}};
  std::array<std::uint32_t, 256> root_children_{};
};

}  // namespace llmrun
