#include "tools/output/output_writer.h"

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstdint>
#include <functional>
#include <limits>
#include <memory>
#include <mutex>
#include <new>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include <doctest/doctest.h>
#include <fmt/format.h>

#include "engine/core/error.h"
#include "tests/tools/input/text_files.h"

namespace llmrun {
namespace {

using namespace std::chrono_literals;  // NOLINT

constexpr std::uint64_t kNever = std::numeric_limits<std::uint64_t>::max();

// What a file on a faulty disk holds; shared with the test, since the writer owns the file.
struct Disk {
  std::mutex mutex;
  std::string bytes;
  std::vector<std::uint64_t> synced;  // sizes at each sync
  std::uint64_t capacity = kNever;
  std::uint64_t max_write = kNever;  // a write takes at most so many bytes
  int full_error = ENOSPC;
  std::int64_t failing_write = -1;  // the write that fails with EIO
  std::int64_t failing_sync = -1;
  bool is_stream = false;
  std::int64_t num_writes = 0;
  std::function<void()> on_write;  // may throw

  std::string content() {
    const std::lock_guard lock(mutex);
    return bytes;
  }
};

class FakeFile final : public OutputFile {
 public:
  explicit FakeFile(std::shared_ptr<Disk> disk) : disk_(std::move(disk)) {}
  std::int64_t write(std::string_view bytes) override {
    if (disk_->on_write) disk_->on_write();
    const std::lock_guard lock(disk_->mutex);
    if (disk_->num_writes++ == disk_->failing_write) return -EIO;
    const std::uint64_t room = disk_->capacity - disk_->bytes.size();
    const std::uint64_t count = std::min({bytes.size(), room, disk_->max_write});
    if (count == 0) return -disk_->full_error;
    disk_->bytes += bytes.substr(0, count);
    return static_cast<std::int64_t>(count);
  }
  int sync() override {
    const std::lock_guard lock(disk_->mutex);
    if (static_cast<std::int64_t>(disk_->synced.size()) == disk_->failing_sync) return EIO;
    disk_->synced.push_back(disk_->bytes.size());
    return 0;
  }
  int truncate(std::uint64_t size) override {
    const std::lock_guard lock(disk_->mutex);
    disk_->bytes.resize(size);
    return 0;
  }
  bool is_stream() const override { return disk_->is_stream; }
  std::uint64_t size() const override { return disk_->bytes.size(); }
  const std::string& name() const override { return name_; }

