// RandomAccessFile: a regular file that is read at offsets and noticed when it changes.
//
// Bytes are read with pread and never mapped: a file that is cut while it is in use is an error,
// not a SIGBUS. Every failure is Error(kModel) that names the file.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>

namespace llmrun {

class RandomAccessFile {
 public:
  // REQUIRES: path is no symbolic link (see model_file() in model_location.h).
  explicit RandomAccessFile(std::filesystem::path path);
  ~RandomAccessFile();
  RandomAccessFile(RandomAccessFile&& other) noexcept;
  RandomAccessFile& operator=(RandomAccessFile&&) = delete;
  RandomAccessFile(const RandomAccessFile&) = delete;
  RandomAccessFile& operator=(const RandomAccessFile&) = delete;

  const std::filesystem::path& path() const { return path_; }
  std::uint64_t num_bytes() const { return num_bytes_; }

  // Fills `out` with the bytes from `offset` on. Throws when they are not there. Of a large read
  // the kernel is asked for everything first: threads that read one file at several places defeat
  // its own read-ahead, and a disk is only fast with many requests at once.
  void read(std::uint64_t offset, std::span<std::byte> out) const;
  // The same, as text; the caller has checked `size` against a limit.
  std::string read_text(std::uint64_t offset, std::uint64_t size) const;

  // Throws when size or time of change is not what it was when the file was opened.
  void check_unchanged() const;

  // Throws Error(kModel): "<path>: <what>".
  [[noreturn]] void fail(const std::string& what) const;

 private:
  void read_ahead(std::uint64_t offset, std::uint64_t size) const;

  std::filesystem::path path_;
  int fd_ = -1;
  std::uint64_t num_bytes_ = 0;
  std::int64_t modified_ns_ = 0;
};

}  // namespace llmrun
