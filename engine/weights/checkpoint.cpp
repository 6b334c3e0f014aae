#include "engine/weights/checkpoint.h"

#include <algorithm>
#include <array>
#include <set>
#include <utility>

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <sys/mman.h>

#include "engine/core/counted.h"
#include "engine/core/cpu_info.h"
#include "engine/core/error.h"
#include "engine/core/file.h"
#include "engine/core/json.h"
#include "engine/core/sha256.h"
#include "engine/weights/model_location.h"
#include "engine/weights/pytorch_file.h"
#include "engine/weights/safetensors.h"

namespace llmrun {

struct WeightFormat {
  WeightFile (*open)(std::filesystem::path path);
  const char* single_file;
  const char* index_file;
  const char* suffix;  // of the files that an index names
};

namespace {

namespace fs = std::filesystem;

// In order of preference.
constexpr std::array kFormats = {
    WeightFormat{.open = open_safetensors,
                 .single_file = "model.safetensors",
                 .index_file = "model.safetensors.index.json",
                 .suffix = ".safetensors"},
    WeightFormat{.open = open_pytorch_file,
                 .single_file = "pytorch_model.bin",
                 .index_file = "pytorch_model.bin.index.json",
                 .suffix = ".bin"},
};

constexpr std::uint64_t kMaxIndexBytes = 64 << 20;
constexpr std::uint64_t kMaxConfigBytes = 16 << 20;
constexpr std::uint64_t kSampleBytes = 64;  // of each tensor, for the fingerprint
constexpr std::int64_t kReadBytes = 4
                                    << 20;  // a thread reads and checks at once; fits its L2 or L3
constexpr std::int32_t kMaxReadThreads = 8;
constexpr std::size_t kHugePageBytes = 2 << 20;

bool is_shard_name(const std::string& name, std::string_view suffix) {
  return name.size() > suffix.size() && name.ends_with(suffix) && name.front() != '.' &&
         name.find_first_of(std::string_view("/\\\0", 3)) == name.npos;
}

// Whether the exponent bits `mask` of some element are all set: NaN or infinity.
template <typename Bits>
bool has_exponent(std::span<const std::byte> bytes, Bits mask) {
  const Bits* bits = reinterpret_cast<const Bits*>(bytes.data());
  Bits found = 0;
  for (std::size_t i = 0; i < bytes.size() / sizeof(Bits); ++i) {
    found = static_cast<Bits>(found | static_cast<Bits>((bits[i] & mask) == mask));
  }
  return found != 0;
}

// bytes: whole elements of `dtype`.
bool is_finite(std::span<const std::byte> bytes, DType dtype) {
  switch (dtype) {
    case DType::kF32: return !has_exponent<std::uint32_t>(bytes, 0x7f800000U);
    case DType::kBf16: return !has_exponent<std::uint16_t>(bytes, 0x7f80U);
    case DType::kF16: return !has_exponent<std::uint16_t>(bytes, 0x7c00U);
    default: return true;
  }
}

bool is_floating_point(const StoredType& type) {
  return type.dtype == DType::kF32 || type.dtype == DType::kF16 || type.dtype == DType::kBf16;
}

}  // namespace

HostTensor::HostTensor(DType dtype, std::initializer_list<std::int64_t> shape)
    : tensor_(nullptr, dtype, shape) {
  const std::size_t num_bytes = tensor_.num_bytes();
  bytes_.reset(static_cast<std::byte*>(::operator new[](num_bytes, kAlignment)));
  // Fresh memory costs a fault a page: with pages of 4 KiB more than reading the file.
  if (num_bytes >= kHugePageBytes) madvise(bytes_.get(), num_bytes, MADV_HUGEPAGE);
  tensor_ = Tensor(bytes_.get(), dtype, shape);
}

Checkpoint::Checkpoint(const fs::path& folder, Options options)
    : folder_(folder), options_(options) {
  for (const WeightFormat& format : kFormats) {
    if (files_.empty()) open(format);
  }
  if (files_.empty()) fail_no_weights();
  for (const auto& [name, entry] : entries_) num_bytes_ += tensor_of(entry).num_bytes;
}

// Opens the files of one format, if there are any.
void Checkpoint::open(const WeightFormat& format) {
  // One file comes first, as in transformers.
  const fs::path path = model_file(folder_, format.single_file, options_.allow_symlinks);
  if (!path.empty()) return open_single_file(format, path);
  const fs::path index_path = model_file(folder_, format.index_file, options_.allow_symlinks);
  if (!index_path.empty()) open_index(format, index_path);
}

void Checkpoint::fail_no_weights() const {
  std::vector<std::string> names;
  for (const WeightFormat& format : kFormats) {
    names.insert(names.end(), {format.single_file, format.index_file});
  }
  throw Error(ErrorKind::kModel,
              fmt::format("{}: no weights: expected one of {}{}", folder_.string(),
                          fmt::join(names, ", "), download_hint(folder_)));
}

void Checkpoint::open_single_file(const WeightFormat& format, const fs::path& path) {
  files_.push_back(format.open(path));
  const auto& tensors = files_.back().tensors();
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    entries_[tensors[i].name] = {.file = 0, .index = i, .was_used = false};
  }
}

