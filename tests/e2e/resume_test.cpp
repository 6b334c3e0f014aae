// Runs that are stopped or killed and resumed: no row is lost, none is answered twice, and every
// answer is that of an uninterrupted run. reliability.md F01, F03, F04, F05.
#include <algorithm>
#include <cstdlib>
#include <optional>
#include <random>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/e2e/generate_fixture.h"

namespace llmrun {
namespace {

using testing::by_id;
using testing::ChildProcess;
using testing::Flags;
using testing::generate_command;
using testing::kFloat32;
using testing::make_rows;
using testing::parse_lines;
using testing::read_all;
using testing::run_generate;
using testing::RunResult;
using testing::TemporaryFolder;

constexpr int kNumRows = 40;

// A job of a second or so: its input, its output, and what it answers when nothing disturbs it.
struct Job {
  explicit Job(const Flags& dtype_flags = kFloat32)
      : dtype(dtype_flags),
        input(folder.write("in.jsonl", make_rows(kNumRows, 20))),
        output(folder.path() / "out") {}

  std::vector<std::string> command(const std::vector<std::string>& more) const {
    std::vector<std::string> arguments = {input.string(), "-o", output.string()};
    // Small batches: rows end one by one all along the run.
    for (const char* argument : {"--max-num-seqs", "3", "--max-inflight", "5", "--threads"}) {
      arguments.push_back(argument);
    }
    arguments.push_back(num_threads);
    arguments.insert(arguments.end(), more.begin(), more.end());
    return generate_command(arguments, dtype);
  }
  ChildProcess start(const std::vector<std::string>& more) const {
    return {command(more), folder.path()};
  }
  std::string log() const { return read_all(folder.path() / "stderr"); }
  // Records that are complete.
  std::ptrdiff_t num_records() const {
    const std::string text = read_all(output);
    return std::count(text.begin(), text.end(), '\n');
  }
  // Waits until the child has written a record, or ended.
  void wait_for_records(const ChildProcess& child, std::ptrdiff_t count) const {
    while (num_records() < count && !child.has_ended()) pause(2);
  }
  // Runs it from the start until two records are there, sends the signals, and returns its exit
  // code. Again when the signals came too late.
  int interrupt(const std::vector<int>& signals, std::vector<std::string> more = {}) const {
    more.push_back("--overwrite");
    for (int attempt = 0;; ++attempt) {
      std::filesystem::remove(output);
      ChildProcess child = start(more);
      wait_for_records(child, 2);
      for (const int number : signals) child.signal(number);
      const int exit_code = child.wait();
      if (exit_code != 1 || attempt == 4) return exit_code;
    }
  }
  // Runs it from the start until two records are there, makes its main thread hang there, most
  // likely in a step, sends the signals and returns its exit code. Again when it hung elsewhere, or
  // holding a lock of the system's. Nothing: no thread can be stopped here.
  std::optional<int> hang(const std::vector<std::string>& more,
                          const std::vector<int>& signals) const {
    for (int attempt = 0; attempt < 5; ++attempt) {
      std::filesystem::remove(output);
      ChildProcess child = start(more);
      wait_for_records(child, 2);
      if (child.has_ended()) continue;
      if (!child.stop_main_thread()) return std::nullopt;
      for (const int number : signals) child.signal(number);
      for (int waited_ms = 0; waited_ms < 20'000 && !child.has_ended(); waited_ms += 5) pause(5);
      if (child.has_ended()) return child.wait();
    }
    return 0;
  }
  static void pause(int milliseconds) {
    std::this_thread::sleep_for(std::chrono::milliseconds(milliseconds));
  }

  Flags dtype;
  const char* num_threads = "1";
  TemporaryFolder folder;
  std::filesystem::path input;
  std::filesystem::path output;
};

const std::map<std::string, std::string>& expected_answers(const Flags& dtype = kFloat32) {
  static std::map<Flags, std::map<std::string, std::string>> answers;
  std::map<std::string, std::string>& found = answers[dtype];
  if (found.empty()) {
    const Job job(dtype);
    ChildProcess child = job.start({});
    REQUIRE(child.wait() == 1);  // some rows are refused
    found = by_id(read_all(job.output));
  }
  return found;
}

void finish_and_check(const Job& job, const std::vector<std::string>& more = {}) {
  std::vector<std::string> arguments = {"--resume"};
  arguments.insert(arguments.end(), more.begin(), more.end());
  ChildProcess child = job.start(arguments);
  const int exit_code = child.wait();
  CAPTURE(job.log());
  CHECK(exit_code == 1);
  CHECK(by_id(read_all(job.output)) == expected_answers(job.dtype));
}

void kill_and_resume(const Flags& dtype) {
  REQUIRE(expected_answers(dtype).size() == kNumRows);
  // LLMRUN_TEST_KILLS=1000: the full count, for a long evening.
  const char* wanted = std::getenv("LLMRUN_TEST_KILLS");
  const int num_wanted = wanted == nullptr ? 20 : std::atoi(wanted);
  std::mt19937 random(1);
  int num_kills = 0;
  int num_torn_runs = 0;
  for (int chain = 0; num_kills < num_wanted && chain < 3 + num_wanted; ++chain) {
    CAPTURE(chain);
    const Job job(dtype);
    // Later kills come later, so that a slow build gets on as well.
    for (int kill = 0; kill < 8; ++kill) {
      ChildProcess child =
          job.start(kill == 0 ? std::vector<std::string>{} : std::vector<std::string>{"--resume"});
      if (kill % 2 == 1) job.wait_for_records(child, job.num_records() + 1);
      Job::pause(static_cast<int>(random() % (20U + 25U * static_cast<unsigned>(kill))));
      const bool ended = child.has_ended();
      child.signal(SIGKILL);
      const int exit_code = child.wait();
      if (ended && exit_code != 137) {
        CHECK(exit_code == 1);
        break;
      }
      ++num_kills;
      const std::string text = read_all(job.output);
      if (!text.empty() && !text.ends_with('\n')) ++num_torn_runs;
    }
    finish_and_check(job);
    finish_and_check(job);  // nothing is left to do
  }
  MESSAGE(num_kills << " kills, " << num_torn_runs << " torn records");
  CHECK(num_kills >= (wanted == nullptr ? 8 : num_wanted));
}

TEST_CASE("kill -9 at any time, again and again, then resume") {
  for (const Flags& dtype : testing::exact_dtypes()) {
    CAPTURE(fmt::format("{}", fmt::join(dtype, " ")));
    kill_and_resume(dtype);
  }
}

TEST_CASE("every place at which the output can be cut") {
  const Job job;
  CHECK(job.start({"--order", "input"}).wait() == 1);
  const std::string whole = read_all(job.output);
  REQUIRE(!whole.empty());
  std::mt19937 random(2);
  for (int round = 0; round < 5; ++round) {
    std::size_t size = random() % whole.size();
    if (round == 0) size = 0;
    if (round == 1) size = whole.find('\n');
    if (round == 2) size = whole.find('\n') + 1;
    CAPTURE(size);
    std::filesystem::resize_file(job.output, size);
    finish_and_check(job);
  }
}

TEST_CASE("SIGTERM and SIGINT finish what is under way, say how to go on, and exit 143 and 130") {
  for (const auto& [number, code] : {std::pair{SIGTERM, 143}, std::pair{SIGINT, 130}}) {
    CAPTURE(number);
    const Job job;
    CHECK(job.interrupt({number}) == code);
    CHECK(job.log().find("--resume") != std::string::npos);
    const std::ptrdiff_t num_records = job.num_records();
    CHECK(num_records >= 2);
    CHECK(num_records < kNumRows);
    CHECK(read_all(job.output).ends_with('\n'));
    finish_and_check(job);
  }
}

TEST_CASE("a second signal ends the run at once, and so does the time to drain") {
  for (const bool second_signal : {true, false}) {
    const Job job;
    const int exit_code = second_signal ? job.interrupt({SIGINT, SIGTERM})
                                        : job.interrupt({SIGINT}, {"--drain-timeout", "0"});
    CHECK((exit_code == 130 || (second_signal && exit_code == 143)));
    CHECK(job.num_records() < kNumRows);
    finish_and_check(job);
  }
}

TEST_CASE("R11: a run whose step never ends says so, exits 6 and is gone on with") {
  const Job job;
  const auto exit_code = job.hang({"--stall-timeout", "1"}, {});
  if (!exit_code) {
    MESSAGE("skipped: no thread of a child can be stopped here");
    return;
  }
  CAPTURE(job.log());
  CHECK(*exit_code == 6);
  CHECK(job.log().find("has made no progress for 1 s (--stall-timeout 1)") != std::string::npos);
  CHECK(job.log().find("continue by: ") != std::string::npos);
  CHECK(job.num_records() >= 2);
  CHECK(job.num_records() < kNumRows);
  finish_and_check(job);
}

TEST_CASE("R14: two signals end a run whose step never ends, and it is gone on with") {
  Job job;
  job.num_threads = "2";  // the second takes the signals
  const auto exit_code = job.hang({}, {SIGTERM, SIGINT});
  if (!exit_code) {
    MESSAGE("skipped: no thread of a child can be stopped here");
    return;
  }
  CAPTURE(job.log());
  CHECK((*exit_code == 143 || *exit_code == 130));
  CHECK(job.log().find("did not end in time to stop") != std::string::npos);
  CHECK(job.num_records() >= 2);
  finish_and_check(job);
}

TEST_CASE("rows of a pipe are answered as they come, and a signal ends the wait for more") {
  const TemporaryFolder folder;
  const std::filesystem::path pipe = folder.path() / "pipe";
  REQUIRE(::mkfifo(pipe.c_str(), 0600) == 0);
  const int fd = ::open(pipe.c_str(), O_RDWR);  // never at its end
  ChildProcess child(generate_command({"-", "-q"}), folder.path(), pipe);
  for (std::ptrdiff_t i = 1; i <= 3; ++i) {
    const std::string row = R"({"prompt": "What is 2 + 3?", "max_tokens": 4})"
                            "\n";
    REQUIRE(::write(fd, row.data(), row.size()) == std::ssize(row));
    const auto num_records = [&] {
      const std::string text = child.standard_output();
      return std::count(text.begin(), text.end(), '\n');
    };
    while (num_records() < i && !child.has_ended()) Job::pause(2);
  }
  child.signal(SIGTERM);
  CHECK(child.wait() == 143);
  CHECK(parse_lines(child.standard_output()).size() == 3);
  ::close(fd);
}

TEST_CASE("a run that is something else is not resumed by mistake") {
  const Job job;
  CHECK(job.interrupt({SIGKILL}) == 137);
  const std::string before = read_all(job.output);
  CHECK(job.start({"--resume", "--seed", "5"}).wait() == 3);
  CHECK(job.log().find("seed") != std::string::npos);
  CHECK(job.start({"--resume", "--max-tokens", "3"}).wait() == 3);
  CHECK(job.start({}).wait() != 0);
  CHECK(read_all(job.output) == before);
  // What only decides how fast it goes may change.
  finish_and_check(job, {"--block-size", "8", "--steps-ahead", "1"});
}

TEST_CASE("--retry-errors runs the failed rows again, and keeps the others") {
  const Job job;
  CHECK(job.start({}).wait() == 1);
  CHECK(job.start({"--resume", "--retry-errors"}).wait() == 1);
  CHECK(by_id(read_all(job.output)) == expected_answers());
}

TEST_CASE("two runs never write one file") {
  const Job job;
  ChildProcess child = job.start({});
  job.wait_for_records(child, 1);
  const TemporaryFolder other;
  ChildProcess second(job.command({"--resume"}), other.path());
  const bool still_running = !child.has_ended();
  const int exit_code = second.wait();
  if (still_running && !child.has_ended()) CHECK(exit_code != 1);
  CHECK(child.wait() == 1);
  CHECK(by_id(read_all(job.output)) == expected_answers());
}

}  // namespace
}  // namespace llmrun
