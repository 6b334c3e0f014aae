#include "engine/weights/safetensors_header.h"

#include <algorithm>
#include <array>
#include <unordered_set>
#include <utility>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "engine/core/error.h"
#include "engine/core/json.h"

namespace llmrun {
namespace {

constexpr std::array kTypes = {
    SafetensorsDType{"BOOL", 8},
    SafetensorsDType{"F4", 4},
    SafetensorsDType{"F6_E2M3", 6},
    SafetensorsDType{"F6_E3M2", 6},
    SafetensorsDType{"U8", 8, DType::kU8},
    SafetensorsDType{"I8", 8},
    SafetensorsDType{"F8_E5M2", 8},
    SafetensorsDType{"F8_E4M3", 8},
    SafetensorsDType{"F8_E8M0", 8},
    SafetensorsDType{"F8_E4M3FNUZ", 8},
    SafetensorsDType{"F8_E5M2FNUZ", 8},
    SafetensorsDType{"I16", 16},
    SafetensorsDType{"U16", 16},
    SafetensorsDType{"F16", 16, DType::kF16},
    SafetensorsDType{"BF16", 16, DType::kBf16},
    SafetensorsDType{"I32", 32, DType::kI32},
    SafetensorsDType{"U32", 32},
    SafetensorsDType{"F32", 32, DType::kF32},
    SafetensorsDType{"C64", 64},
    SafetensorsDType{"F64", 64},
    SafetensorsDType{"I64", 64, DType::kI64},
    SafetensorsDType{"U64", 64},
};

const SafetensorsDType* find_type(std::string_view name) {
  const auto it = std::find_if(kTypes.begin(), kTypes.end(),
                               [&](const SafetensorsDType& type) { return type.name == name; });
  return it == kTypes.end() ? nullptr : &*it;
}

// A name as shown in a message: quoted, escaped, cut.
std::string quote(const std::string& name) {
  return describe_json(nlohmann::json(name));
}

struct Entry {
  SafetensorsTensor tensor;
  std::uint64_t begin = 0;  // in the data section
  std::uint64_t end = 0;
};

// Takes {"name": {"dtype": "F32", "shape": [..], "data_offsets": [..]}, .., "__metadata__": {..}}
// from events. A tree would take ten times the memory of the text.
class HeaderHandler final : public JsonHandler {
 public:
  explicit HeaderHandler(std::string file) : file_(std::move(file)) {}

  std::vector<Entry> take() { return std::move(entries_); }

  bool null() override { return unexpected("null"); }
  bool boolean(bool) override { return unexpected("a boolean"); }
  bool number_integer(std::int64_t) override { return unexpected("a negative number"); }
  bool number_float(double, const std::string&) override { return unexpected("a fraction"); }

  bool number_unsigned(std::uint64_t value) override {
    if (place_ != Place::kShape && place_ != Place::kOffsets) return unexpected("a number");
    if (place_ == Place::kShape) {
      entries_.back().tensor.shape.push_back(value);
    } else {
      if (num_offsets_ >= 2) return unexpected("a third number");
      (num_offsets_ == 0 ? entries_.back().begin : entries_.back().end) = value;
      ++num_offsets_;
    }
    return true;
  }

  bool string(std::string& value) override {
    if (place_ == Place::kMetadata) return true;
    if (place_ != Place::kTensor || field_ != "dtype") return unexpected("a string");
    entries_.back().tensor.type = find_type(value);
    if (entries_.back().tensor.type == nullptr) fail("unknown dtype " + quote(value));
    return true;
  }

  bool start_object(std::size_t) override {
    if (place_ == Place::kOutside) {
      place_ = Place::kTop;
    } else if (place_ == Place::kTop && name_ == "__metadata__") {
      place_ = Place::kMetadata;
    } else if (place_ == Place::kTop) {
      place_ = Place::kTensor;
      entries_.emplace_back().tensor.name = name_;
      num_offsets_ = 0;
    } else {
      return unexpected("an object");
    }
    keys_.clear();
    return true;
  }

  bool key(std::string& value) override {
    const bool is_new =
        place_ == Place::kTop ? names_.insert(value).second : keys_.insert(value).second;
    if (place_ == Place::kTop) name_ = value;
    if (place_ != Place::kTop) field_ = value;
    if (!is_new) fail(fmt::format("duplicate key {}", quote(value)));
    if (place_ == Place::kTensor && value != "dtype" && value != "shape" &&
        value != "data_offsets") {
      fail(fmt::format("unknown field {}; expected dtype, shape and data_offsets", quote(value)));
    }
    return true;
  }

  bool start_array(std::size_t) override {
    if (place_ == Place::kTensor && field_ == "shape") {
      place_ = Place::kShape;
    } else if (place_ == Place::kTensor && field_ == "data_offsets") {
      place_ = Place::kOffsets;
    } else {
      return unexpected("an array");
    }
    return true;
  }

  bool end_array() override {
    if (place_ == Place::kOffsets && num_offsets_ != 2) return unexpected("too few numbers");
    place_ = Place::kTensor;
    return true;
  }

