#include "engine/weights/zip_archive.h"

#include <algorithm>
#include <optional>
#include <string_view>
#include <utility>

#include <fmt/format.h>

#include "engine/core/json.h"

namespace llmrun {
namespace {

constexpr std::uint64_t kMaxDirectoryBytes = 64 << 20;
constexpr std::size_t kLocalBytes = 30;
constexpr std::size_t kEntryBytes = 46;  // of the central directory
constexpr std::size_t kEndBytes = 22;
constexpr std::size_t kMaxCommentBytes = 65535;
constexpr std::size_t kLocatorBytes = 20;
constexpr std::size_t kEnd64Bytes = 56;

constexpr std::string_view kLocalSignature = "PK\x03\x04";
constexpr std::string_view kEntrySignature = "PK\x01\x02";
constexpr std::string_view kEndSignature = "PK\x05\x06";
constexpr std::string_view kLocatorSignature = "PK\x06\x07";
constexpr std::string_view kEnd64Signature = "PK\x06\x06";

// Flags that change nothing here: sizes repeated after the data, names in UTF-8.
constexpr std::uint64_t kAllowedFlags = 0x0808;
constexpr std::uint64_t kIn64Bits = 0xffffffff;  // the value is in the zip64 field

// REQUIRES: the bytes are there.
std::uint64_t little_endian(std::string_view bytes, std::size_t at, std::size_t size) {
  std::uint64_t value = 0;
  for (std::size_t i = size; i-- > 0;) {
    value = (value << 8) | static_cast<unsigned char>(bytes[at + i]);
  }
  return value;
}

struct Directory {
  std::uint64_t offset = 0;
  std::uint64_t num_bytes = 0;
  std::uint64_t num_entries = 0;
};

struct Entry {
  ZipMember member;
  std::uint64_t header_offset = 0;
};

class DirectoryReader {
 public:
  explicit DirectoryReader(const RandomAccessFile& file) : file_(file) {}

  std::vector<Entry> read() {
    find();
    if (directory_.num_bytes > kMaxDirectoryBytes) {
      fail(directory_.offset, fmt::format("a zip directory of {} bytes, supported are {}",
                                          directory_.num_bytes, kMaxDirectoryBytes));
    }
    text_ = file_.read_text(directory_.offset, directory_.num_bytes);
    std::vector<Entry> entries;
    std::size_t at = 0;
    while (at < text_.size()) {
      entries.push_back(read_entry(at));
      read_local_header(entries.back());
    }
    if (entries.size() != directory_.num_entries) {
      fail(directory_.offset, fmt::format("the zip directory has {} entries, expected {}",
                                          entries.size(), directory_.num_entries));
    }
    return entries;
  }

 private:
  [[noreturn]] void fail(std::uint64_t offset, const std::string& what) const {
    file_.fail(fmt::format("offset {}: {}", offset, what));
  }

  // Sets directory_, from the records at the end of the file.
  void find() {
    const std::uint64_t tail_size =
        std::min<std::uint64_t>(file_.num_bytes(), kEndBytes + kMaxCommentBytes);
    const std::uint64_t tail_offset = file_.num_bytes() - tail_size;
    const std::string tail = file_.read_text(tail_offset, tail_size);
    std::optional<std::size_t> end;
    for (std::size_t at = tail.size() < kEndBytes ? 0 : tail.size() - kEndBytes + 1; at-- > 0;) {
      if (std::string_view(tail).substr(at, 4) == kEndSignature &&
          little_endian(tail, at + 20, 2) == tail.size() - at - kEndBytes) {
        end = at;
        break;
      }
    }
    if (!end)
      file_.fail("no end of a zip archive; the file is cut or is not what torch.save writes");
    const std::uint64_t end_offset = tail_offset + *end;
    if (little_endian(tail, *end + 4, 2) != 0 || little_endian(tail, *end + 6, 2) != 0) {
      fail(end_offset, "a zip archive in several parts");
    }
    directory_ = {.offset = little_endian(tail, *end + 16, 4),
                  .num_bytes = little_endian(tail, *end + 12, 4),
                  .num_entries = little_endian(tail, *end + 10, 2)};
    const std::uint64_t directory_end = find_zip64(end_offset).value_or(end_offset);
    if (directory_.offset > directory_end ||
        directory_.num_bytes != directory_end - directory_.offset) {
      fail(end_offset, fmt::format("the zip directory is said to be {} bytes at offset {}, but "
                                   "must end at offset {}",
                                   directory_.num_bytes, directory_.offset, directory_end));
    }
  }

  // The zip64 end record, if there is one: takes its numbers and tells where it begins.
  std::optional<std::uint64_t> find_zip64(std::uint64_t end_offset) {
    if (end_offset < kLocatorBytes + kEnd64Bytes) return std::nullopt;
    const std::uint64_t locator_offset = end_offset - kLocatorBytes;
    const std::string locator = file_.read_text(locator_offset, kLocatorBytes);
    if (!locator.starts_with(kLocatorSignature)) return std::nullopt;
    const std::uint64_t offset = little_endian(locator, 8, 8);
    if (offset > locator_offset - kEnd64Bytes) {
      fail(locator_offset, fmt::format("the zip64 record is said to be at offset {}", offset));
    }
    const std::string record = file_.read_text(offset, kEnd64Bytes);
    if (!record.starts_with(kEnd64Signature) ||
        little_endian(record, 4, 8) != locator_offset - offset - 12) {
      fail(offset, "expected a zip64 record that reaches to its locator");
    }
    directory_ = {.offset = little_endian(record, 48, 8),
                  .num_bytes = little_endian(record, 40, 8),
                  .num_entries = little_endian(record, 32, 8)};
    return offset;
  }

