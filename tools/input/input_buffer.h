// The bytes of an input, in bounded memory: a source that is read in pieces, and a window on it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include <sys/stat.h>

namespace llmrun {

// What some editors put before UTF-8 text.
inline constexpr std::string_view kByteOrderMark = "\xEF\xBB\xBF";

class ByteSource {
 public:
  virtual ~ByteSource() = default;
  // Fills the beginning of `out`; the number of bytes, 0 at the end. Throws Error(kInput).
  virtual std::size_t read(std::span<char> out) = 0;
  // Whether read would return at once.
  virtual bool ready() const { return true; }
};

// Thrown when a read was interrupted because the run is to stop; the bytes so far are no whole
// input.
struct InputInterrupted {};

// A file, a pipe, or standard input when the path is "-".
class FileSource : public ByteSource {
 public:
  // A read that a signal interrupts asks `stopped`; when it says true, InputInterrupted is thrown.
  // Throws Error(kInput) when the file cannot be opened or is a directory.
  explicit FileSource(const std::string& path, std::function<bool()> stopped = {});
  ~FileSource() override;
  FileSource(const FileSource&) = delete;
  FileSource& operator=(const FileSource&) = delete;

  std::size_t read(std::span<char> out) override;
  bool ready() const override;

  // Bytes of a regular file when it was opened; nothing for pipes and devices.
  std::optional<std::uint64_t> size() const;
  // Throws Error(kInput) when the file was changed since it was opened. Pipes are not checked.
  void check_unchanged() const;

 private:
  std::string name_;  // for messages
  int fd_ = -1;
  bool owned_ = false;
  struct stat status_ {};
  std::function<bool()> stopped_;
};

// A window of unread bytes that slides over a source.
class InputBuffer {
 public:
  explicit InputBuffer(std::unique_ptr<ByteSource> source, std::size_t chunk_bytes = 1U << 18);

  // Unread bytes in memory. The view is valid until fill or consume.
  std::string_view data() const { return std::string_view(bytes_).substr(begin_, end_ - begin_); }
  // Reads more bytes behind data(); false when the source has ended.
  bool fill();
  // Whether fill would return at once.
  bool ready() const { return source_->ready(); }
  // REQUIRES: count <= data().size().
  void consume(std::size_t count);
  // Consumes the byte order mark that the data begin with, if they do.
  void skip_byte_order_mark();
  // Offset in the source of data()'s first byte.
  std::uint64_t offset() const { return offset_; }

 private:
  std::unique_ptr<ByteSource> source_;
  std::size_t chunk_bytes_;
  std::string bytes_;
  std::size_t begin_ = 0;
  std::size_t end_ = 0;
  std::uint64_t offset_ = 0;
};

}  // namespace llmrun
