// SipHash-2-4 with a 128-bit result: a keyed hash that nobody without the key can steer.
// Source: Aumasson and Bernstein, 2012, https://www.aumasson.jp/siphash/siphash.pdf, and the
// 128-bit variant of the authors' reference code, https://github.com/veorq/SipHash.
#pragma once

#include <array>
#include <cstdint>

namespace llmrun {

struct Hash128 {
  std::uint64_t low = 0;
  std::uint64_t high = 0;
  bool operator==(const Hash128&) const = default;
};

// Hashes whole 64-bit words, as the little-endian bytes they stand for.
class SipHash128 {
 public:
  explicit SipHash128(Hash128 key);
  void add(std::uint64_t word);
  Hash128 finish();  // once, at the end

 private:
  void round();

  std::array<std::uint64_t, 4> v_;
  std::uint64_t num_bytes_ = 0;
};

}  // namespace llmrun
