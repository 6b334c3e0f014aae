#include "engine/core/file.h"

#include <filesystem>
#include <string>

#include <doctest/doctest.h>
#include <sys/stat.h>

#include "tests/support/temporary_folder.h"

namespace llmrun {
namespace {

using testing::TemporaryFolder;

TEST_CASE("a file is read byte for byte") {
  const TemporaryFolder folder;
  const std::string bytes("a\0\xFF\r\n", 5);
  folder.write("bytes", bytes);
  CHECK(read_file(folder.path() / "bytes", 5, ErrorKind::kInput) == bytes);
  folder.write("empty", "");
  CHECK(read_file(folder.path() / "empty", 0, ErrorKind::kInput).empty());
}

TEST_CASE("what cannot be read is an error of the caller's kind that names the path") {
  const TemporaryFolder folder;
  folder.write("six", "123456");
  CHECK(::mkfifo((folder.path() / "fifo").c_str(), 0600) == 0);
  const auto message = [&](const char* name) {
    try {
      read_file(folder.path() / name, 5, ErrorKind::kModel);
    } catch (const Error& error) {
      CHECK(error.kind() == ErrorKind::kModel);
      return std::string(error.what());
    }
    return std::string("no error");
  };
  CHECK(message("six") ==
        (folder.path() / "six").string() + ": 6 bytes, but at most 5 are read from such a file");
  CHECK(message("missing") ==
        (folder.path() / "missing").string() + ": cannot open: No such file or directory");
  CHECK(message("fifo") == (folder.path() / "fifo").string() + ": not a regular file");
  CHECK(message(".") == (folder.path() / ".").string() + ": not a regular file");
}

TEST_CASE("a file that need not exist") {
  const TemporaryFolder folder;
  folder.write("here", "x");
  CHECK(read_file_if_exists(folder.path() / "here", 5, ErrorKind::kInput) == "x");
  CHECK_FALSE(read_file_if_exists(folder.path() / "missing", 5, ErrorKind::kInput).has_value());
}

}  // namespace
}  // namespace llmrun
