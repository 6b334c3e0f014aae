// Files, pipes, and what becomes of an input that changes or ends early.
#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <memory>
#include <span>
#include <string>
#include <utility>

#include <doctest/doctest.h>
#include <sys/stat.h>
#include <unistd.h>

#include "engine/core/error.h"
#include "tests/support/heap.h"
#include "tests/tools/input/read_rows.h"
#include "tests/tools/input/text_files.h"
#include "tools/input/request_reader.h"

namespace llmrun {
namespace {

using namespace std::string_literals;  // NOLINT

TEST_CASE("inputs that cannot be read") {
  const auto open = [](const std::string& path) {
    RequestReader reader(open_input(path), {});
    return read_all(reader).size();
  };
  CHECK_THROWS_WITH_AS(open("/nonexistent/prompts.jsonl"),
                       "/nonexistent/prompts.jsonl: cannot open: No such file or directory", Error);
  const std::string folder = std::filesystem::temp_directory_path();
  CHECK_THROWS_WITH_AS(open(folder), (folder + ": cannot read: Is a directory").c_str(), Error);
  CHECK_THROWS_WITH_AS(read_text(""), "prompts.jsonl: holds no prompts (read as jsonl)", Error);
  CHECK_THROWS_WITH_AS(read_text("\n \n\r\n", "-"), "-: holds no prompts (read as text)", Error);
  CHECK_THROWS_AS(read_text("\xff\xfeh\0i\0"s), Error);
  CHECK_THROWS_AS(read_text("\x1f\x8b\x08"), Error);
  // Also from a pipe that hands it over byte by byte, and in UTF-16 without a mark.
  CHECK_THROWS_AS(read_text("\x58\0\0\0\0\0\0\0{\"a\":{}}"s, "-", {}, 1), Error);
  CHECK_THROWS_AS(read_text("O\0n\0e\0\n\0t\0w\0o\0\n\0"s, "prompts.txt"), Error);
  try {
    open("/nonexistent");
  } catch (const Error& error) {
    CHECK(error.kind() == ErrorKind::kInput);
  }
}

TEST_CASE("files: size, estimate, changes while they are read") {
  const std::string line = "{\"prompt\": \"abc\"}\n";
  std::string text;
  for (int i = 0; i < 100; ++i) text += line;
  const TemporaryFolder folder;
  const std::string path = folder / "prompts.jsonl";
  write_text(path, text);
  RequestReader reader(open_input(path), {});
  REQUIRE(reader.next());
  REQUIRE(reader.next());
  REQUIRE(reader.estimated_rows());
  CHECK(*reader.estimated_rows() >= 100);
  CHECK(*reader.estimated_rows() <= 200);
  reader.check_unchanged();
  std::ofstream(path, std::ios::app) << line;
  CHECK_THROWS_AS(reader.check_unchanged(), Error);
  CHECK(read_all(reader).size() >= 98);
  CHECK(reader.at_end());
  CHECK(reader.estimated_rows() == reader.num_rows());
}

TEST_CASE("pipes can be read") {
  const TemporaryFolder folder;
  const std::string path = folder / "fifo";
  REQUIRE(::mkfifo(path.c_str(), 0600) == 0);
  // Opened for both ends first, so that nothing waits.
  std::FILE* writer = std::fopen(path.c_str(), "r+");
  REQUIRE(writer != nullptr);
  std::fputs("{\"prompt\": \"a\"}\n{\"prompt\": \"b\"}\n", writer);
  std::fflush(writer);
  {
    RequestReader reader(open_input(path), {});
    std::fclose(writer);
    CHECK(read_all(reader).size() == 2);
    CHECK(reader.estimated_rows() == 2);
    reader.check_unchanged();
  }
}

TEST_CASE("a reader knows whether the next row is there") {
  const TemporaryFolder folder;
  const std::string path = folder / "fifo";
  REQUIRE(::mkfifo(path.c_str(), 0600) == 0);
  std::FILE* writer = std::fopen(path.c_str(), "r+");
  REQUIRE(writer != nullptr);
  const auto put = [writer](const char* text) {
    std::fputs(text, writer);
    std::fflush(writer);
  };
  put("one\ntwo\n");
  RequestReader reader(open_input(path), {});
  CHECK(reader.ready());
  CHECK(reader.next()->prompt == "one");
  CHECK(reader.ready());
  CHECK(reader.next()->prompt == "two");
  CHECK(!reader.ready());
  put("three\n");
  CHECK(reader.ready());
  CHECK(reader.next()->prompt == "three");
  CHECK(!reader.ready());
  std::fclose(writer);
  CHECK(reader.ready());
  CHECK(!reader.next());
  CHECK(reader.ready());
}

// Hands out a text, then is interrupted.
class InterruptedSource : public ByteSource {
 public:
  explicit InterruptedSource(std::string text) : text_(std::move(text)) {}
  std::size_t read(std::span<char> out) override {
    if (text_.empty()) throw InputInterrupted();
    std::copy(text_.begin(), text_.end(), out.begin());
    return std::exchange(text_, "").size();
  }

 private:
  std::string text_;
};

TEST_CASE("an interrupted input ends with its last whole row, and says so") {
  for (const std::size_t num_rows : {0U, 1U, 3U}) {
    std::string text;
    for (std::size_t i = 0; i < num_rows; ++i) text += "{\"prompt\": \"a\"}\n";
    RequestReader reader(std::make_unique<InterruptedSource>(text + "{\"prom"), "-", {});
    CHECK(read_all(reader).size() == num_rows);
    CHECK(reader.interrupted());
    CHECK(!reader.at_end());
    CHECK(!reader.next());
  }
}

// Rows without end, each with an id of its own or, as plain text, without one.
class EndlessRows final : public ByteSource {
 public:
  explicit EndlessRows(bool has_ids) : has_ids_(has_ids) {}
  std::size_t read(std::span<char> out) override {
    if (row_.empty()) {
      row_ = has_ids_ ? fmt::format("{{\"id\": \"row {}\"}}\n", num_rows_)
                      : fmt::format("row {}\n", num_rows_);
      ++num_rows_;
    }
    const std::size_t count = std::min(out.size(), row_.size());
    std::copy_n(row_.begin(), count, out.begin());
    row_.erase(0, count);
    return count;
  }

 private:
  bool has_ids_;
  std::int64_t num_rows_ = 0;
  std::string row_;
};

TEST_CASE("a long input takes 12 bytes a row at most, and plain text none") {
  for (const bool has_ids : {true, false}) {
    CAPTURE(has_ids);
    RequestReader reader(std::make_unique<EndlessRows>(has_ids),
                         has_ids ? "rows.jsonl" : "rows.txt", {});
    for (int i = 0; i < 1000; ++i) REQUIRE(reader.next());
    const std::size_t before = testing::heap_bytes_in_use();
    constexpr std::size_t kNumRows = 120'000;
    for (std::size_t i = 0; i < kNumRows; ++i) REQUIRE(reader.next());
    const std::size_t after = testing::heap_bytes_in_use();
    CHECK(after <= before + (has_ids ? 12 * kNumRows : 0) + (1 << 16));
  }
}

}  // namespace
}  // namespace llmrun
