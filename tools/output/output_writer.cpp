#include "tools/output/output_writer.h"

#include <algorithm>
#include <cerrno>
#include <system_error>
#include <utility>

#include <fmt/format.h>

#include "engine/core/counted.h"
#include "engine/core/error.h"
#include "tools/signals.h"

namespace llmrun {
namespace {

// How long a thread waits for the other before it looks whether that one is still there.
constexpr std::chrono::seconds kLookInterval{1};

}  // namespace

std::optional<Durability> durability_from(std::string_view name) {
  if (name == "interval") return Durability::kInterval;
  if (name == "each") return Durability::kEach;
  if (name == "none") return Durability::kNone;
  return std::nullopt;
}

std::optional<OutputOrder> output_order_from(std::string_view name) {
  if (name == "input") return OutputOrder::kInput;
  if (name == "completion") return OutputOrder::kCompletion;
  return std::nullopt;
}

OutputWriter::OutputWriter(std::unique_ptr<OutputFile> file, Options options)
    : file_(std::move(file)),
      name_(file_->name()),
      is_stream_(file_->is_stream()),
      options_(std::move(options)),
      file_bytes_(file_->size()),
      reorder_(options_.reorder_window, options_.max_waiting_bytes),
      thread_([this] { run(); }) {}

OutputWriter::~OutputWriter() {
  try {
    close();
  } catch (const Error&) {
    // An error that is already on its way out of the run comes first.
  }
}

bool OutputWriter::may_admit(std::int64_t index) const {
  const std::lock_guard lock(mutex_);
  throw_if_failed();
  return options_.order == OutputOrder::kCompletion || reorder_.may_admit(index);
}

void OutputWriter::write(std::int64_t index, std::string record) {
  record += '\n';
  std::unique_lock lock(mutex_);
  if (options_.order == OutputOrder::kCompletion) {
    enqueue(std::move(record), lock);
    return;
  }
  for (std::string& ready : reorder_.put(index, std::move(record))) enqueue(std::move(ready), lock);
}

void OutputWriter::skip(std::int64_t index) {
  if (options_.order == OutputOrder::kCompletion) return;
  std::unique_lock lock(mutex_);
  for (std::string& ready : reorder_.put(index, std::nullopt)) enqueue(std::move(ready), lock);
}

// A reader of standard output and a full disk may be waited for as long as they take, a thread that
// has ended may not.
void OutputWriter::enqueue(std::string record, std::unique_lock<std::mutex>& lock) {
  while (!room_.wait_for(lock, kLookInterval, [this] {
    return queued_bytes_ < options_.max_queued_bytes || has_ended_;
  })) {
  }
  throw_if_failed();
  if (reader_gone_) return;
  LLMRUN_CHECK(!has_ended_);
  queued_bytes_ += record.size();
  queue_.push_back(std::move(record));
  work_.notify_one();
}

void OutputWriter::close() {
  if (!thread_.joinable()) return;
  {
    const std::lock_guard lock(mutex_);
    begin_closing();
  }
  thread_.join();
  const std::lock_guard lock(mutex_);
  file_.reset();
  throw_if_failed();
}

void OutputWriter::begin_closing() {
  for (std::string& record : reorder_.take_all()) {
    queued_bytes_ += record.size();
    queue_.push_back(std::move(record));
  }
  closing_ = true;
  work_.notify_one();
}

std::string OutputWriter::save() {
  std::unique_lock lock(mutex_);
  begin_closing();
  std::int64_t num_before = -1;
  while (!has_ended_ && num_before != stats_.num_records) {
    num_before = stats_.num_records;
    room_.wait_for(lock, options_.save_patience,
                   [&] { return has_ended_ || stats_.num_records > num_before; });
  }
  if (!failure_.empty()) return failure_;
  return fmt::format("{}: {} that is finished is written{}", name_, has_ended_ ? "all" : "not all",
                     where_it_stands());
}

bool OutputWriter::reader_gone() const {
  const std::lock_guard lock(mutex_);
  return reader_gone_;
}

OutputWriter::Stats OutputWriter::stats() const {
  const std::lock_guard lock(mutex_);
  return stats_;
}

void OutputWriter::throw_if_failed() const {
  if (!failure_.empty()) throw Error(ErrorKind::kOutput, failure_);
}

void OutputWriter::run() {
  block_signals();
  try {
    write_queued();
  } catch (const std::exception& error) {
    fail("write", error.what());
  }
  const std::lock_guard lock(mutex_);
  queue_.clear();
  queued_bytes_ = 0;
  has_ended_ = true;
  room_.notify_all();
}

void OutputWriter::write_queued() {
  std::unique_lock lock(mutex_);
  while (true) {
    const auto has_work = [this] { return closing_ || !queue_.empty(); };
    const bool is_waiting_to_sync =
        unsynced_records_ > 0 && options_.durability == Durability::kInterval;
    if (is_waiting_to_sync) {
      work_.wait_until(lock, unsynced_since_ + options_.sync_interval, has_work);
    } else {
      work_.wait_for(lock, kLookInterval, has_work);
    }
    std::deque<std::string> records = std::exchange(queue_, {});
    const bool is_last = closing_;
    lock.unlock();
    bool ok = true;
    while (ok && !records.empty()) {
      ok = write_record(records.front());
      records.pop_front();
    }
    if (ok && (is_last || sync_due(Clock::now()))) ok = sync();
    if (!ok || is_last) return;
    lock.lock();
  }
}

// Writes one record and accounts for it. False when nothing more can be written.
bool OutputWriter::write_record(const std::string& record) {
  const Clock::time_point give_up = Clock::now() + options_.disk_wait;
  int error_number = write_once(record);
  while ((error_number == ENOSPC || error_number == EDQUOT) && wait_for_space(give_up)) {
    error_number = write_once(record);
  }
  if (error_number == EPIPE && is_stream_) {
    const std::lock_guard lock(mutex_);
    reader_gone_ = true;
    return false;
  }
  if (error_number != 0) {
    fail("write", std::generic_category().message(error_number));
    return false;
  }
  file_bytes_ += record.size();
  if (unsynced_records_++ == 0) unsynced_since_ = Clock::now();
  unsynced_bytes_ += record.size();
  {
    const std::lock_guard lock(mutex_);
    queued_bytes_ -= record.size();
    ++stats_.num_records;
    stats_.num_bytes += record.size();
    room_.notify_all();
  }
  return !sync_due(Clock::now()) || sync();
}

// All of the bytes, or none of them and the error.
int OutputWriter::write_once(std::string_view bytes) {
  while (!bytes.empty()) {
    const std::int64_t count = file_->write(bytes);
    if (count > 0) {
      bytes.remove_prefix(static_cast<std::size_t>(count));
      continue;
    }
    // A torn record that cannot be cut off now is cut off by --resume.
    if (!is_stream_) static_cast<void>(file_->truncate(file_bytes_));
    return count == 0 ? EIO : static_cast<int>(-count);
  }
  return 0;
}

bool OutputWriter::wait_for_space(Clock::time_point give_up) {
  constexpr std::chrono::milliseconds kPause{500};
  const Clock::time_point now = Clock::now();
  if (now >= give_up) return false;
  std::this_thread::sleep_for(std::min<Clock::duration>(kPause, give_up - now));
  return true;
}

bool OutputWriter::sync_due(Clock::time_point now) const {
  if (unsynced_records_ == 0) return false;
  switch (options_.durability) {
    case Durability::kNone: return false;
    case Durability::kEach: return true;
    case Durability::kInterval: break;
  }
  return unsynced_records_ >= options_.sync_records || unsynced_bytes_ >= options_.sync_bytes ||
         now - unsynced_since_ >= options_.sync_interval;
}

// After an fdatasync that failed, the kernel has dropped the pages: trying again would succeed and
// mean nothing.
bool OutputWriter::sync() {
  if (unsynced_records_ == 0 || options_.durability == Durability::kNone) return true;
  if (const int error_number = file_->sync()) {
    fail("sync", std::generic_category().message(error_number));
    return false;
  }
  unsynced_records_ = 0;
  unsynced_bytes_ = 0;
  const std::lock_guard lock(mutex_);
  ++stats_.num_syncs;
  return true;
}

void OutputWriter::fail(const char* action, const std::string& reason) {
  const std::lock_guard lock(mutex_);
  failure_ = fmt::format("{}: cannot {}: {}{}", name_, action, reason, where_it_stands());
}

std::string OutputWriter::where_it_stands() const {
  std::string text;
  if (!is_stream_) {
    text += fmt::format("; it holds {} of this run", counted(stats_.num_records, "record"));
  }
  if (!options_.resume_command.empty()) {
    text += fmt::format("; continue by: {}", options_.resume_command);
  }
  return text;
}

}  // namespace llmrun
