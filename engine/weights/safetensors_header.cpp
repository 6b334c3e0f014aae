#include "engine/weights/safetensors_header.h"

#include <algorithm>
#include <array>
#include <tuple>
#include <unordered_set>
#include <utility>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "engine/core/error.h"
#include "engine/core/json.h"

namespace llmrun {
namespace {

constexpr std::array kTypes = {
    StoredType{"BOOL", 8},
    StoredType{"F4", 4},
    StoredType{"F6_E2M3", 6},
    StoredType{"F6_E3M2", 6},
    StoredType{"U8", 8, DType::kU8},
    StoredType{"I8", 8},
    StoredType{"F8_E5M2", 8},
    StoredType{"F8_E4M3", 8},
    StoredType{"F8_E8M0", 8},
    StoredType{"F8_E4M3FNUZ", 8},
    StoredType{"F8_E5M2FNUZ", 8},
    StoredType{"I16", 16},
    StoredType{"U16", 16},
    StoredType{"F16", 16, DType::kF16},
    StoredType{"BF16", 16, DType::kBf16},
    StoredType{"I32", 32, DType::kI32},
    StoredType{"U32", 32},
    StoredType{"F32", 32, DType::kF32},
    StoredType{"C64", 64},
    StoredType{"F64", 64},
    StoredType{"I64", 64, DType::kI64},
    StoredType{"U64", 64},
};

const StoredType* find_type(std::string_view name) {
  const auto it = std::find_if(kTypes.begin(), kTypes.end(),
                               [&](const StoredType& type) { return type.name == name; });
  return it == kTypes.end() ? nullptr : &*it;
}

// Takes {"name": {"dtype": "F32", "shape": [..], "data_offsets": [..]}, .., "__metadata__": {..}}
// from events. A tree would take ten times the memory of the text.
class HeaderHandler final : public JsonHandler {
 public:
  explicit HeaderHandler(std::string file) : file_(std::move(file)) {}

  // `offset` counts from the beginning of the data section.
  std::vector<StoredTensor> take() { return std::move(tensors_); }

  bool null() override { return unexpected("null"); }
  bool boolean(bool) override { return unexpected("a boolean"); }
  bool number_integer(std::int64_t) override { return unexpected("a negative number"); }
  bool number_float(double, const std::string&) override { return unexpected("a fraction"); }

  bool number_unsigned(std::uint64_t value) override {
    if (place_ != Place::kShape && place_ != Place::kOffsets) return unexpected("a number");
    if (place_ == Place::kShape) {
      tensors_.back().shape.push_back(value);
    } else {
      if (num_offsets_ == 2) return unexpected("a third number");
      offsets_[num_offsets_++] = value;
    }
    return true;
  }

  bool string(std::string& value) override {
    if (place_ == Place::kMetadata) return true;
    if (place_ != Place::kTensor || field_ != "dtype") return unexpected("a string");
    tensors_.back().type = find_type(value);
    if (tensors_.back().type == nullptr) fail("unknown dtype " + quote_json(value));
    return true;
  }

  bool start_object(std::size_t) override {
    if (place_ == Place::kOutside) {
      place_ = Place::kTop;
    } else if (place_ == Place::kTop && name_ == "__metadata__") {
      place_ = Place::kMetadata;
    } else if (place_ == Place::kTop) {
      place_ = Place::kTensor;
      tensors_.emplace_back().name = name_;
      num_offsets_ = 0;
    } else {
      return unexpected("an object");
    }
    has_field_ = {};
    return true;
  }

