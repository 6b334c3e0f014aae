#include "engine/kv_cache/siphash.h"

#include <bit>

namespace llmrun {

SipHash128::SipHash128(Hash128 key)
    : v_{key.low ^ 0x736f6d6570736575U, key.high ^ 0x646f72616e646f6dU ^ 0xeeU,
         key.low ^ 0x6c7967656e657261U, key.high ^ 0x7465646279746573U} {}

void SipHash128::round() {
  v_[0] += v_[1];
  v_[1] = std::rotl(v_[1], 13) ^ v_[0];
  v_[0] = std::rotl(v_[0], 32);
  v_[2] += v_[3];
  v_[3] = std::rotl(v_[3], 16) ^ v_[2];
  v_[0] += v_[3];
  v_[3] = std::rotl(v_[3], 21) ^ v_[0];
  v_[2] += v_[1];
  v_[1] = std::rotl(v_[1], 17) ^ v_[2];
  v_[2] = std::rotl(v_[2], 32);
}

void SipHash128::add(std::uint64_t word) {
  v_[3] ^= word;
  round();
  round();
  v_[0] ^= word;
  num_bytes_ += 8;
}

Hash128 SipHash128::finish() {
  // The last block is the length alone: there are only whole words.
  add(num_bytes_ << 56);
  v_[2] ^= 0xeeU;
  for (int round_idx = 0; round_idx < 4; ++round_idx) round();
  const std::uint64_t low = v_[0] ^ v_[1] ^ v_[2] ^ v_[3];
  v_[1] ^= 0xddU;
  for (int round_idx = 0; round_idx < 4; ++round_idx) round();
  return {low, v_[0] ^ v_[1] ^ v_[2] ^ v_[3]};
}

}  // namespace llmrun
