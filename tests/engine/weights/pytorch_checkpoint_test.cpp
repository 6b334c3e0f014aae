// Checkpoints of pytorch_model.bin files.

#include <filesystem>
#include <string>
#include <vector>

#include <doctest/doctest.h>
#include <fmt/format.h>

#include "engine/core/error.h"
#include "engine/weights/checkpoint.h"
#include "tests/support/safetensors_text.h"
#include "tests/support/temporary_folder.h"

namespace llmrun {
namespace {

namespace fs = std::filesystem;
using testing::make_safetensors;
using testing::TemporaryFolder;

// Written by scripts/make_pytorch_goldens.py.
const fs::path kData = fs::path(LLMRUN_SOURCE_DIR) / "tests/data/weights/pytorch";
const std::string kFirst = "pytorch_model-00001-of-00002.bin";
const std::string kSecond = "pytorch_model-00002-of-00002.bin";

// The message of opening a folder, without the folder.
std::string error_of(const TemporaryFolder& folder) {
  try {
    const Checkpoint checkpoint(folder.path());
    return "";
  } catch (const Error& error) {
    CHECK(error.kind() == ErrorKind::kModel);
    return std::string(error.what()).substr(folder.path().string().size() + 1);
  }
}

void copy_shards(const TemporaryFolder& folder) {
  for (const auto& entry : fs::directory_iterator(kData / "sharded")) {
    fs::copy(entry.path(), folder.path());
  }
}

void write_index(const TemporaryFolder& folder, const std::string& weight_map) {
  folder.write("pytorch_model.bin.index.json", R"({"weight_map":)" + weight_map + "}");
}

TEST_CASE("tensors of pytorch_model.bin are read by name and shape") {
  Checkpoint checkpoint(kData / "model");
  CHECK(checkpoint.main_dtype() == DType::kF32);
  CHECK(checkpoint.notes().empty());
  CHECK(checkpoint.require("embed.weight", {3, 4}).tensor().as<float>()[11] == 11.5F);
  CHECK(checkpoint.require("head.weight", {3, 4}).tensor().as<float>()[11] == 11.5F);
  const HostTensor view = checkpoint.require("view", {2, 2});
  CHECK(view.tensor().as<float>()[0] == 5.5F);
  CHECK(view.tensor().as<float>()[3] == 8.5F);
  CHECK(checkpoint.require("parameter", {2}).tensor().as<float>()[1] == 8.0F);
  CHECK(checkpoint.require("scalar", {}).tensor().as<float>()[0] == 3.0F);
  CHECK(checkpoint.require("bf16", {1, 2}).tensor().as<std::uint16_t>()[1] == 0x4000);
  CHECK(checkpoint.require("f16", {3}).tensor().dtype() == DType::kF16);
  CHECK_THROWS_WITH_AS(static_cast<void>(checkpoint.require("I64", {2})),
                       doctest::Contains("type I64; supported are F32, F16 and BF16"), Error);
  CHECK_THROWS_WITH_AS(static_cast<void>(checkpoint.require("row", {3})),
                       doctest::Contains("shape [1, 3], expected [3] by config.json"), Error);
  CHECK(checkpoint.unused_names() ==
        std::vector<std::string>{"BOOL", "F64", "I16", "I32", "I8", "U8", "empty", "untyped"});
}

TEST_CASE("the layout of the archive does not change the fingerprint") {
  const std::string fingerprint = Checkpoint(kData / "model").fingerprint();
  CHECK(fingerprint.size() == 16);
  CHECK(Checkpoint(kData / "zip").fingerprint() == fingerprint);
  CHECK(Checkpoint(kData / "zip64").fingerprint() == fingerprint);
  CHECK(Checkpoint(kData / "sharded").fingerprint() != fingerprint);
}

TEST_CASE("tensors of several pytorch_model files") {
  Checkpoint checkpoint(kData / "sharded");
  CHECK(checkpoint.notes().empty());
  CHECK(checkpoint.num_bytes() == 22);
  CHECK(checkpoint.require("a", {2, 2}).tensor().as<float>()[3] == 4.0F);
  CHECK(checkpoint.require("b", {1}).tensor().as<std::uint16_t>()[0] == 0x3f80);
  CHECK(checkpoint.require("c", {2}).tensor().as<std::uint16_t>()[0] == 0x3c00);
}

TEST_CASE("safetensors come first, then one file") {
  const TemporaryFolder folder;
  copy_shards(folder);
  CHECK(Checkpoint(folder.path()).contains("c"));
  fs::copy(kData / "model" / "pytorch_model.bin", folder.path());
  CHECK(Checkpoint(folder.path()).contains("scalar"));
  folder.write("one.safetensors", make_safetensors({{"s", "U8", {1}, "x"}}));
  folder.write("model.safetensors.index.json", R"({"weight_map":{"s":"one.safetensors"}})");
  CHECK(Checkpoint(folder.path()).contains("s"));
  folder.write("pytorch_model.bin", "not read");
  CHECK(error_of(folder) == "");
}

TEST_CASE("indexes of pytorch_model files that contradict them") {
  const TemporaryFolder folder;
  copy_shards(folder);
  const auto error = [&](const std::string& weight_map) {
    write_index(folder, weight_map);
    return error_of(folder);
  };
  const std::string prefix = "pytorch_model.bin.index.json: weight_map: ";
  const std::string both = fmt::format(R"("a":"{}","b":"{}","c":"{}")", kFirst, kFirst, kSecond);
  CHECK(error("{" + both + "}") == "");
  CHECK(error(fmt::format(R"({{{},"d":"{}"}})", both, kFirst)) ==
        fmt::format("{}d: not in {}", prefix, kFirst));
  CHECK(error(fmt::format(R"({{{},"d":"three.bin"}})", both))
            .starts_with(prefix + "1 of 3 files are missing: three.bin"));
  for (const char* name : {"../one.bin", "one.safetensors", ".bin", "/one.bin", "one.pkl"}) {
    CHECK(error(fmt::format(R"({{"a":"{}"}})", name))
              .ends_with("expected the plain name of a .bin file"));
  }
  CHECK(error("{}") == "pytorch_model.bin.index.json: weight_map: is empty");
  // The same tensors in both shards.
  fs::copy(folder.path() / kFirst, folder.path() / "copy.bin");
  CHECK(error(fmt::format(R"({{{},"b":"copy.bin"}})",
                          fmt::format(R"("a":"{}","c":"{}")", kFirst, kSecond)))
            .find("but also in") != std::string::npos);
}

TEST_CASE("a bad pytorch_model.bin is named") {
  const TemporaryFolder folder;
  fs::copy(kData / "refused" / "os_system.bin", folder.path() / "pytorch_model.bin");
  CHECK(error_of(folder).starts_with("pytorch_model.bin: offset "));
  CHECK(error_of(folder).find("global \"posix.system\" is not allowed") != std::string::npos);
}

}  // namespace
}  // namespace llmrun
