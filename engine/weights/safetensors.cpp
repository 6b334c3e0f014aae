#include "engine/weights/safetensors.h"

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "engine/weights/random_access_file.h"
#include "engine/weights/safetensors_header.h"

namespace llmrun {
namespace {

constexpr std::uint64_t kPrefixBytes = 8;             // length of the header, little-endian
constexpr std::uint64_t kMaxHeaderBytes = 100000000;  // the format's own limit

std::uint64_t read_little_endian(std::span<const std::byte> bytes) {
  std::uint64_t value = 0;
  for (std::size_t i = bytes.size(); i-- > 0;) {
    value = (value << 8) | std::to_integer<std::uint64_t>(bytes[i]);
  }
  return value;
}

}  // namespace

WeightFile open_safetensors(std::filesystem::path path) {
  RandomAccessFile file(std::move(path));
  const std::uint64_t num_bytes = file.num_bytes();
  if (num_bytes < kPrefixBytes) {
    file.fail(
        fmt::format("{} bytes, but a safetensors file has at least {}", num_bytes, kPrefixBytes));
  }
  std::array<std::byte, kPrefixBytes> prefix{};
  file.read(0, prefix);
  const std::uint64_t header_size = read_little_endian(prefix);
  if (header_size > kMaxHeaderBytes) {
    file.fail(
        fmt::format("offset 0: header of {} bytes, but the format allows at most {}; is this a "
                    "safetensors file?",
                    header_size, kMaxHeaderBytes));
  }
  if (header_size > num_bytes - kPrefixBytes) {
    file.fail(fmt::format("offset 0: header of {} bytes, but only {} bytes follow; the file is cut",
                          header_size, num_bytes - kPrefixBytes));
  }
  const std::string header = file.read_text(kPrefixBytes, header_size);
  if (header.empty() || header.front() != '{') {
    file.fail("offset 8: the header does not begin with {");
  }
  const std::uint64_t data_begin = kPrefixBytes + header_size;
  std::vector<StoredTensor> tensors =
      parse_safetensors_header(header, file.path().string(), data_begin, num_bytes - data_begin);
  file.check_unchanged();
  return {std::move(file), std::move(tensors)};
}

}  // namespace llmrun