void Checkpoint::open_index(const WeightFormat& format, const fs::path& index_path) {
  const std::string place = (folder_ / format.index_file).string();
  const nlohmann::json json =
      parse_json(read_file(index_path, kMaxIndexBytes, ErrorKind::kModel), place);
  const JsonObject index(json, place);
  const JsonObject weight_map = index.get_object("weight_map");

  std::map<std::string, std::size_t> file_of_shard;
  for (const auto& [name, value] : weight_map.json().items()) {
    const std::string& shard = weight_map.get_string(name);
    if (!is_shard_name(shard, format.suffix)) {
      weight_map.fail(name, fmt::format("{}: expected the plain name of a {} file",
                                        describe_json(value), format.suffix));
    }
    file_of_shard.emplace(shard, 0);
  }
  if (file_of_shard.empty()) index.fail("weight_map", "is empty");

  std::vector<std::string> missing;
  std::vector<fs::path> paths;
  for (auto& [shard, file] : file_of_shard) {
    const fs::path path = model_file(folder_, shard, options_.allow_symlinks);
    if (path.empty()) missing.push_back(shard);
    file = paths.size();
    paths.push_back(path);
  }
  if (!missing.empty()) {
    throw Error(ErrorKind::kModel,
                fmt::format("{}: weight_map: {} of {} files are missing: {}; was the download "
                            "interrupted? Download the model again{}",
                            place, missing.size(), paths.size(), fmt::join(missing, ", "),
                            download_hint(folder_)));
  }
  files_.reserve(paths.size());
  std::map<std::string, Entry> found;
  std::set<std::string> extra;
  for (const auto& [shard, file] : file_of_shard) {
    files_.push_back(format.open(paths[file]));
    const auto& tensors = files_.back().tensors();
    for (std::size_t i = 0; i < tensors.size(); ++i) {
      const auto mapped = weight_map.json().find(tensors[i].name);
      if (mapped == weight_map.json().end()) {
        extra.insert(tensors[i].name);
      } else if (*mapped == shard) {
        found[tensors[i].name] = {.file = file, .index = i, .was_used = false};
      } else {
        weight_map.fail(tensors[i].name,
                        fmt::format("is in {}, but also in {}", mapped->get<std::string>(), shard));
      }
    }
  }
  for (const auto& [name, value] : weight_map.json().items()) {
    if (!found.contains(name)) {
      weight_map.fail(name, fmt::format("not in {}", value.get<std::string>()));
    }
  }
  entries_ = std::move(found);
  check_total_size(index, place);
  if (!extra.empty()) {
    notes_.push_back(fmt::format("{}: ignored {} that weight_map does not name: {}", place,
                                 counted(std::ssize(extra), "tensor"),
                                 describe_json(nlohmann::json(*extra.begin()))));
  }
}

// Tools count it in different ways (tied weights, padding), and every file has been checked by
// itself: a wrong one is worth a note, not an error.
void Checkpoint::check_total_size(const JsonObject& index, const std::string& place) {
  const auto metadata = index.find_object("metadata");
  if (!metadata) return;
  constexpr double kMaxSize = 0x1p62;
  const auto total_size = metadata->find_float("total_size", 0.0, kMaxSize);
  std::uint64_t num_bytes = 0;
  for (const auto& [name, entry] : entries_) num_bytes += tensor_of(entry).num_bytes;
  if (total_size && *total_size != static_cast<double>(num_bytes)) {
    notes_.push_back(
        fmt::format("{}: metadata: total_size is {:.0f}, but the tensors have {} bytes", place,
                    *total_size, num_bytes));
  }
}

DType Checkpoint::main_dtype() const {
  std::map<const StoredType*, std::uint64_t> bytes_of_type;
  for (const auto& [name, entry] : entries_) {
    bytes_of_type[tensor_of(entry).type] += tensor_of(entry).num_bytes;
  }
  const auto main =
      std::max_element(bytes_of_type.begin(), bytes_of_type.end(),
                       [](const auto& a, const auto& b) { return a.second < b.second; });
  if (main == bytes_of_type.end()) {
    throw Error(ErrorKind::kModel, fmt::format("{}: the weights are empty", folder_.string()));
  }
  if (!is_floating_point(*main->first)) {
    throw Error(ErrorKind::kModel,
                fmt::format("{}: most weights are {}; supported are F32, F16 and BF16",
                            folder_.string(), main->first->name));
  }
  return *main->first->dtype;
}

