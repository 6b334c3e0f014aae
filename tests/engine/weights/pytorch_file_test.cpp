#include "engine/weights/pytorch_file.h"

#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <string_view>
#include <vector>

#include <doctest/doctest.h>
#include <fmt/format.h>

#include "engine/core/error.h"
#include "engine/core/file.h"
#include "engine/core/json.h"
#include "tests/support/temporary_folder.h"

namespace llmrun {
namespace {

namespace fs = std::filesystem;
using testing::TemporaryFolder;

// Written by scripts/make_pytorch_goldens.py.
const fs::path kData = fs::path(LLMRUN_SOURCE_DIR) / "tests/data/weights/pytorch";

std::string bytes_of(const fs::path& path) {
  return read_file(path, 1 << 20, ErrorKind::kModel);
}

std::string to_hex_text(const WeightFile& file, const StoredTensor& tensor) {
  std::vector<std::byte> bytes(tensor.num_bytes);
  file.read(tensor, 0, bytes);
  std::string text;
  for (const std::byte byte : bytes) text += fmt::format("{:02x}", std::to_integer<int>(byte));
  return text;
}

// What opening a file and reading all of it says, without its path; "" when that works.
std::string error_of(const fs::path& path) {
  try {
    const WeightFile file = open_pytorch_file(path);
    for (const StoredTensor& tensor : file.tensors()) to_hex_text(file, tensor);
    return "";
  } catch (const Error& error) {
    CHECK(error.kind() == ErrorKind::kModel);
    const std::string message = error.what();
    REQUIRE(message.starts_with(path.string() + ": "));
    return message.substr(path.string().size() + 2);
  }
}

std::string error_of(const TemporaryFolder& folder, std::string_view bytes) {
  fs::remove(folder.path() / "file.bin");  // file systems wait for the disk when one is overwritten
  return error_of(folder.write("file.bin", bytes));
}

TEST_CASE("each dtype, views and shared storages, in each layout of the archive") {
  const nlohmann::json expected =
      parse_json(bytes_of(kData / "expected.json"), "expected.json")["model"];
  for (const char* folder : {"model", "zip", "zip64"}) {
    CAPTURE(folder);
    const WeightFile file = open_pytorch_file(kData / folder / "pytorch_model.bin");
    CHECK(file.tensors().size() == expected.size());
    for (const StoredTensor& tensor : file.tensors()) {
      CAPTURE(tensor.name);
      REQUIRE(expected.contains(tensor.name));
      CHECK(expected[tensor.name] ==
            nlohmann::json{tensor.type->name, tensor.shape, to_hex_text(file, tensor)});
    }
  }
}

TEST_CASE("part of a tensor") {
  const WeightFile file = open_pytorch_file(kData / "model" / "pytorch_model.bin");
  for (const StoredTensor& tensor : file.tensors()) {
    if (tensor.name != "view") continue;
    std::vector<std::byte> bytes(4);
    file.read(tensor, 8, bytes);
    CHECK(bytes == std::vector<std::byte>{std::byte{0}, std::byte{0}, std::byte{0xf0},
                                          std::byte{0x40}});  // 7.5, element 5 + 2
  }
}

TEST_CASE("what a state dict does not need is refused") {
  struct Case {
    const char* name;
    const char* part;  // of the message
  };
  const Case cases[] = {
      {"os_system", R"((pickle): global "posix.system" is not allowed)"},
      {"builtins_eval", R"((pickle): global "__builtin__.eval" is not allowed)"},
      {"hooks", R"((pickle): global "__builtin__.print" is not allowed)"},
      {"rebuild_tensor_v3", R"(global "torch._utils._rebuild_tensor_v3" is not allowed)"},
      {"metadata_of_tensor", R"(tensor "a": 7 arguments, expected 6; load it with torch)"},
      {"call_of_storage", "REDUCE of torch.FloatStorage with 1 arguments is not allowed"},
      {"transposed", R"(tensor "a": shape [2, 2] with strides [1, 2] is not row-major)"},
      {"expanded", R"(tensor "a": shape [4] with strides [0] is not row-major)"},
      {"beyond_storage", "shape [2, 2] from element 1 on does not lie in the 4 elements"},
      {"negative_offset", R"(tensor "a": offset in the storage: -1 is negative)"},
      {"huge_shape", "the shape [4611686018427387904, 4611686018427387904] overflows 64 bits"},
      {"nested", R"(tensor "state_dict": expected a tensor, found a dictionary)"},
      {"list", "expected a dictionary of tensors, found a list"},
      {"number_as_key", "expected the name of a tensor, found an integer"},
      {"protocol_4", "a pickle of protocol 4; torch.save writes 2"},
      {"big_endian", "byteorder is not little"},
      {"compressed", R"(member "pytorch_model/data.pkl": compressed (method 8))"},
      {"no_storage", R"(tensor "a": no member data/0 in the archive)"},
      {"short_storage", R"(tensor "a": a storage of 4 elements, but data/0 holds 3)"},
      {"no_pickle", "no member data.pkl"},
      {"two_pickles", "more than one member data.pkl"},
      {"twice", R"(member "archive/data/0" occurs twice)"},
      {"torchscript", "a TorchScript archive, which is not read"},
      {"legacy",
       "the format of torch before 1.6, which is not read; load it with torch and convert"},
  };
  std::size_t num_files = 0;
  for (const auto& entry : fs::directory_iterator(kData / "refused")) num_files += entry.exists();
  CHECK(num_files == std::size(cases));
  for (const Case& refused : cases) {
    const std::string message = error_of(kData / "refused" / (std::string(refused.name) + ".bin"));
    CHECK_MESSAGE(message.find(refused.part) != std::string::npos, refused.name << ": " << message);
  }
}

TEST_CASE("what is no archive") {
  const TemporaryFolder folder;
  CHECK(error_of(folder, "") == "offset 0: expected a zip archive, as torch.save writes since 1.6");
  CHECK(error_of(folder, "version https://git-lfs.github.com/spec/v1\n")
            .starts_with("a pointer of Git LFS"));
  std::string tar(512, '\0');
  tar.replace(257, 5, "ustar");
  CHECK(error_of(folder, tar).starts_with("the format of torch before 1.6"));
  CHECK(error_of(folder, "PK\x03\x04") ==
        "no end of a zip archive; the file is cut or is not what torch.save writes");
  CHECK(error_of(folder.path() / "none") == "cannot open: No such file or directory");
}

TEST_CASE("a directory that contradicts the archive") {
  const TemporaryFolder folder;
  const std::string whole = bytes_of(kData / "sharded" / "pytorch_model-00002-of-00002.bin");
  REQUIRE(error_of(folder, whole) == "");
  const std::size_t entry = whole.find("PK\x01\x02");
  const std::size_t record = whole.find("PK\x06\x06");
  const auto with = [&](std::size_t at, std::string_view bytes) {
    std::string changed = whole;
    return changed.replace(at, bytes.size(), bytes);
  };
  const auto starts = [&](const std::string& bytes, const std::string& what) {
    const std::string message = error_of(folder, bytes);
    CHECK_MESSAGE(message.find(what) != std::string::npos, message);
  };
  starts(with(entry + 8, "\x01"), "flags 0x0801: encrypted");
  starts(with(entry + 20, "\x01"), "bytes, stored as");
  starts(with(entry + 24, std::string(4, '\xff')), "bytes, stored as");  // without a zip64 field
  starts(with(entry + 42, "\x01"), "expected the header of member");
  starts(with(entry + 28, "\xff\xff"), "the entry does not lie in the zip directory");
  starts(with(record + 32, "\x09"), "entries, expected 9");
  starts(with(record + 40, "\x09"), "the zip directory is said to be 9 bytes");
  starts("PK\x03\x04" + whole, "expected a zip64 record");
  const std::string second(whole.substr(whole.find("PK\x01\x02", entry + 1) + 42, 4));
  starts(with(entry + 42, second), "expected the header of member");
}

TEST_CASE("a file cut at any byte is refused") {
  const TemporaryFolder folder;
  for (const char* name : {"model/pytorch_model.bin", "zip/pytorch_model.bin"}) {
    const std::string whole = bytes_of(kData / name);
    for (std::size_t size = 0; size < whole.size(); ++size) {
      CAPTURE(size);
      CHECK(error_of(folder, std::string_view(whole).substr(0, size)) != "");
    }
    CHECK(error_of(folder, whole + "x") != "");
  }
}

TEST_CASE("a changed byte is refused or harmless") {
  const TemporaryFolder folder;
  const auto change = [&](const fs::path& path, const std::vector<int>& masks) {
    const std::string whole = bytes_of(path);
    for (std::size_t i = 0; i < whole.size(); ++i) {
      for (const int mask : masks) {
        std::string changed = whole;
        changed[i] = static_cast<char>(changed[i] ^ mask);
        error_of(folder, changed);  // an Error of the right kind, or none
      }
    }
  };
  change(kData / "sharded" / "pytorch_model-00002-of-00002.bin", {1, 2, 4, 8, 16, 32, 64, 128});
  change(kData / "zip64" / "pytorch_model.bin", {1, 0xff});
  change(kData / "zip" / "pytorch_model.bin", {0x80});
}

TEST_CASE("a file that changes under the reader is noticed") {
  const TemporaryFolder folder;
  const fs::path path =
      folder.write("file.bin", bytes_of(kData / "sharded" / "pytorch_model-00002-of-00002.bin"));
  const WeightFile file = open_pytorch_file(path);
  std::vector<std::byte> bytes(file.tensors()[0].num_bytes);
  file.read(file.tensors()[0], 0, bytes);
  fs::resize_file(path, fs::file_size(path) + 1);
  CHECK_THROWS_AS(file.read(file.tensors()[0], 0, bytes), Error);
  fs::resize_file(path, 1);
  CHECK_THROWS_AS(file.read(file.tensors()[0], 0, bytes), Error);
}

}  // namespace
}  // namespace llmrun
