// Appends records to an output on a thread of its own.
//
// One record is one write(). Records are synced in groups, since fdatasync costs milliseconds:
// after kill -9 nothing that was appended and written is lost, after a power loss at most the last
// group is. A write that fails is undone to the end of the last whole record.
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <thread>

#include "tools/output/output_file.h"
#include "tools/output/reorder_buffer.h"

namespace llmrun {

enum class Durability : std::uint8_t {
  kInterval,  // sync when a group is due
  kEach,      // sync every record
  kNone,      // leave it to the kernel
};
enum class OutputOrder : std::uint8_t { kInput, kCompletion };

// "interval", "each", "none"; "input", "completion". Nothing for any other name.
std::optional<Durability> durability_from(std::string_view name);
std::optional<OutputOrder> output_order_from(std::string_view name);

class OutputWriter {
 public:
  struct Options {
    OutputOrder order = OutputOrder::kCompletion;
    std::int64_t reorder_window = 4096;  // rows under way when the order is that of the input
    std::size_t max_waiting_bytes = std::size_t{256} << 20;  // of records that wait for their turn

    Durability durability = Durability::kInterval;
    // A group is due after this time, or this many records or bytes.
    std::chrono::milliseconds sync_interval{1000};
    std::int64_t sync_records = 256;
    std::uint64_t sync_bytes = std::uint64_t{8} << 20;

    std::size_t max_queued_bytes = std::size_t{64} << 20;  // write() waits above it
    std::chrono::milliseconds disk_wait{0};  // how long to try again when the disk is full
    std::chrono::milliseconds save_patience{5000};
    std::string resume_command{};  // for the messages of save() and of a writing that failed
  };

  struct Stats {
    std::int64_t num_records = 0;  // written
    std::uint64_t num_bytes = 0;
    std::int64_t num_syncs = 0;
  };

  OutputWriter(std::unique_ptr<OutputFile> file, Options options);
  // As close(), but silent about errors.
  ~OutputWriter();
  OutputWriter(const OutputWriter&) = delete;
  OutputWriter& operator=(const OutputWriter&) = delete;

  // The calls below are for one thread. They throw Error(kOutput), once writing has failed, and
  // never wait for a writer's thread that has ended.

  // Whether row `index` may be started now. The next row to be written always may.
  bool may_admit(std::int64_t index) const;
  // Takes the record of row `index`: one line without its newline.
  void write(std::int64_t index, std::string record);
  // Row `index` has its record in the output already, or gets none.
  void skip(std::int64_t index);
  // Writes and syncs everything, ends, and lets go of the file. Records that still wait for a row
  // that was never handed in are written in order behind the others.
  void close();

  // For a process that has to end, from any thread, whatever the other is at: takes no more
  // records and writes and syncs those it has, as long as each gets done within save_patience.
  // Returns what became of them, and how to go on.
  std::string save();

  // The reader of standard output has gone: what is written is dropped. Not an error.
  bool reader_gone() const;
  Stats stats() const;

 private:
  using Clock = std::chrono::steady_clock;

  // REQUIRES of these: mutex_ is held.
  void enqueue(std::string record, std::unique_lock<std::mutex>& lock);
  void begin_closing();
  void throw_if_failed() const;
  std::string where_it_stands() const;  // records written, and the command that goes on

  // On the writer's thread.
  void run();
  void write_queued();
  bool write_record(const std::string& record);
  int write_once(std::string_view bytes);
  bool wait_for_space(Clock::time_point give_up);
  bool sync_due(Clock::time_point now) const;
  bool sync();
  void fail(const char* action, const std::string& reason);

  std::unique_ptr<OutputFile> file_;
  const std::string name_;  // the file's
  const bool is_stream_;
  const Options options_;

  // Of the writer's thread.
  std::uint64_t file_bytes_ = 0;  // up to the end of the last whole record
  std::int64_t unsynced_records_ = 0;
  std::uint64_t unsynced_bytes_ = 0;
  Clock::time_point unsynced_since_;

  mutable std::mutex mutex_;      // guards what follows
  std::condition_variable work_;  // for the writer's thread
  std::condition_variable room_;  // for the caller
  ReorderBuffer reorder_;
  std::deque<std::string> queue_;  // records with their newlines
  std::size_t queued_bytes_ = 0;   // in queue_ and in the writer's hands
  bool closing_ = false;
  bool has_ended_ = false;  // the writer's thread, with its last look at the queue
  bool reader_gone_ = false;
  std::string failure_;  // why writing stopped
  Stats stats_;

  std::thread thread_;  // last: it uses all of the above
};

}  // namespace llmrun
