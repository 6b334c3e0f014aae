// The part of CPython's `random` module that decides the order of a shuffled dataset: the same seed
// gives the same order as in the Python tools that results are compared with.
// Source: https://github.com/python/cpython, Modules/_randommodule.c and Lib/random.py.
#pragma once

#include <bit>
#include <cstdint>
#include <utility>
#include <vector>

namespace llmrun {

class PythonRandom {
 public:
  // random.seed(seed): init_by_array of its 32-bit words, least significant first.
  explicit PythonRandom(std::uint64_t seed);

  // random._randbelow(bound), in [0, bound). REQUIRES: 1 <= bound < 2^32.
  std::uint32_t below(std::uint32_t bound) {
    const int num_bits = std::bit_width(bound);
    std::uint32_t value = next() >> (32 - num_bits);
    while (value >= bound) value = next() >> (32 - num_bits);
    return value;
  }

  // random.shuffle(items).
  template <typename T>
  void shuffle(std::vector<T>& items) {
    for (std::size_t i = items.size(); i-- > 1;) {
      std::swap(items[i], items[below(static_cast<std::uint32_t>(i + 1))]);
    }
  }

 private:
  std::uint32_t next();
  void refill();

  static constexpr std::size_t kSize = 624;
  std::uint32_t state_[kSize] = {};
  std::size_t index_ = kSize;
};

}  // namespace llmrun
