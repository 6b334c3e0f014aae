#include "tools/output/output_writer.h"

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <system_error>
#include <utility>

#include <fmt/format.h>

#include "engine/core/counted.h"
#include "engine/core/error.h"

namespace llmrun {

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
      options_(std::move(options)),
      reorder_(options_.reorder_window, options_.max_waiting_bytes),
      file_bytes_(file_->size()),
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
  if (options_.order == OutputOrder::kCompletion) {
    enqueue(std::move(record));
    return;
  }
  for (std::string& ready : reorder_.put(index, std::move(record))) enqueue(std::move(ready));
}

void OutputWriter::skip(std::int64_t index) {
  if (options_.order == OutputOrder::kCompletion) return;
  for (std::string& ready : reorder_.put(index, std::nullopt)) enqueue(std::move(ready));
}

void OutputWriter::enqueue(std::string record) {
  std::unique_lock lock(mutex_);
  room_.wait(lock, [this] {
    return queued_bytes_ < options_.max_queued_bytes || !failure_.empty() || reader_gone_;
  });
  throw_if_failed();
  if (reader_gone_) return;
  queued_bytes_ += record.size();
  queue_.push_back(std::move(record));
  work_.notify_one();
}

void OutputWriter::close() {
  if (!thread_.joinable()) return;
  std::vector<std::string> waiting = reorder_.take_all();
  {
    const std::lock_guard lock(mutex_);
    for (std::string& record : waiting) {
      queued_bytes_ += record.size();
      queue_.push_back(std::move(record));
    }
    closing_ = true;
    work_.notify_one();
  }
  thread_.join();
  file_.reset();
  const std::lock_guard lock(mutex_);
  throw_if_failed();
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
  // Signals are for the thread that may be waiting for input.
  sigset_t all;
  sigfillset(&all);
  ::pthread_sigmask(SIG_BLOCK, &all, nullptr);
  std::unique_lock lock(mutex_);
  while (true) {
    const auto has_work = [this] { return closing_ || !queue_.empty(); };
    const bool is_waiting_to_sync =
        unsynced_records_ > 0 && options_.durability == Durability::kInterval;
    if (is_waiting_to_sync) {
      work_.wait_until(lock, unsynced_since_ + options_.sync_interval, has_work);
    } else {
      work_.wait(lock, has_work);
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
    lock.lock();
    if (!ok || is_last) break;
  }
  queue_.clear();
  queued_bytes_ = 0;
  room_.notify_one();
}

// Writes one record and accounts for it. False when nothing more can be written.
bool OutputWriter::write_record(const std::string& record) {
  const Clock::time_point give_up = Clock::now() + options_.disk_wait;
  int error_number = write_once(record);
  while ((error_number == ENOSPC || error_number == EDQUOT) && wait_for_space(give_up)) {
    error_number = write_once(record);
  }
  if (error_number == EPIPE && file_->is_stream()) {
    const std::lock_guard lock(mutex_);
    reader_gone_ = true;
    return false;
  }
  if (error_number != 0) {
    fail("write", error_number);
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
    room_.notify_one();
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
    if (!file_->is_stream()) static_cast<void>(file_->truncate(file_bytes_));
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
    fail("sync", error_number);
    return false;
  }
  unsynced_records_ = 0;
  unsynced_bytes_ = 0;
  const std::lock_guard lock(mutex_);
  ++stats_.num_syncs;
  return true;
}

void OutputWriter::fail(const char* action, int error_number) {
  const std::lock_guard lock(mutex_);
  failure_ = fmt::format("{}: cannot {}: {}", file_->name(), action,
                         std::generic_category().message(error_number));
  if (!file_->is_stream()) {
    failure_ += fmt::format("; it holds {} of this run", counted(stats_.num_records, "record"));
  }
  if (!options_.resume_command.empty()) {
    failure_ += fmt::format("; continue by: {}", options_.resume_command);
  }
}

}  // namespace llmrun
