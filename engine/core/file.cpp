#include "engine/core/file.h"

#include <cerrno>
#include <cstring>
#include <system_error>

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

namespace llmrun {
namespace {

class FileDescriptor {
 public:
  explicit FileDescriptor(int fd) : fd_(fd) {}
  ~FileDescriptor() {
    if (fd_ >= 0) ::close(fd_);
  }
  FileDescriptor(const FileDescriptor&) = delete;
  FileDescriptor& operator=(const FileDescriptor&) = delete;
  int get() const { return fd_; }

 private:
  int fd_;
};

[[noreturn]] void fail(ErrorKind kind, const std::filesystem::path& path, const char* action,
                       int error_number) {
  throw Error(kind, fmt::format("{}: cannot {}: {}", path.string(), action,
                                std::generic_category().message(error_number)));
}

// Reads until `text` is full or the file ends; the number of bytes read.
std::size_t read_all(int fd, std::string& text, const std::filesystem::path& path, ErrorKind kind) {
  std::size_t position = 0;
  while (position < text.size()) {
    const ssize_t count = ::read(fd, text.data() + position, text.size() - position);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) fail(kind, path, "read", errno);
    if (count == 0) break;
    position += static_cast<std::size_t>(count);
  }
  return position;
}

}  // namespace

std::optional<std::string> read_file_if_exists(const std::filesystem::path& path,
                                               std::uint64_t max_bytes, ErrorKind kind) {
  const FileDescriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  if (file.get() < 0) {
    if (errno == ENOENT) return std::nullopt;
    fail(kind, path, "open", errno);
  }
  struct stat status {};
  if (::fstat(file.get(), &status) != 0) fail(kind, path, "inspect", errno);
  if (!S_ISREG(status.st_mode)) {
    throw Error(kind, fmt::format("{}: not a regular file", path.string()));
  }
  const auto size = static_cast<std::uint64_t>(status.st_size);
  if (size > max_bytes) {
    throw Error(kind, fmt::format("{}: {} bytes, but at most {} are read from such a file",
                                  path.string(), size, max_bytes));
  }
  // One byte more than expected is asked for: a file that grew is noticed.
  std::string text(static_cast<std::size_t>(size) + 1, '\0');
  const std::size_t num_read = read_all(file.get(), text, path, kind);
  if (num_read != size) {
    throw Error(kind, fmt::format("{}: its size changed while it was read", path.string()));
  }
  text.pop_back();
  return text;
}

std::string read_file(const std::filesystem::path& path, std::uint64_t max_bytes, ErrorKind kind) {
  std::optional<std::string> text = read_file_if_exists(path, max_bytes, kind);
  if (!text) fail(kind, path, "open", ENOENT);
  return std::move(*text);
}

}  // namespace llmrun