  bool end_object() override {
    if (place_ == Place::kTensor) {
      for (const char* required : {"dtype", "shape", "data_offsets"}) {
        if (!keys_.contains(required)) fail(fmt::format("{} is missing", required));
      }
    }
    place_ = place_ == Place::kTop ? Place::kOutside : Place::kTop;
    return true;
  }

 private:
  enum class Place { kOutside, kTop, kMetadata, kTensor, kShape, kOffsets };

  [[noreturn]] void fail(const std::string& what) const {
    const bool in_entry = place_ != Place::kOutside && place_ != Place::kTop;
    throw Error(ErrorKind::kModel,
                in_entry ? fmt::format("{}: header: {}: {}", file_, quote(name_), what)
                         : fmt::format("{}: header: {}", file_, what));
  }
  [[noreturn]] bool unexpected(const char* found) const {
    switch (place_) {
      case Place::kOutside: fail(fmt::format("expected an object, found {}", found));
      case Place::kTop: fail(fmt::format("{}: expected an object, found {}", quote(name_), found));
      case Place::kMetadata:
        fail(fmt::format("{}: expected a string, found {}", quote(field_), found));
      case Place::kShape: fail(fmt::format("shape: expected whole numbers, found {}", found));
      case Place::kOffsets:
        fail(fmt::format("data_offsets: expected two whole numbers, found {}", found));
      case Place::kTensor: break;
    }
    fail(fmt::format("{}: expected {}, found {}", field_,
                     field_ == "dtype" ? "a string" : "an array", found));
  }

  std::string file_;
  Place place_ = Place::kOutside;
  std::string name_;   // key of the top object
  std::string field_;  // key of an entry
  int num_offsets_ = 0;
  std::unordered_set<std::string> names_;
  std::unordered_set<std::string> keys_;  // of the entry that is open
  std::vector<Entry> entries_;
};

[[noreturn]] void fail_entry(const std::string& file, const Entry& entry, const std::string& what) {
  throw Error(ErrorKind::kModel,
              fmt::format("{}: tensor {}: {}", file, quote(entry.tensor.name), what));
}

// Bytes that the shape and dtype ask for.
std::uint64_t required_bytes(const std::string& file, const Entry& entry) {
  std::uint64_t num_bits = entry.tensor.type->num_bits;
  for (const std::uint64_t extent : entry.tensor.shape) {
    if (__builtin_mul_overflow(num_bits, extent, &num_bits)) {
      fail_entry(
          file, entry,
          fmt::format("the shape [{}] overflows 64 bits", fmt::join(entry.tensor.shape, ", ")));
    }
  }
  if (num_bits % 8 != 0) {
    fail_entry(file, entry,
               fmt::format("{} of shape [{}] is not a whole number of bytes",
                           entry.tensor.type->name, fmt::join(entry.tensor.shape, ", ")));
  }
  return num_bits / 8;
}

}  // namespace

std::vector<SafetensorsTensor> parse_safetensors_header(std::string_view header,
                                                        const std::string& file,
                                                        std::uint64_t data_begin,
                                                        std::uint64_t data_size) {
  HeaderHandler handler(file);
  parse_json_events(header, file + ": header", kFileJson, handler);
  std::vector<Entry> entries = handler.take();
  std::sort(entries.begin(), entries.end(), [](const Entry& a, const Entry& b) {
    return std::pair(a.begin, a.end) < std::pair(b.begin, b.end);
  });

  std::vector<SafetensorsTensor> tensors;
  tensors.reserve(entries.size());
  std::uint64_t expected_begin = 0;
  for (Entry& entry : entries) {
    if (entry.end < entry.begin || entry.end > data_size) {
      fail_entry(file, entry,
                 fmt::format("data_offsets [{}, {}] do not lie in the {} data bytes", entry.begin,
                             entry.end, data_size));
    }
    if (entry.begin != expected_begin) {
      fail_entry(file, entry,
                 fmt::format("data begins at offset {}, expected {}: the file has {}", entry.begin,
                             expected_begin,
                             entry.begin > expected_begin ? "a hole" : "overlapping tensors"));
    }
    const std::uint64_t num_bytes = required_bytes(file, entry);
    if (num_bytes != entry.end - entry.begin) {
      fail_entry(file, entry,
                 fmt::format("{} of shape [{}] takes {} bytes, but data_offsets [{}, {}] hold {}",
                             entry.tensor.type->name, fmt::join(entry.tensor.shape, ", "),
                             num_bytes, entry.begin, entry.end, entry.end - entry.begin));
    }
    expected_begin = entry.end;
    entry.tensor.offset = data_begin + entry.begin;
    entry.tensor.num_bytes = num_bytes;
    tensors.push_back(std::move(entry.tensor));
  }
  if (expected_begin != data_size) {
    throw Error(ErrorKind::kModel,
                fmt::format("{}: the tensors end at data offset {}, but the file holds {} data "
                            "bytes",
                            file, expected_begin, data_size));
  }
  return tensors;
}

}  // namespace llmrun