  bool key(std::string& value) override {
    if (place_ == Place::kTop) {
      name_ = value;
      if (value == "__metadata__" && std::exchange(has_metadata_, true)) fail_duplicate(value);
      return true;  // names of tensors are compared when all are known
    }
    field_ = value;
    if (place_ == Place::kMetadata) {
      if (!metadata_keys_.insert(value).second) fail_duplicate(value);
      return true;
    }
    const auto* field = std::find(kFields.begin(), kFields.end(), value);
    if (field == kFields.end()) {
      fail(fmt::format("unknown field {}; expected dtype, shape and data_offsets",
                       quote_json(value)));
    }
    if (std::exchange(has_field_[static_cast<std::size_t>(field - kFields.begin())], true)) {
      fail_duplicate(value);
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
    if (place_ == Place::kOffsets) {
      if (num_offsets_ != 2) return unexpected("too few numbers");
      const auto [begin, end] = offsets_;
      if (end < begin) fail(fmt::format("data_offsets [{}, {}] end before they begin", begin, end));
      tensors_.back().offset = begin;
      tensors_.back().num_bytes = end - begin;
    }
    place_ = Place::kTensor;
    return true;
  }

  bool end_object() override {
    if (place_ == Place::kTensor) {
      for (std::size_t i = 0; i < kFields.size(); ++i) {
        if (!has_field_[i]) fail(fmt::format("{} is missing", kFields[i]));
      }
    }
    place_ = place_ == Place::kTop ? Place::kOutside : Place::kTop;
    return true;
  }

 private:
  static constexpr std::array<std::string_view, 3> kFields = {"dtype", "shape", "data_offsets"};
  enum class Place { kOutside, kTop, kMetadata, kTensor, kShape, kOffsets };

  [[noreturn]] void fail(const std::string& what) const {
    const bool in_entry = place_ != Place::kOutside && place_ != Place::kTop;
    throw Error(ErrorKind::kModel,
                in_entry ? fmt::format("{}: header: {}: {}", file_, quote_json(name_), what)
                         : fmt::format("{}: header: {}", file_, what));
  }
  [[noreturn]] void fail_duplicate(const std::string& key) const {
    fail(fmt::format("duplicate key {}", quote_json(key)));
  }
  [[noreturn]] bool unexpected(const char* found) const {
    switch (place_) {
      case Place::kOutside: fail(fmt::format("expected an object, found {}", found));
      case Place::kTop:
        fail(fmt::format("{}: expected an object, found {}", quote_json(name_), found));
      case Place::kMetadata:
        fail(fmt::format("{}: expected a string, found {}", quote_json(field_), found));
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
  std::string name_;                              // key of the top object
  std::string field_;                             // key of an entry
  std::array<bool, kFields.size()> has_field_{};  // of the entry that is open
  std::array<std::uint64_t, 2> offsets_{};
  std::size_t num_offsets_ = 0;
  bool has_metadata_ = false;
  std::unordered_set<std::string> metadata_keys_;
  std::vector<StoredTensor> tensors_;
};

[[noreturn]] void fail_tensor(const std::string& file, const StoredTensor& tensor,
                              const std::string& what) {
  throw Error(ErrorKind::kModel,
              fmt::format("{}: tensor {}: {}", file, quote_json(tensor.name), what));
}

// Bytes that the shape and dtype ask for.
std::uint64_t required_bytes(const std::string& file, const StoredTensor& tensor) {
  const auto shape = [&] { return fmt::format("[{}]", fmt::join(tensor.shape, ", ")); };
  std::uint64_t num_elements = 1;
  std::uint64_t num_bits = 0;
  bool overflows = false;
  for (const std::uint64_t extent : tensor.shape) {
    overflows = overflows || __builtin_mul_overflow(num_elements, extent, &num_elements);
  }
  overflows = overflows || __builtin_mul_overflow(num_elements, tensor.type->num_bits, &num_bits);
  if (overflows) fail_tensor(file, tensor, fmt::format("the shape {} overflows 64 bits", shape()));
  if (num_bits % 8 != 0) {
    fail_tensor(
        file, tensor,
        fmt::format("{} of shape {} is not a whole number of bytes", tensor.type->name, shape()));
  }
  return num_bits / 8;
}

void check_unique_names(const std::string& file, std::vector<StoredTensor>& tensors) {
  std::sort(tensors.begin(), tensors.end(),
            [](const auto& a, const auto& b) { return a.name < b.name; });
  const auto twin =
      std::adjacent_find(tensors.begin(), tensors.end(),
                         [](const auto& a, const auto& b) { return a.name == b.name; });
  if (twin == tensors.end()) return;
  throw Error(ErrorKind::kModel,
              fmt::format("{}: header: duplicate key {}", file, quote_json(twin->name)));
}

// That the tensors, in the order of their offsets, fill `data_size` bytes.
void check_layout(const std::string& file, const std::vector<StoredTensor>& tensors,
                  std::uint64_t data_size) {
  std::uint64_t expected_begin = 0;
  for (const StoredTensor& tensor : tensors) {
    const std::uint64_t begin = tensor.offset;
    const std::uint64_t end = begin + tensor.num_bytes;
    if (end > data_size) {
      fail_tensor(file, tensor,
                  fmt::format("data_offsets [{}, {}] do not lie in the {} data bytes", begin, end,
                              data_size));
    }
    if (begin != expected_begin) {
      fail_tensor(
          file, tensor,
          fmt::format("data begins at offset {}, expected {}: the file has {}", begin,
                      expected_begin, begin > expected_begin ? "a hole" : "overlapping tensors"));
    }
    const std::uint64_t num_bytes = required_bytes(file, tensor);
    if (num_bytes != tensor.num_bytes) {
      fail_tensor(file, tensor,
                  fmt::format("{} of shape [{}] takes {} bytes, but data_offsets [{}, {}] hold {}",
                              tensor.type->name, fmt::join(tensor.shape, ", "), num_bytes, begin,
                              end, tensor.num_bytes));
    }
    expected_begin = end;
  }
  if (expected_begin != data_size) {
    throw Error(ErrorKind::kModel,
                fmt::format("{}: the tensors end at data offset {}, but the file holds {} data "
                            "bytes",
                            file, expected_begin, data_size));
  }
}

}  // namespace

std::vector<StoredTensor> parse_safetensors_header(std::string_view header, const std::string& file,
                                                   std::uint64_t data_begin,
                                                   std::uint64_t data_size) {
  HeaderHandler handler(file);
  parse_json_events(header, file + ": header", kFileJson, handler);
  std::vector<StoredTensor> tensors = handler.take();
  check_unique_names(file, tensors);
  std::sort(tensors.begin(), tensors.end(), [](const auto& a, const auto& b) {
    return std::tie(a.offset, a.num_bytes, a.name) < std::tie(b.offset, b.num_bytes, b.name);
  });
  check_layout(file, tensors, data_size);
  for (StoredTensor& tensor : tensors) tensor.offset += data_begin;
  return tensors;
}

}  // namespace llmrun
