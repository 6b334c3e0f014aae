#include "engine/weights/pytorch_file.h"

#include <algorithm>
#include <array>
#include <string>
#include <string_view>
#include <tuple>
#include <unordered_set>
#include <utility>
#include <vector>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "engine/core/error.h"
#include "engine/core/json.h"
#include "engine/weights/pickle_reader.h"
#include "engine/weights/random_access_file.h"
#include "engine/weights/zip_archive.h"

namespace llmrun {
namespace {

constexpr std::uint64_t kMaxPickleBytes = 64 << 20;
constexpr std::size_t kMaxRank = 16;
constexpr const char* kConvert =
    "load it with torch and convert it to model.safetensors (save_pretrained() of transformers "
    "writes it)";

constexpr std::array kStorageTypes = {
    StoredType{"F32", 32, DType::kF32},
    StoredType{"F16", 16, DType::kF16},
    StoredType{"BF16", 16, DType::kBf16},
    StoredType{"F64", 64},
    StoredType{"I64", 64, DType::kI64},
    StoredType{"I32", 32, DType::kI32},
    StoredType{"I16", 16},
    StoredType{"I8", 8},
    StoredType{"U8", 8, DType::kU8},
    StoredType{"BOOL", 8},
};

// All that a state dict may name. Storages are in the order of kStorageTypes; the last two are
// untyped.
constexpr std::size_t kRebuildTensor = 1;
constexpr std::size_t kRebuildParameter = 2;
constexpr std::size_t kFirstStorage = 3;
constexpr std::size_t kBytes = 8;  // in kStorageTypes
constexpr std::array kGlobals = {
    PickleGlobal{"collections", "OrderedDict", PickleUse::kDict},
    PickleGlobal{"torch._utils", "_rebuild_tensor_v2", PickleUse::kCall},
    PickleGlobal{"torch._utils", "_rebuild_parameter", PickleUse::kCall},
    PickleGlobal{"torch", "FloatStorage"},
    PickleGlobal{"torch", "HalfStorage"},
    PickleGlobal{"torch", "BFloat16Storage"},
    PickleGlobal{"torch", "DoubleStorage"},
    PickleGlobal{"torch", "LongStorage"},
    PickleGlobal{"torch", "IntStorage"},
    PickleGlobal{"torch", "ShortStorage"},
    PickleGlobal{"torch", "CharStorage"},
    PickleGlobal{"torch", "ByteStorage"},
    PickleGlobal{"torch", "BoolStorage"},
    PickleGlobal{"torch", "UntypedStorage"},
    PickleGlobal{"torch.storage", "UntypedStorage"},
};

// Says what a file is that is no zip archive.
void check_is_zip(const RandomAccessFile& file) {
  constexpr std::uint64_t kHeadBytes = 512;
  const std::string head = file.read_text(0, std::min<std::uint64_t>(kHeadBytes, file.num_bytes()));
  if (head.starts_with("PK\x03\x04")) return;
  if (head.starts_with("version https://git-lfs")) {
    file.fail("a pointer of Git LFS, not the file itself; run git lfs pull");
  }
  constexpr std::size_t kTarMagic = 257;
  if (head.starts_with("\x80\x02\x8a\x0a") ||
      (head.size() > kTarMagic && head.compare(kTarMagic, 5, "ustar") == 0)) {
    file.fail(fmt::format("the format of torch before 1.6, which is not read; {}", kConvert));
  }
  file.fail("offset 0: expected a zip archive, as torch.save writes since 1.6");
}

// The storages and the pickle of one archive.
class Archive {
 public:
  explicit Archive(const RandomAccessFile& file) : file_(file), members_(read_zip_members(file)) {
    constexpr std::string_view kPickle = "/data.pkl";
    for (const ZipMember& member : members_) {
      if (!member.name.ends_with(kPickle)) continue;
      if (pickle_ != nullptr) file_.fail("more than one member data.pkl");
      pickle_ = &member;
      prefix_ = member.name.substr(0, member.name.size() - kPickle.size());
    }
    if (pickle_ == nullptr) file_.fail("no member data.pkl; expected what torch.save writes");
    if (find(prefix_ + "/constants.pkl") != nullptr) {
      file_.fail(fmt::format("a TorchScript archive, which is not read; {}", kConvert));
    }
    if (pickle_->num_bytes > kMaxPickleBytes) {
      file_.fail(fmt::format("offset {}: data.pkl has {} bytes, supported are {}", pickle_->offset,
                             pickle_->num_bytes, kMaxPickleBytes));
    }
    check_byte_order();
  }

  const ZipMember& pickle() const { return *pickle_; }

  // nullptr if there is none.
  const ZipMember* find_storage(std::string_view key) const {
    return find(fmt::format("{}/data/{}", prefix_, key));
  }

