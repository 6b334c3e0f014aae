#include "tools/input/input_buffer.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <system_error>
#include <utility>

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <unistd.h>

#include "engine/core/error.h"

namespace llmrun {
namespace {

[[noreturn]] void fail(const std::string& name, const char* action, int error_number) {
  throw Error(ErrorKind::kInput, fmt::format("{}: cannot {}: {}", name, action,
                                             std::generic_category().message(error_number)));
}

bool same_time(const timespec& a, const timespec& b) {
  return a.tv_sec == b.tv_sec && a.tv_nsec == b.tv_nsec;
}

}  // namespace

FileSource::FileSource(const std::string& path, std::function<bool()> stopped)
    : name_(path == "-" ? "standard input" : path), stopped_(std::move(stopped)) {
  owned_ = path != "-";
  fd_ = owned_ ? ::open(path.c_str(), O_RDONLY | O_CLOEXEC) : STDIN_FILENO;
  if (fd_ < 0) fail(name_, "open", errno);
  const int result = ::fstat(fd_, &status_);
  const int error_number = result != 0 ? errno : S_ISDIR(status_.st_mode) ? EISDIR : 0;
  if (error_number != 0) {
    if (owned_) ::close(fd_);
    fail(name_, "read", error_number);
  }
}

FileSource::~FileSource() {
  if (owned_) ::close(fd_);
}

std::size_t FileSource::read(std::span<char> out) {
  while (true) {
    const ssize_t count = ::read(fd_, out.data(), out.size());
    if (count >= 0) return static_cast<std::size_t>(count);
    if (errno != EINTR) fail(name_, "read", errno);
    if (stopped_ && stopped_()) throw InputInterrupted();
  }
}

bool FileSource::ready() const {
  pollfd readable{.fd = fd_, .events = POLLIN, .revents = 0};
  return S_ISREG(status_.st_mode) || ::poll(&readable, 1, 0) != 0;
}

std::optional<std::uint64_t> FileSource::size() const {
  if (!S_ISREG(status_.st_mode)) return std::nullopt;
  return static_cast<std::uint64_t>(status_.st_size);
}

void FileSource::check_unchanged() const {
  if (!S_ISREG(status_.st_mode)) return;
  struct stat now {};
  if (::fstat(fd_, &now) != 0) fail(name_, "inspect", errno);
  if (now.st_size != status_.st_size) {
    throw Error(
        ErrorKind::kInput,
        fmt::format("{}: changed from {} to {} bytes while it was read; keep a copy and run "
                    "again with --resume",
                    name_, status_.st_size, now.st_size));
  }
  if (!same_time(now.st_mtim, status_.st_mtim)) {
    throw Error(ErrorKind::kInput, fmt::format("{}: was written to while it was read; keep a copy "
                                               "and run again with --resume",
                                               name_));
  }
}

InputBuffer::InputBuffer(std::unique_ptr<ByteSource> source, std::size_t chunk_bytes)
    : source_(std::move(source)), chunk_bytes_(chunk_bytes) {}

bool InputBuffer::fill() {
  if (begin_ > 0 && (begin_ == end_ || begin_ >= bytes_.size() / 2)) {
    std::memmove(bytes_.data(), bytes_.data() + begin_, end_ - begin_);
    end_ -= begin_;
    begin_ = 0;
    // Gives back the memory of one very long line.
    if (bytes_.size() > 16 * chunk_bytes_ && end_ < chunk_bytes_) {
      bytes_.resize(end_ + chunk_bytes_);
      bytes_.shrink_to_fit();
    }
  }
  if (bytes_.size() - end_ < chunk_bytes_) bytes_.resize(std::max(end_ + chunk_bytes_, 2 * end_));
  const std::size_t count = source_->read(std::span(bytes_).subspan(end_));
  end_ += count;
  return count > 0;
}

void InputBuffer::consume(std::size_t count) {
  LLMRUN_CHECK(count <= end_ - begin_);
  begin_ += count;
  offset_ += count;
}

void InputBuffer::skip_byte_order_mark() {
  while (data().size() < kByteOrderMark.size() && fill()) {
  }
  if (data().starts_with(kByteOrderMark)) consume(kByteOrderMark.size());
}

}  // namespace llmrun
