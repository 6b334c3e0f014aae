#include "engine/weights/random_access_file.h"

#include <algorithm>
#include <cerrno>
#include <system_error>
#include <utility>

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include "engine/core/error.h"

namespace llmrun {
namespace {

std::string system_message(int error_number) {
  return std::generic_category().message(error_number);
}

std::int64_t modified_ns(const struct stat& status) {
  return std::int64_t{status.st_mtim.tv_sec} * 1000000000 + status.st_mtim.tv_nsec;
}

}  // namespace

RandomAccessFile::RandomAccessFile(std::filesystem::path path) : path_(std::move(path)) {
  // O_NONBLOCK: a FIFO must not be waited for.
  fd_ = ::open(path_.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
  if (fd_ < 0) fail("cannot open: " + system_message(errno));
  try {
    struct stat status {};
    if (::fstat(fd_, &status) != 0) fail("cannot inspect: " + system_message(errno));
    if (!S_ISREG(status.st_mode)) fail("not a regular file");
    num_bytes_ = static_cast<std::uint64_t>(status.st_size);
    modified_ns_ = modified_ns(status);
  } catch (...) {
    ::close(fd_);
    throw;
  }
}

RandomAccessFile::RandomAccessFile(RandomAccessFile&& other) noexcept
    : path_(std::move(other.path_)),
      fd_(std::exchange(other.fd_, -1)),
      num_bytes_(other.num_bytes_),
      modified_ns_(other.modified_ns_) {}

RandomAccessFile::~RandomAccessFile() {
  if (fd_ >= 0) ::close(fd_);
}

void RandomAccessFile::read(std::uint64_t offset, std::span<std::byte> out) const {
  if (offset > num_bytes_ || out.size() > num_bytes_ - offset) {
    fail(fmt::format("{} bytes at offset {} do not lie in the {} bytes of the file; it is cut",
                     out.size(), offset, num_bytes_));
  }
  read_ahead(offset, out.size());
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

void RandomAccessFile::read_ahead(std::uint64_t offset, std::uint64_t size) const {
  // Linux does no more for one piece of advice than the device's read-ahead, by default 128 KiB.
  constexpr std::uint64_t kAdviceBytes = 128 << 10;
  constexpr std::uint64_t kMaxBytes = 4 << 20;  // more is asked for while these are copied
  if (size < 2 * kAdviceBytes) return;
  for (std::uint64_t begin = 0; begin < std::min(size, kMaxBytes); begin += kAdviceBytes) {
    ::posix_fadvise(fd_, static_cast<off_t>(offset + begin),
                    static_cast<off_t>(std::min(kAdviceBytes, size - begin)), POSIX_FADV_WILLNEED);
  }
}

std::string RandomAccessFile::read_text(std::uint64_t offset, std::uint64_t size) const {
  std::string text(static_cast<std::size_t>(size), '\0');
  read(offset, std::as_writable_bytes(std::span(text)));
  return text;
}

void RandomAccessFile::check_unchanged() const {
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

void RandomAccessFile::fail(const std::string& what) const {
  throw Error(ErrorKind::kModel, fmt::format("{}: {}", path_.string(), what));
}

}  // namespace llmrun