 private:
  const ZipMember* find(const std::string& name) const {
    const auto it = std::lower_bound(
        members_.begin(), members_.end(), name,
        [](const ZipMember& member, const std::string& key) { return member.name < key; });
    return it != members_.end() && it->name == name ? &*it : nullptr;
  }

  void check_byte_order() const {
    constexpr std::string_view kLittle = "little";
    const ZipMember* member = find(prefix_ + "/byteorder");
    if (member == nullptr) return;  // before torch 2.1
    if (member->num_bytes != kLittle.size() ||
        file_.read_text(member->offset, kLittle.size()) != kLittle) {
      file_.fail(fmt::format("offset {}: byteorder is not little", member->offset));
    }
  }

  const RandomAccessFile& file_;
  std::vector<ZipMember> members_;
  const ZipMember* pickle_ = nullptr;
  std::string prefix_;
};

// Makes tensors of the values of a pickle.
class StateDict {
 public:
  StateDict(const RandomAccessFile& file, const Archive& archive, const Pickle& pickle)
      : file_(file), archive_(archive), pickle_(pickle) {}

  std::vector<StoredTensor> read() {
    const PickleValue& root = value(pickle_.root);
    if (root.kind != PickleKind::kDict) {
      fail(root, fmt::format("expected a dictionary of tensors, found {}", to_string(root.kind)));
    }
    std::vector<StoredTensor> tensors;
    std::unordered_set<std::string_view> names;
    for (std::size_t i = 0; i < root.items.size(); i += 2) {
      const PickleValue& key = value(root.items[i]);
      if (key.kind != PickleKind::kString) {
        fail(key, fmt::format("expected the name of a tensor, found {}", to_string(key.kind)));
      }
      name_ = key.text;
      if (!names.insert(name_).second) fail(key, "is there twice");
      tensors.push_back(read_entry(value(root.items[i + 1])));
    }
    return tensors;
  }

 private:
  struct Storage {
    const StoredType* type = nullptr;
    const ZipMember* member = nullptr;
    std::uint64_t num_elements = 0;
  };

  const PickleValue& value(PickleIndex index) const { return pickle_.values[index]; }

  [[noreturn]] void fail(const PickleValue& at, const std::string& what) const {
    file_.fail(name_.empty()
                   ? fmt::format("offset {}: {}", at.offset, what)
                   : fmt::format("offset {}: tensor {}: {}", at.offset, quote_json(name_), what));
  }

  // The arguments of a call of `global`; nothing if it is none.
  const std::vector<PickleIndex>* find_call(const PickleValue& call, std::size_t global) const {
    if (call.kind != PickleKind::kCall) return nullptr;
    if (!std::cmp_equal(value(call.items[0]).integer, global)) return nullptr;
    return &value(call.items[1]).items;
  }

  StoredTensor read_entry(const PickleValue& entry) const {
    if (const auto* arguments = find_call(entry, kRebuildParameter)) {
      if (arguments->size() != 3) fail(entry, "expected a parameter of 3 arguments");
      return read_tensor(value((*arguments)[0]));
    }
    return read_tensor(entry);
  }

  // _rebuild_tensor_v2(storage, offset, shape, strides, requires_grad, hooks)
  StoredTensor read_tensor(const PickleValue& call) const {
    const auto* arguments = find_call(call, kRebuildTensor);
    if (arguments == nullptr) {
      fail(call, fmt::format("expected a tensor, found {}", to_string(call.kind)));
    }
    if (arguments->size() != 6) {
      fail(call, fmt::format("{} arguments, expected 6; {}", arguments->size(), kConvert));
    }
    const Storage storage = read_storage(value((*arguments)[0]));
    const std::uint64_t begin = read_integer(value((*arguments)[1]), "offset in the storage");
    const std::vector<std::uint64_t> strides = read_integers(value((*arguments)[3]), "strides");
    StoredTensor tensor{.name = std::string(name_),
                        .type = storage.type,
                        .shape = read_integers(value((*arguments)[2]), "shape")};
    const std::uint64_t num_elements = check_contiguous(call, tensor.shape, strides);
    if (begin > storage.num_elements || num_elements > storage.num_elements - begin) {
      fail(call, fmt::format("shape [{}] from element {} on does not lie in the {} elements of its "
                             "storage",
                             fmt::join(tensor.shape, ", "), begin, storage.num_elements));
    }
    // No overflow: both lie in the file.
    const std::uint64_t element_bytes = storage.type->num_bits / 8;
    tensor.offset = storage.member->offset + begin * element_bytes;
    tensor.num_bytes = num_elements * element_bytes;
    return tensor;
  }

