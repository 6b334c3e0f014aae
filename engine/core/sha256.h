// SHA-256, as FIPS 180-4 defines it. For naming content (input files, checkpoints, rows of a
// batch), not for secrets: nothing here runs in constant time.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

namespace llmrun {

using Sha256Digest = std::array<std::uint8_t, 32>;

// Hashes a message that comes in pieces.
class Sha256 {
 public:
  void update(std::string_view bytes);
  // The digest of all bytes so far. The object must not be used afterwards.
  Sha256Digest finish();

 private:
  void compress(const char* block);

  std::array<std::uint32_t, 8> state_ = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                                         0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
  std::array<char, 64> block_{};  // its first num_bytes_ % 64 bytes wait to be hashed
  std::uint64_t num_bytes_ = 0;
};

Sha256Digest sha256(std::string_view bytes);

// Two lower-case hexadecimal digits a byte.
std::string to_hex(std::span<const std::uint8_t> bytes);

}  // namespace llmrun
