#include "tools/output/output_file.h"

#include <cerrno>
#include <filesystem>
#include <system_error>
#include <utility>

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

#include "engine/core/error.h"

namespace llmrun {
namespace {

constexpr mode_t kPrivate = 0600;

[[noreturn]] void fail(const std::string& path, const char* action, int error_number) {
  throw Error(ErrorKind::kOutput, fmt::format("{}: cannot {}: {}", path, action,
                                              std::generic_category().message(error_number)));
}

struct stat status_of(const UniqueFd& fd, const std::string& path) {
  struct stat status {};
  if (::fstat(fd.get(), &status) != 0) fail(path, "inspect", errno);
  return status;
}

bool is_same_file(const struct stat& a, const struct stat& b) {
  return a.st_dev == b.st_dev && a.st_ino == b.st_ino;
}

// Terminals and /dev/null may well be the input too.
void refuse_input_as_output(const struct stat& output, const std::string& path,
                            const std::vector<std::string>& inputs) {
  if (S_ISCHR(output.st_mode)) return;
  for (const std::string& input : inputs) {
    struct stat status {};
    const int result =
        input == "-" ? ::fstat(STDIN_FILENO, &status) : ::stat(input.c_str(), &status);
    if (result == 0 && is_same_file(output, status)) {
      throw Error(ErrorKind::kUsage,
                  fmt::format("{}: is the input {}; writing it would destroy it", path, input));
    }
  }
}

void refuse_missing_inputs(const std::vector<std::string>& inputs) {
  for (const std::string& input : inputs) {
    if (input == "-" || ::access(input.c_str(), R_OK) == 0) continue;
    throw Error(ErrorKind::kInput,
                fmt::format("{}: cannot open: {}", input, std::generic_category().message(errno)));
  }
}

void refuse_input_at(const std::string& path, const std::vector<std::string>& inputs) {
  struct stat status {};
  if (::lstat(path.c_str(), &status) == 0) refuse_input_as_output(status, path, inputs);
}

UniqueFd open_existing(const OutputTarget& target) {
  const std::string& path = target.path;
  constexpr int kFlags = O_WRONLY | O_APPEND | O_CLOEXEC | O_NOFOLLOW;
  UniqueFd fd(::open(path.c_str(), kFlags | O_NONBLOCK));
  if (!fd && errno == ENXIO) fd = UniqueFd(::open(path.c_str(), kFlags));  // a pipe without reader
  if (!fd && errno == ELOOP) {
    throw Error(ErrorKind::kUsage,
                fmt::format("{}: is a symbolic link; name the file itself", path));
  }
  if (!fd) fail(path, "open for writing", errno);
  ::fcntl(fd.get(), F_SETFL, ::fcntl(fd.get(), F_GETFL) & ~O_NONBLOCK);
  return fd;
}

void lock_output(const UniqueFd& fd, const OutputTarget& target) {
  const std::string& path = target.path;
  if (!lock_file(fd)) {
    throw Error(ErrorKind::kInput, fmt::format("{}: another process is writing it", path));
  }
  // A resumed run may have replaced the file between our open and our lock.
  struct stat named {};
  if (::stat(path.c_str(), &named) != 0 || !is_same_file(named, status_of(fd, path))) {
    throw Error(ErrorKind::kInput, fmt::format("{}: another process has just replaced it", path));
  }
}

}  // namespace

std::string manifest_path(const std::string& output) {
  return fmt::format("{}.manifest", output);
}

std::string torn_path(const std::string& output) {
  return fmt::format("{}.torn", output);
}

LockedFile::LockedFile(std::string path, UniqueFd fd, bool is_stream)
    : path_(std::move(path)), fd_(std::move(fd)), is_stream_(is_stream) {}

LockedFile::~LockedFile() {
  struct stat status {};
  if (is_stream_ || !fd_ || ::fstat(fd_.get(), &status) != 0 || status.st_size > 0) return;
  struct stat named {};
  if (::lstat(path_.c_str(), &named) != 0 || !is_same_file(named, status)) return;
  ::unlink(path_.c_str());
}

std::int64_t LockedFile::write(std::string_view bytes) {
  while (true) {
    const ssize_t count = ::write(fd_.get(), bytes.data(), bytes.size());
    if (count >= 0) return count;
    if (errno == EAGAIN) {
      // Standard output may be shared with a process that made it non-blocking.
      pollfd writable{.fd = fd_.get(), .events = POLLOUT, .revents = 0};
      ::poll(&writable, 1, -1);
    } else if (errno != EINTR) {
      return -errno;
    }
  }
}

int LockedFile::sync() {
  if (is_stream_) return 0;
  while (::fdatasync(fd_.get()) != 0) {
    if (errno != EINTR) return errno;
  }
  return 0;
}

int LockedFile::truncate(std::uint64_t size) {
  if (is_stream_) return ESPIPE;
  while (::ftruncate(fd_.get(), static_cast<off_t>(size)) != 0) {
    if (errno != EINTR) return errno;
  }
  return 0;
}

std::uint64_t LockedFile::size() const {
  return is_stream_ ? 0 : static_cast<std::uint64_t>(status_of(fd_, path_).st_size);
}

std::unique_ptr<LockedFile> open_output(const OutputTarget& target) {
  const std::string& path = target.path;
  refuse_missing_inputs(target.inputs);  // before anything is created
  if (path == "-") {
    UniqueFd fd(::fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 3));
    if (!fd) fail("<stdout>", "open", errno);
    refuse_input_as_output(status_of(fd, "<stdout>"), "<stdout>", target.inputs);
    return std::make_unique<LockedFile>("<stdout>", std::move(fd), true);
  }
  refuse_input_at(manifest_path(path), target.inputs);
  refuse_input_at(torn_path(path), target.inputs);

