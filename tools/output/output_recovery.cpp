#include "tools/output/output_recovery.h"

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstdio>
#include <cstring>
#include <functional>
#include <memory>
#include <optional>
#include <system_error>
#include <utility>
#include <vector>

#include <fcntl.h>
#include <fmt/format.h>

#include "engine/core/error.h"
#include "engine/core/json.h"
#include "tools/input/input_buffer.h"
#include "tools/input/line_reader.h"

namespace llmrun {
namespace {

// n samples of long texts with log-probabilities are large.
constexpr std::size_t kMaxRecordBytes = std::size_t{1} << 30;
constexpr JsonLimits kRecordJson{
    .max_depth = 128, .reject_duplicate_keys = true, .error_kind = ErrorKind::kInput};
constexpr std::string_view kRowPrefix = "llmrun-row-";
constexpr std::string_view kHashPrefix = "llmrun-";
constexpr std::uint64_t kLineHashMask = (std::uint64_t{1} << 62) - 1;  // FinishedRow::line_hash

// Some bytes of the output.
struct Extent {
  std::uint64_t offset = 0;
  std::uint64_t length = 0;
};

// A line of the output and what it says.
struct Record {
  Extent extent;  // with its newline
  std::int64_t index = 0;
  RowKey key;
  FinishedRow row;
};

std::uint64_t hash_line(std::string_view line) {
  const std::string hash = content_hash(line);
  std::uint64_t value = 0;
  std::memcpy(&value, hash.data(), sizeof(value));
  return value;
}

const std::string* find_string(const nlohmann::json& object, const char* key) {
  if (!object.is_object()) return nullptr;
  const auto it = object.find(key);
  return it != object.end() && it->is_string() ? &it->get_ref<const std::string&>() : nullptr;
}

bool has_value(const nlohmann::json& object, const char* key) {
  const auto it = object.find(key);
  return it != object.end() && !it->is_null();
}

// The key of a row whose id is a string, an integer, or null.
std::optional<RowKey> key_of(const nlohmann::json& id, std::int64_t index) {
  if (id.is_string()) return row_key(id.get_ref<const std::string&>());
  if (id.is_number_integer()) return row_key(std::string_view(id.dump()));
  if (id.is_null()) return row_key(index);
  return std::nullopt;
}

bool read_input_hash(std::string_view hex, Record& record) {
  const std::optional<std::uint64_t> hash = parse_input_hash(hex);
  record.row.input_hash = hash.value_or(0);
  return hash.has_value();
}

// Each returns false when the object is not such a record.
bool read_native(const nlohmann::json& object, Record& record) {
  const std::string* hash = find_string(object, "input_hash");
  const auto id = object.find("id");
  const auto index = object.find("index");
  if (hash == nullptr || !read_input_hash(*hash, record) || id == object.end() ||
      index == object.end() || !index->is_number_integer()) {
    return false;
  }
  record.index = index->get<std::int64_t>();
  record.row.failed = has_value(object, "error");
  const std::optional<RowKey> key = key_of(*id, record.index);
  if (key) record.key = *key;
  return key.has_value() && (record.row.failed || object.contains("outputs"));
}

bool read_envelope(const nlohmann::json& object, Record& record) {
  const std::string* hash = find_string(object, "id");
  const auto id = object.find("custom_id");
  const auto response = object.find("response");
  if (hash == nullptr || id == object.end() || response == object.end()) return false;
  const std::string* request = find_string(*response, "request_id");
  if (request == nullptr || !request->starts_with(kRowPrefix) || !hash->starts_with(kHashPrefix) ||
      !read_input_hash(std::string_view(*hash).substr(kHashPrefix.size()), record)) {
    return false;
  }
  const char* end = request->data() + request->size();
  const auto [parsed, error] =
      std::from_chars(request->data() + kRowPrefix.size(), end, record.index);
  if (error != std::errc() || parsed != end) return false;
  record.row.failed = has_value(object, "error");
  const std::optional<RowKey> key = key_of(*id, record.index);
  if (key) record.key = *key;
  return key.has_value();
}

enum class LineKind { kRecord, kNotJson, kForeign };

LineKind read_record(const Line& line, Record& record, std::string& reason) {
  if (line.too_long) {
    reason = "it is longer than any record";
    return LineKind::kForeign;
  }
  const auto object = try_parse_json(line.text, kRecordJson, reason);
  if (!object) return LineKind::kNotJson;
  record.extent = {line.offset, line.size};
  record.row.line_hash = hash_line(line.text) & kLineHashMask;
  if (object->is_object() && (read_native(*object, record) || read_envelope(*object, record))) {
    return LineKind::kRecord;
  }
  reason = "it has no id and input_hash as llmrun writes them";
  return LineKind::kForeign;
}

[[noreturn]] void refuse(const std::string& path, const Line& line, const std::string& what) {
  throw Error(ErrorKind::kInput,
              fmt::format("{}:{}: (byte {}) {}; repair the file, or start again with --overwrite",
                          path, line.number, line.offset, what));
}

// Hands each record to `take`, and returns where the last whole one ends. What `take` keeps is all
// the memory that a long output needs.
std::uint64_t scan_output(const std::string& path,
                          const std::function<void(const Record&, const Line&)>& take) {
  std::uint64_t end = 0;
  InputBuffer input(std::make_unique<FileSource>(path));
  LineReader lines(input, kMaxRecordBytes);
  std::optional<Line> bad;  // a line that is allowed only as the last one
  std::string reason;
  while (const std::optional<Line> line = lines.next()) {
    if (bad) refuse(path, *bad, "not a record of llmrun: " + reason);
    Record record;
    const LineKind kind = read_record(*line, record, reason);
    if (kind == LineKind::kForeign) {
      refuse(path, *line, "not a record of llmrun: " + reason);
    }
    if (kind != LineKind::kRecord || !line->ended) {
      bad = line;
      bad->text = {};
      continue;
    }
    end = record.extent.offset + record.extent.length;
    take(record, *line);
  }
  return end;
}

// Adds the extent to the last one where they lie side by side.
void append_extent(std::vector<Extent>& extents, const Extent& extent) {
  if (!extents.empty() && extents.back().offset + extents.back().length == extent.offset) {
    extents.back().length += extent.length;
  } else {
    extents.push_back(extent);
  }
}

// Copies bytes [begin, begin + length) of one file to the end of another.
void copy_bytes(const UniqueFd& from, std::uint64_t begin, std::uint64_t length, const UniqueFd& to,
                const std::string& to_path) {
  std::vector<char> chunk(static_cast<std::size_t>(std::min<std::uint64_t>(length, 1U << 20)));
  while (length > 0) {
    const std::size_t wanted =
        static_cast<std::size_t>(std::min<std::uint64_t>(length, chunk.size()));
    const ssize_t count = ::pread(from.get(), chunk.data(), wanted, static_cast<off_t>(begin));
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) {
      throw Error(ErrorKind::kOutput,
                  fmt::format("{}: cannot copy to it: {}", to_path,
                              std::generic_category().message(count < 0 ? errno : EIO)));
    }
    write_all(to, {chunk.data(), static_cast<std::size_t>(count)}, to_path);
    begin += static_cast<std::uint64_t>(count);
    length -= static_cast<std::uint64_t>(count);
  }
}

UniqueFd open_to_read(const std::string& path) {
  UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW));
  if (fd) return fd;
  throw Error(ErrorKind::kInput,
              fmt::format("{}: cannot open: {}", path, std::generic_category().message(errno)));
}