 private:
  std::shared_ptr<Disk> disk_;
  std::string name_ = "out.jsonl";
};

std::string record(std::int64_t i) {
  return fmt::format("{{\"id\": {}, \"text\": \"{}\"}}", i,
                     std::string(static_cast<std::size_t>(i % 50), 'x'));
}

// Hands in `count` records; why it failed, or "".
std::string write_records(OutputWriter& writer, std::int64_t count) {
  try {
    for (std::int64_t i = 0; i < count; ++i) writer.write(i, record(i));
    writer.close();
    return "";
  } catch (const Error& error) {
    CHECK(error.kind() == ErrorKind::kOutput);
    return error.what();
  }
}

std::string lines(std::int64_t begin, std::int64_t end) {
  std::string text;
  for (std::int64_t i = begin; i < end; ++i) text += record(i) + "\n";
  return text;
}

// Whole records from the first on.
void check_whole_records(const std::string& content) {
  std::int64_t count = 0;
  for (const char c : content) count += c == '\n' ? 1 : 0;
  CHECK(content == lines(0, count));
}

TEST_CASE("records are written in completion order and synced at the end") {
  auto disk = std::make_shared<Disk>();
  disk->bytes = "old\n";
  {
    OutputWriter writer(std::make_unique<FakeFile>(disk), {});
    writer.write(5, "five");
    CHECK(writer.may_admit(1'000'000));
    writer.skip(0);
    writer.write(2, "two");
    writer.close();
    CHECK(writer.stats().num_records == 2);
    CHECK(writer.stats().num_bytes == 9);
  }
  CHECK(disk->content() == "old\nfive\ntwo\n");
  REQUIRE(!disk->synced.empty());
  CHECK(disk->synced.back() == 13);
}

TEST_CASE("records are written in the order of the input, within the window") {
  auto disk = std::make_shared<Disk>();
  OutputWriter writer(std::make_unique<FakeFile>(disk),
                      {.order = OutputOrder::kInput, .reorder_window = 3});
  writer.write(2, record(2));
  CHECK(writer.may_admit(0));
  CHECK(!writer.may_admit(3));
  writer.write(1, record(1));
  writer.skip(0);
  CHECK(writer.may_admit(5));
  writer.write(4, record(4));  // row 3 never comes
  writer.close();
  CHECK(disk->content() == lines(1, 3) + lines(4, 5));
}

TEST_CASE("syncs come by records, by bytes, by time, for each record, or never") {
  const auto synced = [](OutputWriter::Options options, std::int64_t count) {
    auto disk = std::make_shared<Disk>();
    OutputWriter writer(std::make_unique<FakeFile>(disk), std::move(options));
    CHECK(write_records(writer, count) == "");
    CHECK(disk->content() == lines(0, count));
    return disk->synced.size();
  };
  CHECK(synced({.sync_interval = 1h, .sync_records = 10}, 100) == 10);
  CHECK(synced({.sync_interval = 1h}, 100) == 1);
  CHECK(synced({.sync_interval = 1h, .sync_bytes = 1}, 100) == 100);
  CHECK(synced({.durability = Durability::kEach, .sync_interval = 1h}, 100) == 100);
  CHECK(synced({.durability = Durability::kNone, .sync_interval = 0ms}, 100) == 0);

  // A record is synced after the interval though no other follows it.
  auto disk = std::make_shared<Disk>();
  OutputWriter writer(std::make_unique<FakeFile>(disk), {.sync_interval = 1ms});
  writer.write(0, "x");
  while (writer.stats().num_syncs == 0) std::this_thread::sleep_for(1ms);
  CHECK(disk->content() == "x\n");
}

TEST_CASE("a full disk leaves whole records, at every size") {
  const std::string all = lines(0, 20);
  for (std::uint64_t capacity = 0; capacity < all.size(); ++capacity) {
    for (const int error_number : {ENOSPC, EDQUOT, EFBIG}) {
      auto disk = std::make_shared<Disk>();
      disk->capacity = capacity;
      disk->full_error = error_number;
      OutputWriter writer(std::make_unique<FakeFile>(disk), {.resume_command = "again"});
      const std::string error = write_records(writer, 20);
      CHECK(error.find("out.jsonl: cannot write: ") == 0);
      CHECK(error.find("continue by: again") != std::string::npos);
      check_whole_records(disk->content());
      CHECK(all.substr(0, capacity).starts_with(disk->content()));
      // Every call after the failure says so.
      CHECK_THROWS_AS(writer.write(99, "x"), Error);
      CHECK_THROWS_AS(static_cast<void>(writer.may_admit(99)), Error);
    }
  }
}

TEST_CASE("an error in any write or sync stops the run with whole records") {
  for (std::int64_t n = 0; n < 60; ++n) {
    auto disk = std::make_shared<Disk>();
    disk->failing_write = n;
    disk->max_write = 7;
    OutputWriter writer(std::make_unique<FakeFile>(disk), {});
    CHECK(write_records(writer, 20).find("cannot write: Input/output error") != std::string::npos);
    check_whole_records(disk->content());
  }
  for (std::int64_t n = 0; n < 20; ++n) {
    auto disk = std::make_shared<Disk>();
    disk->failing_sync = n;
    OutputWriter writer(std::make_unique<FakeFile>(disk), {.durability = Durability::kEach});
    CHECK(write_records(writer, 20).find("cannot sync") != std::string::npos);
    CHECK(disk->content() == lines(0, n + 1));
    CHECK(disk->synced.size() == static_cast<std::size_t>(n));  // not tried again
  }
}

TEST_CASE("short writes are continued") {
  for (std::uint64_t size = 1; size < 40; ++size) {
    auto disk = std::make_shared<Disk>();
    disk->max_write = size;
    OutputWriter writer(std::make_unique<FakeFile>(disk), {});
    CHECK(write_records(writer, 50) == "");
    CHECK(disk->content() == lines(0, 50));
  }
}

TEST_CASE("a full disk can be waited for") {
  auto disk = std::make_shared<Disk>();
  disk->capacity = 30;
  OutputWriter writer(std::make_unique<FakeFile>(disk), {.disk_wait = 1min});
  for (std::int64_t i = 0; i < 5; ++i) writer.write(i, record(i));
  while (writer.stats().num_records == 0) std::this_thread::sleep_for(1ms);
  {
    const std::lock_guard lock(disk->mutex);
    disk->capacity = kNever;
  }
  writer.close();
  CHECK(disk->content() == lines(0, 5));
}

TEST_CASE("a reader that goes away is no error") {
  auto disk = std::make_shared<Disk>();
  disk->is_stream = true;
  disk->capacity = 100;
  disk->full_error = EPIPE;
  OutputWriter writer(std::make_unique<FakeFile>(disk), {});
  CHECK(write_records(writer, 100) == "");
  CHECK(writer.reader_gone());
  CHECK(disk->synced.empty());
}

TEST_CASE("a slow disk holds the caller back") {
  auto disk = std::make_shared<Disk>();
  std::mutex gate;
  gate.lock();
  disk->on_write = [&gate] { const std::lock_guard wait(gate); };
  OutputWriter writer(std::make_unique<FakeFile>(disk), {.max_queued_bytes = 200});
  std::atomic<int> handed_in = 0;
  std::thread caller([&] {
    for (int i = 0; i < 100; ++i) {
      writer.write(i, record(i));
      ++handed_in;
    }
  });
  std::this_thread::sleep_for(20ms);
  CHECK(handed_in < 20);
  gate.unlock();
  caller.join();
  writer.close();
  CHECK(disk->content() == lines(0, 100));
}

TEST_CASE(
    "R13: a writer's thread that ends by an exception is an error, and waited for by nobody") {
  auto disk = std::make_shared<Disk>();
  std::atomic<bool> fails = false;
  disk->on_write = [&fails] {
    while (!fails) std::this_thread::sleep_for(1ms);
    throw std::bad_alloc();
  };
  OutputWriter writer(std::make_unique<FakeFile>(disk), {.max_queued_bytes = 100});
  std::thread other([&] {
    std::this_thread::sleep_for(20ms);  // most likely the caller waits for room by then
    fails = true;
  });
  CHECK(write_records(writer, 1000).find("out.jsonl: cannot write: std::bad_alloc") == 0);
  other.join();
  CHECK_THROWS_AS(writer.write(1, "x"), Error);
  CHECK(writer.save().find("cannot write") != std::string::npos);
}

TEST_CASE("R14: what was handed in is saved by another thread, while its own does nothing more") {
  auto disk = std::make_shared<Disk>();
  OutputWriter writer(
      std::make_unique<FakeFile>(disk),
      {.order = OutputOrder::kInput, .sync_interval = 1h, .resume_command = "again"});
  writer.write(0, record(0));
  writer.write(2, record(2));  // waits for row 1
  std::string told;
  std::thread([&] { told = writer.save(); }).join();
  CHECK(disk->content() == lines(0, 1) + lines(2, 3));
  CHECK(disk->synced.back() == disk->content().size());
  CHECK(told ==
        "out.jsonl: all that is finished is written; it holds 2 records of this run; continue by: "
        "again");
  CHECK_THROWS_AS(writer.write(1, record(1)), Error);
  writer.close();
  CHECK(writer.save() == told);
}

TEST_CASE("R14: a disk that does not get on is not waited for") {
  auto disk = std::make_shared<Disk>();
  std::mutex gate;
  gate.lock();
  disk->on_write = [&gate] { const std::lock_guard wait(gate); };
  OutputWriter writer(std::make_unique<FakeFile>(disk), {.save_patience = 50ms});
  writer.write(0, record(0));
  CHECK(writer.save().find("out.jsonl: not all that is finished is written") == 0);
  gate.unlock();
  writer.close();
  CHECK(disk->content() == lines(0, 1));
}

TEST_CASE("leaving by an exception still writes what was handed in") {
  auto disk = std::make_shared<Disk>();
  {
    OutputWriter writer(std::make_unique<FakeFile>(disk), {});
    writer.write(0, record(0));
  }
  CHECK(disk->content() == lines(0, 1));
  disk->failing_sync = static_cast<std::int64_t>(disk->synced.size());
  {
    OutputWriter writer(std::make_unique<FakeFile>(disk), {});
    writer.write(1, record(1));
  }
  CHECK(disk->content() == lines(0, 2));
}

TEST_CASE("a real file") {
  const TemporaryFolder folder;
  const std::string path = folder / "out.jsonl";
  OutputWriter writer(open_output({.path = path}), {});
  CHECK(write_records(writer, 1000) == "");
  CHECK(read_text_file(path) == lines(0, 1000));
  // Closed, it is no longer locked.
  CHECK(open_output({.path = path, .existing = ExistingOutput::kResume})->size() > 0);
}

TEST_CASE("names of options") {
  CHECK(durability_from("interval") == Durability::kInterval);
  CHECK(durability_from("each") == Durability::kEach);
  CHECK(durability_from("none") == Durability::kNone);
  CHECK(!durability_from("all"));
  CHECK(output_order_from("input") == OutputOrder::kInput);
  CHECK(output_order_from("completion") == OutputOrder::kCompletion);
  CHECK(!output_order_from(""));
}

}  // namespace
}  // namespace llmrun
