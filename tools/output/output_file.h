// Where records go: a file that only this process appends to, or a stream such as standard output.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "tools/output/unique_fd.h"

namespace llmrun {

// What OutputWriter asks of an output. Failures are errno values: what is done about them depends
// on which one it is.
class OutputFile {
 public:
  virtual ~OutputFile() = default;
  // Appends some of the bytes. Returns how many, or the error as a negative number.
  virtual std::int64_t write(std::string_view bytes) = 0;
  // Makes what was written survive a power loss. Returns 0 or the error.
  virtual int sync() = 0;
  // Cuts the file to `size` bytes. Returns 0 or the error.
  virtual int truncate(std::uint64_t size) = 0;
  // A stream cannot be cut, synced or resumed.
  virtual bool is_stream() const = 0;
  virtual std::uint64_t size() const = 0;  // 0 for a stream
  virtual const std::string& name() const = 0;
};

// An empty file counts as none.
enum class ExistingOutput : std::uint8_t {
  kRefuse,
  kOverwrite,  // kept until start_run cuts it
  kResume,     // kept; created when there is none
};

struct OutputTarget {
  std::string path;  // "-": standard output
  ExistingOutput existing = ExistingOutput::kRefuse;
  std::vector<std::string> inputs{};  // "-": standard input
};

// A file opened for appending, locked against other processes (flock), never through a symbolic
// link. A new one is readable by its owner only.
class LockedFile final : public OutputFile {
 public:
  LockedFile(std::string path, UniqueFd fd, bool is_stream);
  // Removes the file when it is still empty: a run that never began leaves nothing behind.
  ~LockedFile() override;

  std::int64_t write(std::string_view bytes) override;
  int sync() override;
  int truncate(std::uint64_t size) override;
  bool is_stream() const override { return is_stream_; }
  std::uint64_t size() const override;
  const std::string& name() const override { return path_; }

  // Goes on with the file that has taken the place of the old one at the same path. REQUIRES: it is
  // locked.
  void continue_with(UniqueFd fd) { fd_ = std::move(fd); }

 private:
  std::string path_;
  UniqueFd fd_;
  bool is_stream_;
};

// Throws Error(kUsage) when the file exists and may not be touched, or is one of the inputs;
// Error(kInput) when another process has locked it, or an input cannot be read; Error(kOutput) when
// it cannot be written.
std::unique_ptr<LockedFile> open_output(const OutputTarget& target);

// Creates a file that must not exist, for its owner only. Throws Error(kOutput).
UniqueFd create_private_file(const std::string& path);
// Whether the lock was free and is now held until the descriptor is closed. File systems without
// locks count as free.
[[nodiscard]] bool lock_file(const UniqueFd& fd);
// Writes all of it. Throws Error(kOutput) that names `path`.
void write_all(const UniqueFd& fd, std::string_view bytes, const std::string& path);
// Puts a complete file in the place of another: after a crash there is the old or the new one.
// Throws Error(kOutput).
void replace_file(const UniqueFd& fd, const std::string& from, const std::string& to);
// Makes a created or renamed name survive a power loss, as far as the file system can.
void sync_directory_of(const std::string& path);

// A sentence for stderr when the file system of `path` has less room than `expected_bytes`.
std::optional<std::string> free_space_warning(const std::string& path,
                                              std::uint64_t expected_bytes);

// Files beside the output.
std::string manifest_path(const std::string& output);
std::string torn_path(const std::string& output);

}  // namespace llmrun
