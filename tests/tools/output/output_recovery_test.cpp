#include "tools/output/output_recovery.h"

#include <chrono>
#include <csignal>
#include <filesystem>
#include <memory>
#include <random>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include <doctest/doctest.h>
#include <fmt/format.h>
#include <sys/wait.h>
#include <unistd.h>

#include "engine/core/error.h"
#include "tests/tools/input/text_files.h"
#include "tools/output/output_record.h"
#include "tools/output/output_writer.h"

namespace llmrun {
namespace {

using namespace std::string_literals;  // NOLINT

constexpr const char* kFingerprint = "model";

InputItem make_item(std::int64_t index, Envelope envelope = Envelope::kNone) {
  InputItem item;
  item.index = index;
  item.line = index + 1;
  item.id = index % 2 == 0 ? fmt::format("row-{}", index) : std::to_string(index);
  item.has_id = true;
  item.id_is_integer = index % 2 == 1 && envelope == Envelope::kNone;
  item.prompt = fmt::format("prompt {}", index);
  item.content_hash = content_hash(item.prompt);
  item.envelope = envelope;
  return item;
}

// A record of the row, different for every row; an error record for rows 3, 13, 23, ...
std::string make_record(const InputItem& item) {
  const RecordFormatter formatter({.input_name = "in.jsonl", .fingerprint = kFingerprint});
  if (item.index % 10 == 3) return formatter.format_error(item, {"too_long", "no"}) + "\n";
  RequestOutput output;
  output.outputs.resize(1);
  output.outputs[0].text = fmt::format("answer {} \xE2\x82\xAC\n", item.index);
  return formatter.format(item, output) + "\n";
}

std::string make_records(std::int64_t begin, std::int64_t end,
                         Envelope envelope = Envelope::kNone) {
  std::string text;
  for (std::int64_t i = begin; i < end; ++i) text += make_record(make_item(i, envelope));
  return text;
}

std::unique_ptr<LockedFile> open_existing(const std::string& path) {
  return open_output({.path = path, .existing = ExistingOutput::kResume});
}

RecoveredOutput recover(const std::string& path, const RecoverOptions& options = {}) {
  return recover_output(*open_existing(path), options);
}

std::string recover_error(const std::string& path) {
  try {
    recover(path);
    return "";
  } catch (const Error& error) {
    CHECK(error.kind() == ErrorKind::kInput);
    return error.what();
  }
}

bool is_claimed(RecoveredOutput& recovered, const InputItem& item) {
  return recovered.finished.claim(item, input_hash(item, kFingerprint));
}

TEST_CASE("records are found again, plain and in envelopes") {
  const TemporaryFolder folder;
  const std::string path = folder / "out.jsonl";
  for (const Envelope envelope :
       {Envelope::kNone, Envelope::kCompletions, Envelope::kChatCompletions}) {
    write_text(path, make_records(0, 10, envelope));
    RecoveredOutput recovered = recover(path);
    CHECK(recovered.finished.size() == 10);
    CHECK(recovered.finished.num_failed() == 1);
    CHECK(recovered.num_torn_bytes == 0);
    CHECK_THROWS_AS(recovered.finished.check_all_claimed(), Error);
    for (std::int64_t i = 0; i < 10; ++i) CHECK(is_claimed(recovered, make_item(i, envelope)));
    recovered.finished.check_all_claimed();
    CHECK(!is_claimed(recovered, make_item(10, envelope)));
    CHECK(!std::filesystem::exists(torn_path(path)));
  }
}

TEST_CASE("rows without an id are found by their index") {
  const TemporaryFolder folder;
  const std::string path = folder / "out.jsonl";
  for (const Envelope envelope : {Envelope::kNone, Envelope::kChatCompletions}) {
    InputItem item = make_item(3, envelope);
    item.has_id = false;
    write_text(path, make_record(item));
    RecoveredOutput recovered = recover(path);
    CHECK(is_claimed(recovered, item));
    InputItem named = make_item(3, envelope);
    named.id = std::string("3");  // another row's id
    CHECK(!is_claimed(recovered, named));
  }
}

TEST_CASE("an empty or new output is ready") {
  const TemporaryFolder folder;
  CHECK(recover(folder / "new").finished.size() == 0);
  write_text(folder / "empty", "");
  CHECK(recover(folder / "empty").finished.size() == 0);
}

TEST_CASE("a torn record is cut off at every byte, and kept aside") {
  const TemporaryFolder folder;
  const std::string path = folder / "out.jsonl";
  for (const Envelope envelope : {Envelope::kNone, Envelope::kChatCompletions}) {
    const std::string whole = make_records(0, 2, envelope);
    const std::string last = make_record(make_item(2, envelope));
    for (std::size_t length = 0; length <= last.size(); ++length) {
      CAPTURE(length);
      std::filesystem::remove(torn_path(path));
      write_text(path, whole + last.substr(0, length));
      const bool is_whole = length == last.size();
      const RecoveredOutput recovered = recover(path);
      CHECK(recovered.finished.size() == (is_whole ? 3 : 2));
      CHECK(recovered.num_torn_bytes == (is_whole ? 0 : length));
      CHECK(read_text_file(path) == whole + (is_whole ? last : ""));
      CHECK(read_text_file(torn_path(path)) == (is_whole ? "" : last.substr(0, length)));
      CHECK(recover(path).num_torn_bytes == 0);  // a second time there is nothing to do
    }
  }
}

TEST_CASE("what a power loss can leave at the end is cut off") {
  const TemporaryFolder folder;
  const std::string path = folder / "out.jsonl";
  const std::string whole = make_records(0, 2);
  const std::string last = make_record(make_item(2));
  for (const std::string& tail :
       {std::string(100, '\0'), last.substr(0, 20) + std::string(50, '\0'),
        last.substr(0, 20) + "\n", "\xff\xfe\n"s, "\n"s, std::string(10, '\0') + "\n"}) {
    write_text(path, whole + tail);
    CHECK(recover(path).num_torn_bytes == tail.size());
    CHECK(read_text_file(path) == whole);
  }
}

TEST_CASE("anything else that is not a record stops, and nothing is changed") {
  const TemporaryFolder folder;
  const std::string path = folder / "out.jsonl";
  const std::string first = make_record(make_item(0));
  const std::string second = make_record(make_item(1));
  const std::string other = make_record(make_item(2));
  std::string changed = make_record(make_item(0));
  changed.replace(changed.find("answer"), 6, "Answer");
  struct Bad {
    std::string middle;
    const char* message;
  };
  const std::vector<Bad> cases = {
      {"garbage\n", "not a record of llmrun"},
      {first.substr(0, 30) + "\n", "not a record"},
      {first.substr(0, 30), "not a record"},  // and the next record behind it, on one line
      {"\n", "not a record"},
      {"{}\n", "no id and input_hash"},
      {"{\"id\": \"x\", \"index\": 1, \"outputs\": []}\n", "no id and input_hash"},
      {"[1]\n", "no id and input_hash"},
      {changed, "different record"},
  };
  for (const Bad& bad : cases) {
    CAPTURE(bad.middle);
    const std::string text = first + bad.middle + second + other;
    write_text(path, text);
    const std::string error = recover_error(path);
    CHECK(error.find(fmt::format("{}:2: (byte {})", path, first.size())) == 0);
    CHECK(error.find(bad.message) != std::string::npos);
    CHECK(read_text_file(path) == text);
    CHECK(!std::filesystem::exists(torn_path(path)));
  }
  // Not even as the last line, when it is whole JSON: it is somebody else's.
  write_text(path, first + "{\"prompt\": \"x\"}");
  CHECK(recover_error(path).find("no id and input_hash") != std::string::npos);
  write_text(path, "{\"prompt\": \"x\"}\n");
  CHECK(recover_error(path).find(":1: (byte 0)") != std::string::npos);
}

TEST_CASE("a record that is there twice counts once") {
  const TemporaryFolder folder;
  const std::string path = folder / "out.jsonl";
  write_text(path, make_records(0, 3) + make_records(1, 2));
  const RecoveredOutput recovered = recover(path);
  CHECK(recovered.finished.size() == 3);
  CHECK(recovered.num_duplicates == 1);
}

TEST_CASE("records of another input are refused, or accepted and counted") {
  const TemporaryFolder folder;
  const std::string path = folder / "out.jsonl";
  write_text(path, make_records(0, 3));
  InputItem edited = make_item(1);
  edited.content_hash = content_hash("another prompt");
  RecoveredOutput recovered = recover(path);
  CHECK_THROWS_AS(is_claimed(recovered, edited), Error);
  recovered = recover(path, {.accept_other_inputs = true});
  CHECK(is_claimed(recovered, edited));
  CHECK(recovered.finished.num_from_other_inputs() == 1);
  recovered.finished.check_all_claimed();
}

TEST_CASE("error records are removed to be retried, by replacing the file") {
  const TemporaryFolder folder;
  const std::string path = folder / "out.jsonl";
  std::string kept;
  for (std::int64_t i = 0; i < 30; ++i) {
    if (i % 10 != 3) kept += make_record(make_item(i));
  }
  write_text(path, make_records(0, 30) + "torn");
  write_text(path + ".tmp", "left by a run that was killed");
  auto file = open_existing(path);
  RecoveredOutput recovered = recover_output(*file, {.retry_errors = true});
  CHECK(recovered.num_removed == 3);
  CHECK(recovered.finished.size() == 27);
  CHECK(recovered.finished.num_failed() == 0);
  CHECK(!is_claimed(recovered, make_item(13)));
  CHECK(read_text_file(path) == kept);
  CHECK(!std::filesystem::exists(path + ".tmp"));
  // The lock and the writes go to the new file.
  CHECK_THROWS_AS(open_existing(path), Error);
  CHECK(file->write("x") == 1);
  CHECK(read_text_file(path) == kept + "x");
}

TEST_CASE("an output is sorted by row") {
  const TemporaryFolder folder;
  const std::string path = folder / "out.jsonl";
  for (const Envelope envelope : {Envelope::kNone, Envelope::kCompletions}) {
    write_text(path, make_records(5, 8, envelope) + make_records(0, 5, envelope) +
                         make_records(8, 9, envelope));
    CHECK(sort_output(path));
    CHECK(read_text_file(path) == make_records(0, 9, envelope));
    CHECK(!sort_output(path));
  }
}

// One run over `num_rows` rows, as `generate --resume` makes it.
void run_job(const std::string& path, std::int64_t num_rows, bool slowly) {
  auto file = open_existing(path);
  RecoveredOutput recovered = recover_output(*file, {});
  OutputWriter writer(std::move(file), {.durability = Durability::kNone});
  for (std::int64_t i = 0; i < num_rows; ++i) {
    const InputItem item = make_item(i);
    if (is_claimed(recovered, item)) continue;
    std::string record = make_record(item);
    record.pop_back();
    writer.write(i, std::move(record));
    if (slowly) ::usleep(50);
  }
  recovered.finished.check_all_claimed();
  writer.close();
}

TEST_CASE("a job that is killed at any time, again and again, ends with every row once") {
  const TemporaryFolder folder;
  std::mt19937 random(7);
  constexpr std::int64_t kNumRows = 300;
  for (int job = 0; job < 6; ++job) {
    const std::string path = folder / fmt::format("out{}.jsonl", job);
    int num_runs = 0;
    unsigned max_delay_us = 8000;
    for (bool done = false; !done; ++num_runs) {
      const pid_t child = ::fork();
      REQUIRE(child >= 0);
      if (child == 0) {
        try {
          run_job(path, kNumRows, true);
        } catch (const std::exception&) {
          ::_exit(1);
        }
        ::_exit(0);
      }
      ::usleep(500 + static_cast<unsigned>(random()) % max_delay_us);
      // Later and later, so that it ends on a busy machine too.
      max_delay_us += max_delay_us / 10;
      ::kill(child, SIGKILL);
      int status = 0;
      REQUIRE(::waitpid(child, &status, 0) == child);
      done = WIFEXITED(status);
      if (done) CHECK(WEXITSTATUS(status) == 0);
    }
    CAPTURE(num_runs);
    CHECK(read_text_file(path) == make_records(0, kNumRows));
  }
}

TEST_CASE("every prefix of an output leads to the same result") {
  const TemporaryFolder folder;
  const std::string path = folder / "out.jsonl";
  const std::string expected = make_records(0, 6);
  for (std::size_t length = 0; length <= expected.size(); ++length) {
    write_text(path, expected.substr(0, length));
    run_job(path, 6, false);
    CHECK(read_text_file(path) == expected);
  }
}

}  // namespace
}  // namespace llmrun