  UniqueFd fd(::open(path.c_str(), O_WRONLY | O_APPEND | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW,
                     kPrivate));
  const bool created = static_cast<bool>(fd);
  if (!created && errno != EEXIST) fail(path, "create", errno);
  if (!created) {
    fd = open_existing(target);
    const struct stat status = status_of(fd, path);
    refuse_input_as_output(status, path, target.inputs);
    if (!S_ISREG(status.st_mode)) return std::make_unique<LockedFile>(path, std::move(fd), true);
    if (target.existing == ExistingOutput::kRefuse && status.st_size > 0) {
      throw Error(
          ErrorKind::kUsage,
          fmt::format("{}: exists; continue it by --resume or replace it by --overwrite", path));
    }
  }
  lock_output(fd, target);
  if (created) sync_directory_of(path);
  return std::make_unique<LockedFile>(path, std::move(fd), false);
}

UniqueFd create_private_file(const std::string& path) {
  UniqueFd fd(::open(path.c_str(), O_WRONLY | O_APPEND | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW,
                     kPrivate));
  if (!fd) fail(path, "create", errno);
  return fd;
}

bool lock_file(const UniqueFd& fd) {
  while (::flock(fd.get(), LOCK_EX | LOCK_NB) != 0) {
    if (errno != EINTR) return errno != EWOULDBLOCK;
  }
  return true;
}

void write_all(const UniqueFd& fd, std::string_view bytes, const std::string& path) {
  while (!bytes.empty()) {
    const ssize_t count = ::write(fd.get(), bytes.data(), bytes.size());
    if (count < 0 && errno != EINTR) fail(path, "write", errno);
    if (count > 0) bytes.remove_prefix(static_cast<std::size_t>(count));
  }
}

void replace_file(const UniqueFd& fd, const std::string& from, const std::string& to) {
  if (::fsync(fd.get()) != 0) fail(from, "sync", errno);
  if (::rename(from.c_str(), to.c_str()) != 0) fail(to, "replace", errno);
  sync_directory_of(to);
}

void sync_directory_of(const std::string& path) {
  std::filesystem::path folder = std::filesystem::path(path).parent_path();
  if (folder.empty()) folder = ".";
  const UniqueFd fd(::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (fd) ::fsync(fd.get());
}

std::optional<std::string> free_space_warning(const std::string& path,
                                              std::uint64_t expected_bytes) {
  struct statvfs status {};
  if (path == "-" || ::statvfs(path.c_str(), &status) != 0) return std::nullopt;
  const std::uint64_t free_bytes = std::uint64_t{status.f_bavail} * status.f_frsize;
  if (free_bytes >= expected_bytes) return std::nullopt;
  constexpr std::uint64_t kMiB = 1U << 20;
  return fmt::format(
      "{}: its file system has {} MiB free, and the output may take {} MiB; if it fills up, the "
      "run "
      "stops with what is written kept, and --resume continues it",
      path, free_bytes / kMiB, expected_bytes / kMiB);
}

}  // namespace llmrun