  // ("storage", class, key, device, number of elements)
  Storage read_storage(const PickleValue& persistent) const {
    if (persistent.kind != PickleKind::kPersistent) {
      fail(persistent, fmt::format("expected a storage, found {}", to_string(persistent.kind)));
    }
    const PickleValue& id = value(persistent.items[0]);
    const auto is = [&](std::size_t i, PickleKind kind) { return value(id.items[i]).kind == kind; };
    if (id.kind != PickleKind::kTuple || id.items.size() != 5 || !is(0, PickleKind::kString) ||
        value(id.items[0]).text != "storage" || !is(1, PickleKind::kGlobal) ||
        !is(2, PickleKind::kString) || !is(3, PickleKind::kString)) {
      fail(persistent, "expected a storage of the form ('storage', class, key, device, size)");
    }
    const auto global = static_cast<std::size_t>(value(id.items[1]).integer);
    if (global < kFirstStorage) fail(persistent, "the class of the storage is none");
    const std::size_t type = global - kFirstStorage;
    Storage storage{.type = &kStorageTypes[type < kStorageTypes.size() ? type : kBytes],
                    .member = archive_.find_storage(value(id.items[2]).text),
                    .num_elements = read_integer(value(id.items[4]), "size of the storage")};
    if (storage.member == nullptr) {
      fail(persistent, fmt::format("no member data/{} in the archive", value(id.items[2]).text));
    }
    const std::uint64_t num_stored = storage.member->num_bytes / (storage.type->num_bits / 8);
    if (storage.num_elements != num_stored) {
      fail(persistent, fmt::format("a storage of {} elements, but data/{} holds {}",
                                   storage.num_elements, value(id.items[2]).text, num_stored));
    }
    return storage;
  }

  std::uint64_t read_integer(const PickleValue& number, const char* what) const {
    if (number.kind != PickleKind::kInteger) {
      fail(number, fmt::format("{}: expected an integer, found {}", what, to_string(number.kind)));
    }
    if (number.integer < 0) fail(number, fmt::format("{}: {} is negative", what, number.integer));
    return static_cast<std::uint64_t>(number.integer);
  }

  std::vector<std::uint64_t> read_integers(const PickleValue& tuple, const char* what) const {
    if (tuple.kind != PickleKind::kTuple) {
      fail(tuple, fmt::format("{}: expected a tuple, found {}", what, to_string(tuple.kind)));
    }
    if (tuple.items.size() > kMaxRank) {
      fail(tuple,
           fmt::format("{}: {} dimensions, supported are {}", what, tuple.items.size(), kMaxRank));
    }
    std::vector<std::uint64_t> integers;
    integers.reserve(tuple.items.size());
    for (const PickleIndex item : tuple.items) integers.push_back(read_integer(value(item), what));
    return integers;
  }

  // That the elements follow each other in row-major order. Returns their number.
  std::uint64_t check_contiguous(const PickleValue& call, const std::vector<std::uint64_t>& shape,
                                 const std::vector<std::uint64_t>& strides) const {
    if (shape.size() != strides.size()) {
      fail(call, fmt::format("{} dimensions, but {} strides", shape.size(), strides.size()));
    }
    std::uint64_t num_elements = 1;
    for (const std::uint64_t extent : shape) {
      if (__builtin_mul_overflow(num_elements, extent, &num_elements)) {
        fail(call, fmt::format("the shape [{}] overflows 64 bits", fmt::join(shape, ", ")));
      }
    }
    if (num_elements == 0) return 0;
    std::uint64_t expected = 1;
    for (std::size_t i = shape.size(); i-- > 0;) {
      if (shape[i] != 1 && strides[i] != expected) {
        fail(call, fmt::format("shape [{}] with strides [{}] is not row-major; {}",
                               fmt::join(shape, ", "), fmt::join(strides, ", "), kConvert));
      }
      expected *= shape[i];
    }
    return num_elements;
  }

  const RandomAccessFile& file_;
  const Archive& archive_;
  const Pickle& pickle_;
  std::string_view name_;  // of the tensor that is being read
};

}  // namespace

WeightFile open_pytorch_file(std::filesystem::path path) {
  RandomAccessFile file(std::move(path));
  check_is_zip(file);
  const Archive archive(file);
  const ZipMember& member = archive.pickle();
  const std::string bytes = file.read_text(member.offset, member.num_bytes);
  const Pickle pickle = read_pickle(bytes, file.path().string(), member.offset, kGlobals);
  std::vector<StoredTensor> tensors = StateDict(file, archive, pickle).read();
  std::sort(tensors.begin(), tensors.end(), [](const auto& a, const auto& b) {
    return std::tie(a.offset, a.num_bytes, a.name) < std::tie(b.offset, b.num_bytes, b.name);
  });
  file.check_unchanged();
  return {std::move(file), std::move(tensors)};
}

}  // namespace llmrun
