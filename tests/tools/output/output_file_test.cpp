#include "tools/output/output_file.h"

#include <cerrno>
#include <filesystem>
#include <optional>
#include <string>

#include <doctest/doctest.h>
#include <sys/stat.h>

#include "engine/core/error.h"
#include "tests/tools/input/text_files.h"

namespace llmrun {
namespace {

// The kind of error that opening ends with; nothing when it succeeds.
std::optional<ErrorKind> open_error(const OutputTarget& target, const char* message = "") {
  try {
    open_output(target);
    return std::nullopt;
  } catch (const Error& error) {
    CAPTURE(error.what());
    CHECK(std::string(error.what()).find(message) != std::string::npos);
    return error.kind();
  }
}

TEST_CASE("a new file is created for its owner only") {
  const TemporaryFolder folder;
  const std::string path = folder / "out.jsonl";
  ::umask(022);
  const auto file = open_output({.path = path});
  CHECK(file->size() == 0);
  CHECK(!file->is_stream());
  struct stat status {};
  REQUIRE(::stat(path.c_str(), &status) == 0);
  CHECK((status.st_mode & 0777) == 0600);
}

TEST_CASE("an existing file is only touched when the user says so") {
  const TemporaryFolder folder;
  const std::string path = folder / "out.jsonl";
  write_text(path, "precious\n");
  CHECK(open_error({.path = path}, "--resume") == ErrorKind::kUsage);
  CHECK(read_text_file(path) == "precious\n");

  auto file = open_output({.path = path, .existing = ExistingOutput::kResume});
  CHECK(file->size() == 9);
  CHECK(file->write("more\n") == 5);
  CHECK(file->truncate(7) == 0);
  CHECK(file->write("!") == 1);  // behind the cut
  CHECK(file->sync() == 0);
  CHECK(read_text_file(path) == "preciou!");
  file.reset();

  file = open_output({.path = path, .existing = ExistingOutput::kOverwrite});
  CHECK(file->size() == 8);  // not yet: the run may fail before it begins
}

TEST_CASE("a file that got nothing is removed, and an empty one is as good as none") {
  const TemporaryFolder folder;
  const std::string path = folder / "out.jsonl";
  open_output({.path = path});
  CHECK(!std::filesystem::exists(path));
  write_text(path, "");
  CHECK(open_output({.path = path})->write("x") == 1);
  CHECK(read_text_file(path) == "x");
  // One that has taken its place meanwhile is not touched.
  auto file = open_output({.path = folder / "other"});
  std::filesystem::remove(folder / "other");
  write_text(folder / "other", "");
  file.reset();
  CHECK(std::filesystem::exists(folder / "other"));
}

TEST_CASE("a missing input is told before anything is created") {
  const TemporaryFolder folder;
  CHECK(open_error({.path = folder / "out", .inputs = {folder / "missing"}}, "No such file") ==
        ErrorKind::kInput);
  CHECK(open_error({.path = "-", .inputs = {folder / "missing"}}) == ErrorKind::kInput);
  CHECK(!std::filesystem::exists(folder / "out"));
}

TEST_CASE("an input is never written") {
  const TemporaryFolder folder;
  const std::string input = folder / "in.jsonl";
  write_text(input, "prompt\n");
  const std::string linked = folder / "hard.jsonl";
  std::filesystem::create_hard_link(input, linked);
  for (const std::string& path : {input, linked}) {
    CHECK(open_error({.path = path, .existing = ExistingOutput::kOverwrite, .inputs = {input}},
                     "is the input") == ErrorKind::kUsage);
  }
  std::filesystem::create_symlink(input, folder / "out.manifest");
  CHECK(!open_error(
      {.path = folder / "out", .inputs = {input}}));  // a link is replaced, not followed
  std::filesystem::create_hard_link(input, folder / "b.manifest");
  CHECK(open_error({.path = folder / "b", .inputs = {input}}, "is the input") == ErrorKind::kUsage);
  CHECK(read_text_file(input) == "prompt\n");
}

TEST_CASE("links are not followed, folders and missing folders are told") {
  const TemporaryFolder folder;
  const std::string link = folder / "link";
  std::filesystem::create_symlink(folder / "elsewhere", link);
  for (const auto existing :
       {ExistingOutput::kRefuse, ExistingOutput::kOverwrite, ExistingOutput::kResume}) {
    CHECK(open_error({.path = link, .existing = existing}, "symbolic link") == ErrorKind::kUsage);
  }
  CHECK(!std::filesystem::exists(folder / "elsewhere"));
  CHECK(open_error({.path = folder / "missing/out"}, "No such file") == ErrorKind::kOutput);
  CHECK(open_error({.path = folder / "", .existing = ExistingOutput::kOverwrite}) ==
        ErrorKind::kOutput);
}

TEST_CASE("two runs cannot write one file") {
  const TemporaryFolder folder;
  const std::string path = folder / "out.jsonl";
  auto file = open_output({.path = path});
  CHECK(open_error({.path = path, .existing = ExistingOutput::kResume}, "another process") ==
        ErrorKind::kInput);
  file->write("x");
  // The second must not have emptied it either.
  CHECK(open_error({.path = path, .existing = ExistingOutput::kOverwrite}, "another process") ==
        ErrorKind::kInput);
  CHECK(read_text_file(path) == "x");
  file.reset();
  CHECK(!open_error({.path = path, .existing = ExistingOutput::kResume}));
}

TEST_CASE("devices and standard output are streams") {
  const auto null = open_output({.path = "/dev/null", .inputs = {"/dev/null"}});
  CHECK(null->is_stream());
  CHECK(null->write("abc") == 3);
  CHECK(null->sync() == 0);
  CHECK(null->truncate(0) != 0);
  CHECK(open_output({.path = "-"})->is_stream());
  const auto full = open_output({.path = "/dev/full"});
  CHECK(full->write("abc") == -ENOSPC);
}

TEST_CASE("a file is replaced as a whole") {
  const TemporaryFolder folder;
  const std::string from = folder / "a.tmp";
  const std::string to = folder / "a";
  write_text(to, "old");
  const UniqueFd fd = create_private_file(from);
  CHECK_THROWS_AS(create_private_file(from), Error);
  write_all(fd, "new", from);
  replace_file(fd, from, to);
  CHECK(read_text_file(to) == "new");
  CHECK(!std::filesystem::exists(from));
}

TEST_CASE("too little space is told") {
  const TemporaryFolder folder;
  CHECK(!free_space_warning(folder / "", 1));
  CHECK(free_space_warning(folder / "", UINT64_MAX));
  CHECK(!free_space_warning("-", UINT64_MAX));
}

}  // namespace
}  // namespace llmrun