  // The entry at text_[at]; moves `at` behind it.
  Entry read_entry(std::size_t& at) const {
    const std::uint64_t offset = directory_.offset + at;
    const std::string_view rest = std::string_view(text_).substr(at);
    if (rest.size() < kEntryBytes || !rest.starts_with(kEntrySignature)) {
      fail(offset, "expected an entry of the zip directory");
    }
    const std::size_t name_size = little_endian(rest, 28, 2);
    const std::size_t extra_size = little_endian(rest, 30, 2);
    const std::size_t comment_size = little_endian(rest, 32, 2);
    if (rest.size() - kEntryBytes < name_size + extra_size + comment_size) {
      fail(offset, "the entry does not lie in the zip directory");
    }
    const std::string_view name = rest.substr(kEntryBytes, name_size);
    const std::string_view extra = rest.substr(kEntryBytes + name_size, extra_size);
    const std::uint64_t flags = little_endian(rest, 8, 2);
    const std::uint64_t method = little_endian(rest, 10, 2);
    if ((flags & ~kAllowedFlags) != 0) {
      fail(offset, fmt::format("member {}: flags {:#06x}: encrypted or of a kind torch.save does "
                               "not write",
                               quote_json(name), flags));
    }
    if (method != 0) {
      fail(offset, fmt::format("member {}: compressed (method {}); torch.save only stores",
                               quote_json(name), method));
    }
    std::uint64_t num_bytes = little_endian(rest, 24, 4);
    std::uint64_t num_stored_bytes = little_endian(rest, 20, 4);
    std::uint64_t header_offset = little_endian(rest, 42, 4);
    const bool has_sizes = read_zip64_field(extra, num_bytes, num_stored_bytes, header_offset);
    if (!has_sizes || num_bytes != num_stored_bytes || little_endian(rest, 34, 2) != 0) {
      fail(offset, fmt::format("member {}: {} bytes, stored as {}", quote_json(name), num_bytes,
                               num_stored_bytes));
    }
    at += kEntryBytes + name_size + extra_size + comment_size;
    return {.member = {.name = std::string(name), .offset = 0, .num_bytes = num_bytes},
            .header_offset = header_offset};
  }

  // Replaces what is too large for 32 bits. False when the field is missing or short.
  static bool read_zip64_field(std::string_view extra, std::uint64_t& num_bytes,
                               std::uint64_t& num_stored_bytes, std::uint64_t& header_offset) {
    std::string_view field;
    for (std::size_t at = 0; at + 4 <= extra.size();) {
      const std::size_t size = little_endian(extra, at + 2, 2);
      if (size > extra.size() - at - 4) return false;
      if (little_endian(extra, at, 2) == 1) {
        field = extra.substr(at + 4, size);
        break;
      }
      at += 4 + size;
    }
    for (std::uint64_t* value : {&num_bytes, &num_stored_bytes, &header_offset}) {
      if (*value != kIn64Bits) continue;
      if (field.size() < 8) return false;
      *value = little_endian(field, 0, 8);
      field.remove_prefix(8);
    }
    return true;
  }

  // Sets where the data begins, behind the member's own header.
  void read_local_header(Entry& entry) const {
    const std::string& name = entry.member.name;
    const std::uint64_t begin = entry.header_offset;
    if (begin > directory_.offset || directory_.offset - begin < kLocalBytes + name.size()) {
      fail(begin, fmt::format("member {} does not lie before the zip directory", quote_json(name)));
    }
    const std::string header = file_.read_text(begin, kLocalBytes + name.size());
    if (!header.starts_with(kLocalSignature) || little_endian(header, 8, 2) != 0 ||
        little_endian(header, 26, 2) != name.size() || !header.ends_with(name)) {
      fail(begin, fmt::format("expected the header of member {}", quote_json(name)));
    }
    entry.member.offset = begin + header.size() + little_endian(header, 28, 2);
    if (entry.member.offset > directory_.offset ||
        entry.member.num_bytes > directory_.offset - entry.member.offset) {
      fail(begin, fmt::format("member {}: {} bytes do not lie before the zip directory",
                              quote_json(name), entry.member.num_bytes));
    }
  }

  const RandomAccessFile& file_;
  Directory directory_;
  std::string text_;
};

void check_no_overlap(const RandomAccessFile& file, std::vector<Entry>& entries) {
  std::sort(entries.begin(), entries.end(),
            [](const Entry& a, const Entry& b) { return a.header_offset < b.header_offset; });
  std::uint64_t end = 0;
  for (const Entry& entry : entries) {
    if (entry.header_offset < end) {
      file.fail(fmt::format("offset {}: member {} overlaps the one before", entry.header_offset,
                            quote_json(entry.member.name)));
    }
    end = entry.member.offset + entry.member.num_bytes;
  }
}

}  // namespace

std::vector<ZipMember> read_zip_members(const RandomAccessFile& file) {
  std::vector<Entry> entries = DirectoryReader(file).read();
  check_no_overlap(file, entries);
  std::vector<ZipMember> members;
  members.reserve(entries.size());
  for (Entry& entry : entries) members.push_back(std::move(entry.member));
  std::sort(members.begin(), members.end(),
            [](const ZipMember& a, const ZipMember& b) { return a.name < b.name; });
  const auto twin =
      std::adjacent_find(members.begin(), members.end(),
                         [](const ZipMember& a, const ZipMember& b) { return a.name == b.name; });
  if (twin != members.end()) {
    file.fail(
        fmt::format("offset {}: member {} occurs twice", twin->offset, quote_json(twin->name)));
  }
  return members;
}

}  // namespace llmrun
