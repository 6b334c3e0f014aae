#include "engine/weights/safetensors.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <system_error>
#include <utility>

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include "engine/core/error.h"
#include "engine/weights/safetensors_header.h"

namespace llmrun {
namespace {

constexpr std::uint64_t kPrefixBytes = 8;             // length of the header, little-endian
constexpr std::uint64_t kMaxHeaderBytes = 100000000;  // the format's own limit

std::string system_message(int error_number) {
  return std::generic_category().message(error_number);
}

std::int64_t modified_ns(const struct stat& status) {
  return std::int64_t{status.st_mtim.tv_sec} * 1000000000 + status.st_mtim.tv_nsec;
}

std::uint64_t read_little_endian(std::span<const std::byte> bytes) {
  std::uint64_t value = 0;
  for (std::size_t i = bytes.size(); i-- > 0;) {
    value = (value << 8) | std::to_integer<std::uint64_t>(bytes[i]);
  }
  return value;
}

}  // namespace

SafetensorsFile::SafetensorsFile(std::filesystem::path path) : path_(std::move(path)) {
  // O_NONBLOCK: a FIFO must not be waited for.
  fd_ = ::open(path_.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
  if (fd_ < 0) fail("cannot open: " + system_message(errno));
  try {
    struct stat status {};
    if (::fstat(fd_, &status) != 0) fail("cannot inspect: " + system_message(errno));
    if (!S_ISREG(status.st_mode)) fail("not a regular file");
    num_bytes_ = static_cast<std::uint64_t>(status.st_size);
    modified_ns_ = modified_ns(status);
    if (num_bytes_ < kPrefixBytes) {
      fail(fmt::format("{} bytes, but a safetensors file has at least {}", num_bytes_,
                       kPrefixBytes));
    }
    std::array<std::byte, kPrefixBytes> prefix{};
    read_at(0, prefix);
    const std::uint64_t header_size = read_little_endian(prefix);
    if (header_size > kMaxHeaderBytes) {
      fail(
          fmt::format("offset 0: header of {} bytes, but the format allows at most {}; is this a "
                      "safetensors file?",
                      header_size, kMaxHeaderBytes));
    }
    if (header_size > num_bytes_ - kPrefixBytes) {
      fail(fmt::format("offset 0: header of {} bytes, but only {} bytes follow; the file is cut",
                       header_size, num_bytes_ - kPrefixBytes));
    }
    std::string header(static_cast<std::size_t>(header_size), '\0');
    read_at(kPrefixBytes, std::as_writable_bytes(std::span(header)));
    if (header.empty() || header.front() != '{') fail("offset 8: the header does not begin with {");
    const std::uint64_t data_begin = kPrefixBytes + header_size;
    tensors_ =
        parse_safetensors_header(header, path_.string(), data_begin, num_bytes_ - data_begin);
    check_unchanged();
  } catch (...) {
    ::close(fd_);
    throw;
  }
}

SafetensorsFile::SafetensorsFile(SafetensorsFile&& other) noexcept
    : path_(std::move(other.path_)),
      fd_(std::exchange(other.fd_, -1)),
      num_bytes_(other.num_bytes_),
      modified_ns_(other.modified_ns_),
      tensors_(std::move(other.tensors_)) {}

SafetensorsFile::~SafetensorsFile() {
  if (fd_ >= 0) ::close(fd_);
}

void SafetensorsFile::read(const SafetensorsTensor& tensor, std::uint64_t begin,
                           std::span<std::byte> out) const {
  LLMRUN_CHECK(begin <= tensor.num_bytes && out.size() <= tensor.num_bytes - begin);
  read_at(tensor.offset + begin, out);
  check_unchanged();
}

void SafetensorsFile::read_at(std::uint64_t offset, std::span<std::byte> out) const {
  constexpr std::size_t kMaxRead = std::size_t{1} << 30;  // Linux reads at most 2 GiB at once
  while (!out.empty()) {
    const ssize_t count =
        ::pread(fd_, out.data(), std::min(out.size(), kMaxRead), static_cast<off_t>(offset));
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) {
      fail(fmt::format("offset {}: cannot read: {}", offset, system_message(errno)));
    }
    if (count == 0) {
      fail(
          fmt::format("the file ends at offset {}, expected {} bytes; it was cut while it was read",
                      offset, num_bytes_));
    }
    out = out.subspan(static_cast<std::size_t>(count));
    offset += static_cast<std::uint64_t>(count);
  }
}

void SafetensorsFile::check_unchanged() const {
  struct stat status {};
  if (::fstat(fd_, &status) != 0) fail("cannot inspect: " + system_message(errno));
  if (static_cast<std::uint64_t>(status.st_size) != num_bytes_ ||
      modified_ns(status) != modified_ns_) {
    fail(
        fmt::format("changed while it was read: {} bytes when opened, {} now; is a download still "
                    "running?",
                    num_bytes_, status.st_size));
  }
}

void SafetensorsFile::fail(const std::string& what) const {
  throw Error(ErrorKind::kModel, fmt::format("{}: {}", path_.string(), what));
}

}  // namespace llmrun
