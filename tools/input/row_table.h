// RowTable: what is known of each row of an input, by its key. What a run knows of its rows is all
// that grows with their number, so it is kept small: 9 to 12 bytes a row when it is only that the
// row was there, else 1.1 to 1.4 times 8 bytes and the value.
//
// A row is known by 71 bits of its key: 7 choose a shard, 64 are kept there. That two of 10^8 rows
// are taken for one has a probability of 2e-6. Each shard is a table of open addressing that grows
// by a quarter when 7/8 of it are in use, so that little is empty and, while it is copied, little
// is there twice; of few shards each is large, so that what it leaves behind goes back to the
// system.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

#include "tools/input/input_item.h"

namespace llmrun {

struct NoValue {};

template <typename Value>
class RowTable {
 public:
  // The row's value and true; when the row is there already, the value it has and false. Pointers
  // are valid until the next insert().
  std::pair<Value*, bool> insert(const RowKey& key, const Value& value = {}) {
    Shard& shard = shard_of(key);
    const std::uint64_t tag = tag_of(key);
    if ((shard.num_rows + 1) * 8 > shard.slots.size() * 7) grow(shard);
    Slot& slot = shard.slots[place_of(shard.slots, tag)];
    if (slot.tag != kEmpty) return {&slot.value, false};
    slot = {tag, value};
    ++shard.num_rows;
    ++size_;
    return {&slot.value, true};
  }

  const Value* find(const RowKey& key) const {
    const Shard& shard = shards_[shard_index(key)];
    if (shard.slots.empty()) return nullptr;
    const Slot& slot = shard.slots[place_of(shard.slots, tag_of(key))];
    return slot.tag == kEmpty ? nullptr : &slot.value;
  }
  Value* find(const RowKey& key) { return const_cast<Value*>(std::as_const(*this).find(key)); }
  bool contains(const RowKey& key) const { return find(key) != nullptr; }

  // Forgets the rows whose values are such.
  template <typename Predicate>
  void erase_if(const Predicate& is_such) {
    for (Shard& shard : shards_) {
      const std::vector<Slot> before =
          std::exchange(shard.slots, std::vector<Slot>(shard.slots.size()));
      size_ -= shard.num_rows;
      shard.num_rows = 0;
      for (const Slot& slot : before) {
        if (slot.tag == kEmpty || is_such(slot.value)) continue;
        shard.slots[place_of(shard.slots, slot.tag)] = slot;
        ++shard.num_rows;
      }
      size_ += shard.num_rows;
    }
  }

  std::size_t size() const { return size_; }

 private:
  static constexpr int kShardBits = 7;
  static constexpr std::uint64_t kEmpty = 0;

  struct Slot {
    std::uint64_t tag = kEmpty;
    [[no_unique_address]] Value value{};
  };
  struct Shard {
    std::vector<Slot> slots;
    std::size_t num_rows = 0;
  };

  static std::size_t shard_index(const RowKey& key) { return key.high >> (64 - kShardBits); }
  static std::uint64_t tag_of(const RowKey& key) { return std::max<std::uint64_t>(key.low, 1); }
  Shard& shard_of(const RowKey& key) { return shards_[shard_index(key)]; }

  // Where the row is, or the empty slot where it would be. REQUIRES: a slot is empty.
  static std::size_t place_of(const std::vector<Slot>& slots, std::uint64_t tag) {
    std::size_t place = tag % slots.size();
    while (slots[place].tag != kEmpty && slots[place].tag != tag) {
      if (++place == slots.size()) place = 0;
    }
    return place;
  }

  static void grow(Shard& shard) {
    std::vector<Slot> larger(shard.slots.size() + shard.slots.size() / 4 + 4);
    for (const Slot& slot : shard.slots) {
      if (slot.tag != kEmpty) larger[place_of(larger, slot.tag)] = slot;
    }
    shard.slots = std::move(larger);
  }

  std::vector<Shard> shards_ = std::vector<Shard>(std::size_t{1} << kShardBits);
  std::size_t size_ = 0;
};

}  // namespace llmrun
