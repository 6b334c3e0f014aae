#include "engine/weights/safetensors.h"

#include <array>
#include <utility>

#include <fmt/format.h>

#include "engine/core/error.h"
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

SafetensorsFile::SafetensorsFile(std::filesystem::path path) : file_(std::move(path)) {
  if (num_bytes() < kPrefixBytes) {
    file_.fail(
        fmt::format("{} bytes, but a safetensors file has at least {}", num_bytes(), kPrefixBytes));
  }
  std::array<std::byte, kPrefixBytes> prefix{};
  file_.read(0, prefix);
  const std::uint64_t header_size = read_little_endian(prefix);
  if (header_size > kMaxHeaderBytes) {
    file_.fail(
        fmt::format("offset 0: header of {} bytes, but the format allows at most {}; is this a "
                    "safetensors file?",
                    header_size, kMaxHeaderBytes));
  }
  if (header_size > num_bytes() - kPrefixBytes) {
    file_.fail(
        fmt::format("offset 0: header of {} bytes, but only {} bytes follow; the file is cut",
                    header_size, num_bytes() - kPrefixBytes));
  }
  const std::string header = file_.read_text(kPrefixBytes, header_size);
  if (header.empty() || header.front() != '{') {
    file_.fail("offset 8: the header does not begin with {");
  }
  const std::uint64_t data_begin = kPrefixBytes + header_size;
  tensors_ =
      parse_safetensors_header(header, file_.path().string(), data_begin, num_bytes() - data_begin);
  file_.check_unchanged();
}

void SafetensorsFile::read(const SafetensorsTensor& tensor, std::uint64_t begin,
                           std::span<std::byte> out) const {
  LLMRUN_CHECK(begin <= tensor.num_bytes && out.size() <= tensor.num_bytes - begin);
  file_.read(tensor.offset + begin, out);
  file_.check_unchanged();
}

}  // namespace llmrun
