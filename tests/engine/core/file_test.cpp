#include "engine/core/file.h"

#include <filesystem>
#include <fstream>
#include <string>

#include <doctest/doctest.h>
#include <sys/stat.h>
#include <unistd.h>

namespace llmrun {
namespace {

class TemporaryFolder {
 public:
  TemporaryFolder()
      : path_(std::filesystem::temp_directory_path() / ("file_test_" + std::to_string(getpid()))) {
    std::filesystem::create_directory(path_);
  }
  ~TemporaryFolder() { std::filesystem::remove_all(path_); }
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;
  std::filesystem::path operator/(const char* name) const { return path_ / name; }

 private:
  std::filesystem::path path_;
};

void write(const std::filesystem::path& path, const std::string& text) {
  std::ofstream(path, std::ios::binary) << text;
}

TEST_CASE("a file is read byte for byte") {
  const TemporaryFolder folder;
  const std::string bytes("a\0\xFF\r\n", 5);
  write(folder / "bytes", bytes);
  CHECK(read_file(folder / "bytes", 5, ErrorKind::kInput) == bytes);
  write(folder / "empty", "");
  CHECK(read_file(folder / "empty", 0, ErrorKind::kInput).empty());
}

TEST_CASE("what cannot be read is an error of the caller's kind that names the path") {
  const TemporaryFolder folder;
  write(folder / "six", "123456");
  CHECK(::mkfifo((folder / "fifo").c_str(), 0600) == 0);
  const auto message = [&](const char* name) {
    try {
      read_file(folder / name, 5, ErrorKind::kModel);
    } catch (const Error& error) {
      CHECK(error.kind() == ErrorKind::kModel);
      return std::string(error.what());
    }
    return std::string("no error");
  };
  CHECK(message("six") ==
        (folder / "six").string() + ": 6 bytes, but at most 5 are read from such a file");
  CHECK(message("missing") ==
        (folder / "missing").string() + ": cannot open: No such file or directory");
  CHECK(message("fifo") == (folder / "fifo").string() + ": not a regular file");
  CHECK(message(".") == (folder / ".").string() + ": not a regular file");
}

TEST_CASE("a file that need not exist") {
  const TemporaryFolder folder;
  write(folder / "here", "x");
  CHECK(read_file_if_exists(folder / "here", 5, ErrorKind::kInput) == "x");
  CHECK_FALSE(read_file_if_exists(folder / "missing", 5, ErrorKind::kInput).has_value());
}

}  // namespace
}  // namespace llmrun
