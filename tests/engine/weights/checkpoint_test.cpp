#include "engine/weights/checkpoint.h"

#include <cstring>
#include <filesystem>
#include <string>
#include <vector>

#include <doctest/doctest.h>
#include <sys/stat.h>

#include "engine/core/error.h"
#include "tests/support/safetensors_text.h"
#include "tests/support/temporary_folder.h"

namespace llmrun {
namespace {

namespace fs = std::filesystem;
using testing::make_safetensors;
using testing::TemporaryFolder;

const std::string kOneToFour("\x00\x00\x80\x3f\x00\x00\x00\x40\x00\x00\x40\x40\x00\x00\x80\x40",
                             16);

// What opening a checkpoint says, without the folder; "" when it opens.
std::string error_of(const TemporaryFolder& folder, Checkpoint::Options options = {}) {
  try {
    const Checkpoint checkpoint(folder.path(), options);
    return "";
  } catch (const Error& error) {
    CHECK(error.kind() == ErrorKind::kModel);
    std::string message = error.what();
    const std::string prefix = folder.path().string();
    REQUIRE(message.starts_with(prefix));
    message.erase(0, prefix.size());
    if (message.starts_with("/")) message.erase(0, 1);
    return message;
  }
}

template <typename Action>
std::string message_of(const Action& action) {
  try {
    action();
  } catch (const Error& error) {
    CHECK(error.kind() == ErrorKind::kModel);
    return error.what();
  }
  return "";
}

// Two shards with tensors "a" (F32 [2, 2]) and "b" (U8 [3]).
void write_two_shards(const TemporaryFolder& folder) {
  folder.write("one.safetensors", make_safetensors({{"a", "F32", {2, 2}, kOneToFour}}));
  folder.write("two.safetensors", make_safetensors({{"b", "U8", {3}, "xyz"}}));
}

void write_index(const TemporaryFolder& folder, const std::string& weight_map) {
  folder.write("model.safetensors.index.json", R"({"weight_map":)" + weight_map + "}");
}

TEST_CASE("tensors of one file are read by name and shape") {
  const TemporaryFolder folder;
  folder.write("model.safetensors",
               make_safetensors({{"scalar", "F32", {}, kOneToFour.substr(4, 4)},
                                 {"matrix", "F32", {2, 2}, kOneToFour},
                                 {"half", "BF16", {1, 2, 1}, std::string("\x80\x3f\x00\x40", 4)},
                                 {"bytes", "U8", {3}, "xyz"}}));
  Checkpoint checkpoint(folder.path());
  CHECK(checkpoint.num_bytes() == 27);
  CHECK(checkpoint.notes().empty());
  CHECK(checkpoint.contains("half"));
  CHECK_FALSE(checkpoint.contains("halves"));
  CHECK(checkpoint.main_dtype() == DType::kF32);

  const HostTensor matrix = checkpoint.require("matrix", {2, 2});
  CHECK(matrix.tensor().dtype() == DType::kF32);
  CHECK(matrix.tensor().rank() == 2);
  CHECK(reinterpret_cast<std::uintptr_t>(matrix.tensor().data()) % 64 == 0);
  CHECK(matrix.tensor().as<float>()[0] == 1.0F);
  CHECK(matrix.tensor().as<float>()[3] == 4.0F);
  CHECK(checkpoint.require("scalar", {}).tensor().as<float>()[0] == 2.0F);
  CHECK(checkpoint.require("half", {1, 2, 1}).tensor().as<std::uint16_t>()[1] == 0x4000);

  CHECK(checkpoint.unused_names() == std::vector<std::string>{"bytes"});
  checkpoint.ignore("bytes");
  checkpoint.ignore("not there");
  CHECK(checkpoint.unused_names().empty());
}

TEST_CASE("what is not there, or not as expected") {
  const TemporaryFolder folder;
  folder.write("model.safetensors", make_safetensors({{"matrix", "F32", {2, 2}, kOneToFour},
                                                      {"bytes", "U8", {3}, "xyz"}}));
  Checkpoint checkpoint(folder.path());
  const std::string file = (folder.path() / "model.safetensors").string();
  CHECK(message_of([&] {
          checkpoint.require("matrices", {2, 2});
        }) == folder.path().string() + ": tensor matrices is missing; expected shape [2, 2]");
  const std::uint64_t offset = fs::file_size(file) - 19;
  CHECK(message_of([&] { checkpoint.require("matrix", {4}); }) ==
        fmt::format("{}: tensor matrix at offset {}: shape [2, 2], expected [4] by config.json",
                    file, offset));
  CHECK(message_of([&] { checkpoint.require("matrix", {2, 3}); }) != "");
  CHECK(message_of([&] { checkpoint.require("matrix", {2, 2, 1}); }) != "");
  CHECK(message_of([&] { checkpoint.require("matrix", {-2, -2}); }) != "");
  CHECK(message_of([&] { checkpoint.require("bytes", {3}); }) ==
        fmt::format("{}: tensor bytes at offset {}: type U8; supported are F32, F16 and BF16", file,
                    offset + 16));
}

TEST_CASE("NaN and infinity among the weights are worth a note") {
  const TemporaryFolder folder;
  const auto notes_of = [&](const std::string& dtype, std::int64_t size, const std::string& bytes) {
    folder.write("model.safetensors", make_safetensors({{"w", dtype, {size}, bytes}}));
    Checkpoint checkpoint(folder.path());
    static_cast<void>(checkpoint.require("w", {size}));
    return checkpoint.notes();
  };
  const std::string note = (folder.path() / "model.safetensors").string() +
                           ": tensor w holds NaN or infinity: requests will fail";
  CHECK(notes_of("F32", 2, std::string("\xff\xff\x7f\x7f\0\0\0\x80", 8)).empty());
  CHECK(notes_of("F32", 2, std::string("\0\0\0\0\0\0\x80\xff", 8)) == std::vector{note});
  CHECK(notes_of("F32", 1, std::string("\x01\0\x80\x7f", 4)) == std::vector{note});
  CHECK(notes_of("BF16", 2, std::string("\x7f\x7f\x80\x80", 4)).empty());
  CHECK(notes_of("BF16", 2, std::string("\0\0\x80\x7f", 4)) == std::vector{note});
  CHECK(notes_of("F16", 2, std::string("\xff\x7b\x80\x80", 4)).empty());
  CHECK(notes_of("F16", 2, std::string("\0\0\x01\xfc", 4)) == std::vector{note});
}

// Larger than what one thread reads at once, and not a multiple of it.
TEST_CASE("a large tensor comes whole, and its last element is checked") {
  constexpr std::int64_t kSize = (std::int64_t{9} << 20) + 3;
  std::string bytes(static_cast<std::size_t>(kSize) * 2, '\0');
  for (std::size_t i = 0; i < bytes.size(); i += 2) {
    bytes[i] = static_cast<char>(i >> 12);
    bytes[i + 1] = static_cast<char>(i >> 20);
  }
  const auto notes_of = [](const std::string& content) {
    const TemporaryFolder folder;
    folder.write("model.safetensors", make_safetensors({{"w", "BF16", {kSize}, content}}));
    Checkpoint checkpoint(folder.path());
    const HostTensor tensor = checkpoint.require("w", {kSize});
    CHECK(std::memcmp(tensor.tensor().data(), content.data(), content.size()) == 0);
    return checkpoint.notes().size();
  };
  CHECK(notes_of(bytes) == 0);
  bytes[bytes.size() - 2] = '\x80';
  bytes[bytes.size() - 1] = '\x7f';  // infinity
  CHECK(notes_of(bytes) == 1);
}

TEST_CASE("a tensor in pieces, by several threads") {
  constexpr std::int64_t kSize = (std::int64_t{3} << 20) + 5;  // elements
  std::string bytes(static_cast<std::size_t>(kSize) * 2, '\0');
  for (std::size_t i = 0; i < bytes.size(); ++i)
    bytes[i] = static_cast<char>((i * 2654435761U) >> 24 & 0x37U);
  const TemporaryFolder folder;
  folder.write("model.safetensors",
               make_safetensors({{"a", "BF16", {1}, "12"}, {"w", "BF16", {kSize}, bytes}}));
  Checkpoint checkpoint(folder.path());
  const StoredTensorReader tensor = checkpoint.find("w", {kSize});
  CHECK(tensor.dtype() == DType::kBf16);
  CHECK(tensor.num_bytes() == bytes.size());
  CHECK(checkpoint.unused_names() == std::vector<std::string>{"a"});
  std::vector<std::byte> found(bytes.size());
  ThreadPool threads({.num_threads = 3});
  threads.parallel_ranges(
      std::ssize(found), 600002, [&](std::int64_t begin, std::int64_t end, std::int32_t) {
        tensor.read(static_cast<std::uint64_t>(begin), {found.data() + begin, found.data() + end});
      });
  CHECK(std::memcmp(found.data(), bytes.data(), bytes.size()) == 0);
  CHECK(checkpoint.notes().empty());
  CHECK(message_of([&] { checkpoint.find("w", {kSize - 1}); }) != "");
  CHECK(message_of([&] { checkpoint.find("v", {kSize}); }) != "");
}

TEST_CASE("a tensor with NaN in several pieces is noted once") {
  const TemporaryFolder folder;
  const std::string infinity("\0\0\x80\x7f", 4);
  folder.write("model.safetensors",
               make_safetensors({{"w", "F32", {4}, infinity + infinity + infinity + infinity}}));
  Checkpoint checkpoint(folder.path());
  const StoredTensorReader tensor = checkpoint.find("w", {4});
  CHECK(checkpoint.notes().empty());
  std::vector<std::byte> piece(8);
  for (const std::uint64_t begin : {0, 8, 0}) tensor.read(begin, piece);
  CHECK(checkpoint.notes().size() == 1);
}

TEST_CASE("the type of most bytes") {
  const TemporaryFolder folder;
  folder.write("model.safetensors", make_safetensors({{"a", "F32", {1}, "1234"},
                                                      {"b", "F16", {1}, "12"},
                                                      {"c", "F16", {2}, "1234"}}));
  CHECK(Checkpoint(folder.path()).main_dtype() == DType::kF16);
  folder.write("model.safetensors", make_safetensors({{"a", "F8_E4M3", {4}, "1234"}}));
  CHECK(message_of([&] { static_cast<void>(Checkpoint(folder.path()).main_dtype()); }) ==
        folder.path().string() + ": most weights are F8_E4M3; supported are F32, F16 and BF16");
  folder.write("model.safetensors", make_safetensors({}));
  CHECK(message_of([&] { static_cast<void>(Checkpoint(folder.path()).main_dtype()); }) ==
        folder.path().string() + ": the weights are empty");
}

TEST_CASE("a folder without weights says what it expected") {
  const TemporaryFolder folder;
  CHECK(error_of(folder) ==
        ": no weights: expected one of model.safetensors, model.safetensors.index.json, "
        "pytorch_model.bin, pytorch_model.bin.index.json");
}

TEST_CASE("tensors of several files") {
  const TemporaryFolder folder;
  write_two_shards(folder);
  write_index(folder, R"({"a":"one.safetensors","b":"two.safetensors"})");
  Checkpoint checkpoint(folder.path());
  CHECK(checkpoint.num_bytes() == 19);
  CHECK(checkpoint.notes().empty());
  CHECK(checkpoint.require("a", {2, 2}).tensor().as<float>()[1] == 2.0F);
  CHECK(checkpoint.contains("b"));
}

TEST_CASE("odd but valid indexes") {
  const TemporaryFolder folder;
  write_two_shards(folder);
  const auto notes_of = [&](const std::string& text) {
    folder.write("model.safetensors.index.json", text);
    return Checkpoint(folder.path()).notes();
  };
  const std::string map = R"("weight_map":{"a":"one.safetensors","b":"two.safetensors"}})";
  CHECK(notes_of(R"({"metadata":{"total_size":19},)" + map).empty());
  CHECK(notes_of(R"({"metadata":{"total_size":19.0,"x":[]},"y":null,)" + map).empty());
  CHECK(notes_of(R"({"metadata":null,)" + map).empty());
  const std::string place = (folder.path() / "model.safetensors.index.json").string();
  CHECK(notes_of(R"({"metadata":{"total_size":20},)" + map) ==
        std::vector{place + ": metadata: total_size is 20, but the tensors have 19 bytes"});
  // A tensor that the map leaves out.
  folder.write("two.safetensors",
               make_safetensors({{"b", "U8", {3}, "xyz"}, {"extra", "U8", {1}, "x"}}));
  CHECK(notes_of("{" + map) ==
        std::vector{place + ": ignored 1 tensor that weight_map does not name: \"extra\""});
  CHECK_FALSE(Checkpoint(folder.path()).contains("extra"));
  // A file by itself wins over an index, as in transformers.
  folder.write("model.safetensors", make_safetensors({{"c", "U8", {1}, "x"}}));
  CHECK(Checkpoint(folder.path()).contains("c"));
}

TEST_CASE("indexes that contradict their files") {
  const TemporaryFolder folder;
  write_two_shards(folder);
  const auto error = [&](const std::string& weight_map) {
    write_index(folder, weight_map);
    const std::string message = error_of(folder);
    const std::string prefix = "model.safetensors.index.json: ";
    REQUIRE(message.starts_with(prefix));
    return message.substr(prefix.size());
  };
  CHECK(error(R"({"a":"one.safetensors","b":"three.safetensors"})") ==
        "weight_map: 1 of 2 files are missing: three.safetensors; was the download interrupted? "
        "Download the model again");
  CHECK(error(R"({"a":"one.safetensors","b":"one.safetensors"})") ==
        "weight_map: b: not in one.safetensors");
  CHECK(error(R"({"a":"one.safetensors","b":"two.safetensors","c":"two.safetensors"})") ==
        "weight_map: c: not in two.safetensors");
  CHECK(error(R"({"a":"One.safetensors","b":"two.safetensors"})").find("missing: One.safe") !=
        std::string::npos);
  CHECK(error(R"({"a":"one.safetensors","A":"one.safetensors"})") ==
        "weight_map: A: not in one.safetensors");
  folder.write("two.safetensors",
               make_safetensors({{"a", "U8", {1}, "x"}, {"b", "U8", {3}, "xyz"}}));
  CHECK(error(R"({"a":"one.safetensors","b":"two.safetensors"})") ==
        "weight_map: a: is in one.safetensors, but also in two.safetensors");
}

TEST_CASE("indexes that are not what they should be") {
  const TemporaryFolder folder;
  write_two_shards(folder);
  const auto error = [&](const std::string& text) {
    folder.write("model.safetensors.index.json", text);
    const std::string message = error_of(folder);
    const std::string prefix = "model.safetensors.index.json: ";
    REQUIRE(message.starts_with(prefix));
    return message.substr(prefix.size());
  };
  CHECK(error("").starts_with("column 1: "));
  CHECK(error("[]") == "expected an object, found an array");
  CHECK(error("{}") == "weight_map: missing; expected an object");
  CHECK(error(R"({"weight_map":[]})") == "weight_map: expected an object, found an array");
  CHECK(error(R"({"weight_map":{}})") == "weight_map: is empty");
  CHECK(error(R"({"weight_map":{"a":1}})") == "weight_map: a: expected a string, found 1");
  CHECK(error(R"({"weight_map":{"a":"one.safetensors","a":"one.safetensors"}})") ==
        "duplicate key \"a\"");
  CHECK(error(R"({"metadata":{"total_size":-1},)"
              R"("weight_map":{"a":"one.safetensors","b":"two.safetensors"}})")
            .starts_with("metadata: total_size: expected a number from 0 to "));
}

TEST_CASE("names in an index lead nowhere else") {
  const TemporaryFolder folder;
  write_two_shards(folder);
  for (const std::string name :
       {"../one.safetensors", "/one.safetensors", "x/one.safetensors", "x\\\\one.safetensors", "..",
        ".", "", ".safetensors", ".hidden.safetensors", "one.bin", "one.safetensors/",
        "one\\u0000.safetensors", "./one.safetensors"}) {
    CAPTURE(name);
    write_index(folder, R"({"a":")" + name + R"("})");
    CHECK(error_of(folder).find("expected the plain name of a .safetensors file") !=
          std::string::npos);
  }
}

TEST_CASE("links lead into the same folder or the same cache, or are allowed") {
  const TemporaryFolder outside;
  const auto target =
      outside.write("real.safetensors", make_safetensors({{"a", "F32", {2, 2}, kOneToFour}}));
  const TemporaryFolder folder;
  fs::create_symlink(target, folder.path() / "model.safetensors");
  CHECK(error_of(folder).find("is a symbolic link to " + target.string()) != std::string::npos);
  CHECK(error_of(folder).find("--allow-symlinks") != std::string::npos);
  CHECK(error_of(folder, {.allow_symlinks = true}) == "");

  fs::remove(folder.path() / "model.safetensors");
  fs::copy(target, folder.path() / "renamed");
  fs::create_symlink("renamed", folder.path() / "model.safetensors");
  CHECK(error_of(folder) == "");

  fs::remove(folder.path() / "renamed");
  CHECK(error_of(folder).find("cannot be resolved") != std::string::npos);

  fs::remove(folder.path() / "model.safetensors");
  REQUIRE(::mkfifo((folder.path() / "model.safetensors").c_str(), 0600) == 0);
  CHECK(error_of(folder) == "model.safetensors: not a regular file");
}

TEST_CASE("the fingerprint follows content, not place or time") {
  const auto fingerprint = [](const std::string& config, const std::string& weights) {
    const TemporaryFolder folder;
    folder.write("config.json", config);
    folder.write("model.safetensors", weights);
    return Checkpoint(folder.path()).fingerprint();
  };
  const std::string zeros(1000, '\0');
  std::string middle = zeros;
  middle[500] = 1;
  const std::string weights = make_safetensors({{"a", "U8", {1000}, zeros}});
  const std::string expected = fingerprint("{}", weights);
  CHECK(expected.size() == 16);
  CHECK(expected == fingerprint("{}", weights));
  CHECK(expected != fingerprint("{ }", weights));
  CHECK(expected != fingerprint("{}", make_safetensors({{"b", "U8", {1000}, zeros}})));
  CHECK(expected != fingerprint("{}", make_safetensors({{"a", "I8", {1000}, zeros}})));
  CHECK(expected != fingerprint("{}", make_safetensors({{"a", "U8", {10, 100}, zeros}})));
  CHECK(expected != fingerprint("{}", make_safetensors({{"a", "U8", {1000}, middle}})));
}

}  // namespace
}  // namespace llmrun
