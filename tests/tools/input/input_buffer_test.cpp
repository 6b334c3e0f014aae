#include "tools/input/input_buffer.h"

#include <csignal>
#include <string>

#include <doctest/doctest.h>
#include <fcntl.h>
#include <sys/time.h>
#include <unistd.h>

#include "engine/core/error.h"
#include "tests/tools/input/text_files.h"
#include "tests/tools/input/text_source.h"

namespace llmrun {
namespace {

TEST_CASE("a window slides over all bytes, whatever the pieces") {
  std::string text;
  for (int i = 0; i < 3000; ++i) text += static_cast<char>(i % 251);
  for (const std::size_t piece : {1, 7, 64, 1000, 5000}) {
    for (const std::size_t step : {1, 10, 63, 64, 65, 500}) {
      InputBuffer input = make_input(text, piece);
      std::string found;
      bool more = true;
      while (more || !input.data().empty()) {
        while (more && input.data().size() < step) more = input.fill();
        const std::size_t count = std::min(step, input.data().size());
        CHECK(input.offset() == found.size());
        found += input.data().substr(0, count);
        input.consume(count);
      }
      CHECK(found == text);
    }
  }
  InputBuffer input = make_input("abc", 3);
  CHECK_THROWS_AS(input.consume(1), Error);
}

TEST_CASE("files and their size") {
  const TemporaryFolder folder;
  write_text(folder / "file", "12345");
  FileSource source(folder / "file");
  CHECK(source.size() == 5U);
  std::string bytes(10, 'x');
  CHECK(source.read(bytes) == 5);
  CHECK(source.read(bytes) == 0);
  source.check_unchanged();
  // Neither a new size nor new bytes of the same size pass.
  timespec times[2] = {{1, 0}, {1, 0}};
  ::utimensat(AT_FDCWD, (folder / "file").c_str(), times, 0);
  CHECK_THROWS_AS(source.check_unchanged(), Error);
  write_text(folder / "file", "1");
  CHECK_THROWS_AS(source.check_unchanged(), Error);
  CHECK(!FileSource("/dev/null").size());
}

TEST_CASE("a pipe is ready when something is in it, or its writer has gone") {
  const TemporaryFolder folder;
  const std::string path = folder / "fifo";
  REQUIRE(::mkfifo(path.c_str(), 0600) == 0);
  const int writer = ::open(path.c_str(), O_RDWR);
  FileSource source(path);
  CHECK(!source.ready());
  REQUIRE(::write(writer, "x", 1) == 1);
  CHECK(source.ready());
  std::string bytes(10, 'x');
  CHECK(source.read(bytes) == 1);
  CHECK(!source.ready());
  ::close(writer);
  CHECK(source.ready());
  CHECK(source.read(bytes) == 0);
  write_text(folder / "file", "");
  CHECK(FileSource(folder / "file").ready());
}

void on_alarm(int) {}

TEST_CASE("a read that waits gives up when the run is to stop") {
  const TemporaryFolder folder;
  const std::string path = folder / "fifo";
  REQUIRE(::mkfifo(path.c_str(), 0600) == 0);
  const int writer = ::open(path.c_str(), O_RDWR);
  int num_asked = 0;
  FileSource source(path, [&num_asked] { return ++num_asked == 2; });
  struct sigaction action {};
  struct sigaction before {};
  action.sa_handler = on_alarm;
  ::sigaction(SIGALRM, &action, &before);
  itimerval timer{{0, 20'000}, {0, 20'000}};  // again and again
  ::setitimer(ITIMER_REAL, &timer, nullptr);
  std::string bytes(10, 'x');
  CHECK_THROWS_AS(source.read(bytes), InputInterrupted);
  CHECK(num_asked == 2);
  timer = {};
  ::setitimer(ITIMER_REAL, &timer, nullptr);
  ::sigaction(SIGALRM, &before, nullptr);
  ::close(writer);
}

}  // namespace
}  // namespace llmrun