StoredTensorReader Checkpoint::find(const std::string& name,
                                    std::initializer_list<std::int64_t> shape) {
  const auto it = entries_.find(name);
  if (it == entries_.end()) {
    throw Error(ErrorKind::kModel, fmt::format("{}: tensor {} is missing; expected shape [{}]",
                                               folder_.string(), name, fmt::join(shape, ", ")));
  }
  it->second.was_used = true;
  const WeightFile& file = files_[it->second.file];
  const StoredTensor& tensor = tensor_of(it->second);
  const auto fail = [&](const std::string& what) {
    throw Error(ErrorKind::kModel, fmt::format("{}: tensor {} at offset {}: {}",
                                               file.path().string(), name, tensor.offset, what));
  };
  const auto is_extent = [](std::uint64_t found, std::int64_t expected) {
    return std::cmp_equal(found, expected);
  };
  if (!std::equal(tensor.shape.begin(), tensor.shape.end(), shape.begin(), shape.end(),
                  is_extent)) {
    fail(fmt::format("shape [{}], expected [{}] by config.json", fmt::join(tensor.shape, ", "),
                     fmt::join(shape, ", ")));
  }
  if (!is_floating_point(*tensor.type)) {
    fail(fmt::format("type {}; supported are F32, F16 and BF16", tensor.type->name));
  }
  return {*this, file, tensor};
}

HostTensor Checkpoint::require(const std::string& name, std::initializer_list<std::int64_t> shape) {
  const StoredTensorReader tensor = find(name, shape);
  HostTensor result(tensor.dtype(), shape);
  const std::span bytes(result.bytes_.get(), static_cast<std::size_t>(tensor.num_bytes()));
  // One thread reads a page cache, or touches fresh memory, much slower than a bus or a good disk.
  readers().parallel_ranges(static_cast<std::int64_t>(bytes.size()), kReadBytes,
                            [&](std::int64_t begin, std::int64_t end, std::int32_t /*thread*/) {
                              tensor.read(static_cast<std::uint64_t>(begin),
                                          bytes.subspan(static_cast<std::size_t>(begin),
                                                        static_cast<std::size_t>(end - begin)));
                            });
  return result;
}

void StoredTensorReader::read(std::uint64_t begin, std::span<std::byte> out) const {
  file_->read(*tensor_, begin, out);
  if (!is_finite(out, dtype())) checkpoint_->note_not_finite(*file_, *tensor_);
}

void Checkpoint::note_not_finite(const WeightFile& file, const StoredTensor& tensor) {
  const std::lock_guard lock(notes_mutex_);
  if (!noted_not_finite_.insert(&tensor).second) return;
  notes_.push_back(fmt::format("{}: tensor {} holds NaN or infinity: requests will fail",
                               file.path().string(), tensor.name));
}

ThreadPool& Checkpoint::readers() {
  if (!readers_) {
    readers_ = std::make_unique<ThreadPool>(ThreadPoolOptions{
        .num_threads = std::min(kMaxReadThreads, default_num_threads()), .spin_us = 0});
  }
  return *readers_;
}

void Checkpoint::ignore(const std::string& name) {
  if (const auto it = entries_.find(name); it != entries_.end()) it->second.was_used = true;
}

std::vector<std::string> Checkpoint::unused_names() const {
  std::vector<std::string> names;
  for (const auto& [name, entry] : entries_) {
    if (!entry.was_used) names.push_back(name);
  }
  return names;
}

std::string Checkpoint::fingerprint() const {
  Sha256 hash;
  // The length goes in too: "a", "bc" is not "ab", "c".
  const auto add = [&hash](std::string_view text) {
    hash.update(fmt::format("{}:", text.size()));
    hash.update(text);
  };
  const fs::path config = model_file(folder_, "config.json", options_.allow_symlinks);
  if (!config.empty()) add(read_file(config, kMaxConfigBytes, ErrorKind::kModel));
  for (const auto& [name, entry] : entries_) {
    const StoredTensor& tensor = tensor_of(entry);
    add(name);
    add(fmt::format("{} [{}]", tensor.type->name, fmt::join(tensor.shape, ",")));
    std::string sample(std::min<std::uint64_t>(kSampleBytes, tensor.num_bytes), '\0');
    files_[entry.file].read(tensor, (tensor.num_bytes - sample.size()) / 2,
                            std::as_writable_bytes(std::span(sample)));
    add(sample);
  }
  const Sha256Digest digest = hash.finish();
  return to_hex(std::span(digest).first(8));
}

}  // namespace llmrun
