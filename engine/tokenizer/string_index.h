// A hash table from strings to token ids: open addressing, keys stored elsewhere, no removal.
#pragma once

#include <bit>
#include <cstdint>
#include <cstring>
#include <string_view>
#include <vector>

#include "engine/core/token_id.h"

namespace llmrun {

class StringIndex {
 public:
  static constexpr TokenId kAbsent = -1;

  explicit StringIndex(std::size_t num_keys = 0)
      : slots_(std::bit_ceil(2 * num_keys + 2)), mask_(slots_.size() - 1) {}

  // False when the key is there already. `key` must outlive the table. REQUIRES: at most the
  // number of keys given to the constructor, id >= 0.
  bool insert(std::string_view key, TokenId id) {
    const std::uint64_t hash = hash_bytes(key);
    for (std::size_t i = hash & mask_;; i = (i + 1) & mask_) {
      Slot& slot = slots_[i];
      if (slot.id == kAbsent) {
        slot = {key.data(), static_cast<std::uint32_t>(key.size()), id};
        return true;
      }
      if (slot.holds(key)) return false;
    }
  }

  TokenId find(std::string_view key) const {
    const std::uint64_t hash = hash_bytes(key);
    for (std::size_t i = hash & mask_;; i = (i + 1) & mask_) {
      const Slot& slot = slots_[i];
      if (slot.id == kAbsent || slot.holds(key)) return slot.id;
    }
  }

 private:
  struct Slot {
    const char* data = nullptr;
    std::uint32_t size = 0;
    TokenId id = kAbsent;
    bool holds(std::string_view key) const {
      return size == key.size() && std::memcmp(data, key.data(), size) == 0;
    }
  };

  // Multiplies eight bytes at a time and folds the halves: the mixing step of wyhash.
  static std::uint64_t mix(std::uint64_t a, std::uint64_t b) {
    __extension__ using Wide = unsigned __int128;
    const Wide product = static_cast<Wide>(a) * b;
    return static_cast<std::uint64_t>(product) ^ static_cast<std::uint64_t>(product >> 64);
  }
  static std::uint64_t hash_bytes(std::string_view key) {
    constexpr std::uint64_t kFirst = 0xa0761d6478bd642fU;
    constexpr std::uint64_t kSecond = 0xe7037ed1a0b428dbU;
    std::uint64_t hash = mix(key.size() ^ kFirst, kSecond);
    const char* data = key.data();
    std::size_t left = key.size();
    for (; left >= 8; data += 8, left -= 8) {
      std::uint64_t word = 0;
      std::memcpy(&word, data, 8);
      hash = mix(hash ^ word, kSecond);
    }
    std::uint64_t word = 0;
    for (std::size_t i = 0; i < left; ++i) {
      word |= static_cast<std::uint64_t>(static_cast<unsigned char>(data[i])) << (8 * i);
    }
    return mix(hash ^ word ^ kFirst, kSecond);
  }

  std::vector<Slot> slots_;
  std::size_t mask_;
};

}  // namespace llmrun