void cut_tail(LockedFile& file, std::uint64_t begin, std::uint64_t length) {
  const std::string path = torn_path(file.name());
  const UniqueFd saved(
      ::open(path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0600));
  if (!saved) {
    throw Error(ErrorKind::kOutput,
                fmt::format("{}: cannot open: {}", path, std::generic_category().message(errno)));
  }
  copy_bytes(open_to_read(file.name()), begin, length, saved, path);
  ::fsync(saved.get());
  int error_number = file.truncate(begin);
  if (error_number == 0) error_number = file.sync();
  if (error_number == 0) return;
  throw Error(ErrorKind::kOutput, fmt::format("{}: cannot cut its torn end: {}", file.name(),
                                              std::generic_category().message(error_number)));
}

// Replaces the output by one that holds these parts of it, in this order.
void rewrite_output(LockedFile& file, const std::vector<Extent>& extents) {
  const std::string temporary = fmt::format("{}.tmp", file.name());
  std::remove(temporary.c_str());  // of a run that was killed here
  UniqueFd fd = create_private_file(temporary);
  const UniqueFd old = open_to_read(file.name());
  for (const Extent& extent : extents) {
    copy_bytes(old, extent.offset, extent.length, fd, temporary);
  }
  // Locked before it gets the name: nobody can slip in between.
  if (!lock_file(fd)) {
    throw Error(ErrorKind::kInput, fmt::format("{}: another process has locked it", temporary));
  }
  replace_file(fd, temporary, file.name());
  file.continue_with(std::move(fd));
}

}  // namespace

RecoveredOutput recover_output(LockedFile& file, const RecoverOptions& options) {
  RecoveredOutput recovered;
  recovered.finished = FinishedRows(file.name(), options.accept_other_inputs);
  if (file.is_stream()) return recovered;
  std::vector<Extent> kept;  // when failed rows are to run again
  const auto take = [&](const Record& record, const Line& line) {
    if (options.retry_errors && !record.row.failed) append_extent(kept, record.extent);
    if (recovered.finished.add(record.key, record.row)) return;
    if (recovered.finished.find(record.key)->line_hash != record.row.line_hash) {
      refuse(file.name(), line, "its row has a different record further up");
    }
    ++recovered.num_duplicates;
  };
  const std::uint64_t end = scan_output(file.name(), take);
  if (const std::uint64_t size = file.size(); size > end) {
    recovered.num_torn_bytes = size - end;
    cut_tail(file, end, size - end);
  }
  if (options.retry_errors && recovered.finished.num_failed() > 0) {
    recovered.num_removed = static_cast<std::int64_t>(recovered.finished.num_failed());
    rewrite_output(file, kept);
    recovered.finished.remove_failed();
  }
  return recovered;
}

bool sort_output(const std::string& path) {
  const auto file = open_output({.path = path, .existing = ExistingOutput::kResume});
  if (file->is_stream()) return false;
  std::vector<std::pair<std::int64_t, Extent>> records;  // by their rows' indices
  const auto take = [&](const Record& record, const Line&) {
    records.emplace_back(record.index, record.extent);
  };
  scan_output(path, take);
  const auto is_before = [](const auto& a, const auto& b) { return a.first < b.first; };
  if (std::is_sorted(records.begin(), records.end(), is_before)) return false;
  std::stable_sort(records.begin(), records.end(), is_before);
  std::vector<Extent> extents;
  for (const auto& [index, extent] : records) append_extent(extents, extent);
  rewrite_output(*file, extents);
  return true;
}

}  // namespace llmrun
