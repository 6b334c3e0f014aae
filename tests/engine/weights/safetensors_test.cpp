#include "engine/weights/safetensors.h"

#include <array>
#include <chrono>
#include <filesystem>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <doctest/doctest.h>
#include <fmt/format.h>
#include <sys/stat.h>

#include "engine/core/error.h"
#include "tests/support/temporary_folder.h"

namespace llmrun {
namespace {

using testing::TemporaryFolder;

std::string little_endian(std::uint64_t value) {
  std::string bytes(8, '\0');
  for (std::size_t i = 0; i < 8; ++i) bytes[i] = static_cast<char>(value >> (8 * i));
  return bytes;
}

// A file with this header and so many data bytes: 0, 1, 2, ...
std::string make_file(const std::string& header, std::size_t num_data_bytes) {
  std::string file = little_endian(header.size()) + header;
  for (std::size_t i = 0; i < num_data_bytes; ++i) file += static_cast<char>(i);
  return file;
}

// What opening a file of these bytes says; "" when it opens.
std::string error_of(const TemporaryFolder& folder, std::string_view bytes) {
  const auto path = folder.write("t.safetensors", bytes);
  try {
    const WeightFile file = open_safetensors(path);
    return "";
  } catch (const Error& error) {
    CHECK(error.kind() == ErrorKind::kModel);
    const std::string message = error.what();
    CHECK(message.starts_with(path.string() + ": "));  // every message names the file first
    return message.substr(path.string().size() + 2);
  }
}

std::string error_of_header(const TemporaryFolder& folder, const std::string& header,
                            std::size_t num_data_bytes) {
  return error_of(folder, make_file(header, num_data_bytes));
}

TEST_CASE("tensors are found and read") {
  const TemporaryFolder folder;
  const auto path = folder.write(
      "t.safetensors", make_file(R"({"__metadata__":{"format":"pt","a":"b"},)"
                                 R"("late":{"dtype":"U8","shape":[3],"data_offsets":[8,11]},)"
                                 R"("early":{"data_offsets":[0,8],"shape":[2,2],"dtype":"BF16"},)"
                                 R"("scalar":{"dtype":"BOOL","shape":[],"data_offsets":[11,12]},)"
                                 R"("none":{"dtype":"F64","shape":[5,0],"data_offsets":[8,8]}}   )",
                                 12));
  const WeightFile file = open_safetensors(path);
  CHECK(file.num_bytes() == std::filesystem::file_size(path));
  REQUIRE(file.tensors().size() == 4);
  const std::uint64_t data_begin = file.num_bytes() - 12;
  const StoredTensor& early = file.tensors()[0];
  CHECK(early.name == "early");
  CHECK(early.type->name == "BF16");
  CHECK(early.type->dtype == DType::kBf16);
  CHECK(early.shape == std::vector<std::uint64_t>{2, 2});
  CHECK(early.offset == data_begin);
  CHECK(early.num_bytes == 8);
  CHECK(file.tensors()[1].name == "none");
  CHECK(file.tensors()[1].num_bytes == 0);
  CHECK_FALSE(file.tensors()[1].type->dtype.has_value());
  CHECK(file.tensors()[2].name == "late");
  CHECK(file.tensors()[3].shape.empty());

  std::array<std::byte, 3> bytes{};
  file.read(file.tensors()[2], 0, bytes);
  CHECK(bytes == std::array{std::byte{8}, std::byte{9}, std::byte{10}});
  file.read(early, 5, bytes);
  CHECK(bytes == std::array{std::byte{5}, std::byte{6}, std::byte{7}});
}

TEST_CASE("every type of the format has its size") {
  const TemporaryFolder folder;
  const std::vector<std::pair<const char*, std::size_t>> bytes_of_8 = {
      {"BOOL", 8},        {"F4", 4},   {"F6_E2M3", 6}, {"F6_E3M2", 6},     {"U8", 8},
      {"I8", 8},          {"I16", 16}, {"F8_E5M2", 8}, {"F8_E4M3", 8},     {"F8_E8M0", 8},
      {"F8_E4M3FNUZ", 8}, {"U16", 16}, {"F16", 16},    {"F8_E5M2FNUZ", 8}, {"BF16", 16},
      {"I32", 32},        {"U32", 32}, {"F32", 32},    {"C64", 64},        {"F64", 64},
      {"I64", 64},        {"U64", 64}};
  for (const auto& [name, size] : bytes_of_8) {
    CAPTURE(name);
    const auto header = [&](std::size_t end) {
      return fmt::format(R"({{"w":{{"dtype":"{}","shape":[8],"data_offsets":[0,{}]}}}})", name,
                         end);
    };
    CHECK(error_of_header(folder, header(size), size) == "");
    CHECK(error_of_header(folder, header(size + 1), size + 1) ==
          fmt::format(
              "tensor \"w\": {} of shape [8] takes {} bytes, but data_offsets [0, {}] hold {}",
              name, size, size + 1, size + 1));
  }
}

TEST_CASE("the length of the header") {
  const TemporaryFolder folder;
  CHECK(error_of(folder, "") == "0 bytes, but a safetensors file has at least 8");
  CHECK(error_of(folder, "1234567") == "7 bytes, but a safetensors file has at least 8");
  CHECK(error_of(folder, little_endian(0)) == "offset 8: the header does not begin with {");
  CHECK(error_of(folder, little_endian(2) + "{}") == "");
  CHECK(error_of(folder, little_endian(1) + "{}").starts_with("header: "));
  CHECK(error_of(folder, little_endian(3) + "{}") ==
        "offset 0: header of 3 bytes, but only 2 bytes follow; the file is cut");
  CHECK(error_of(folder, little_endian(100000000) + "{}") ==
        "offset 0: header of 100000000 bytes, but only 2 bytes follow; the file is cut");
  for (const std::uint64_t size :
       {std::uint64_t{100000001}, std::uint64_t{1} << 63, ~std::uint64_t{0}}) {
    CHECK(error_of(folder, little_endian(size) + "{}") ==
          fmt::format("offset 0: header of {} bytes, but the format allows at most 100000000; is "
                      "this a safetensors file?",
                      size));
  }
}

TEST_CASE("what the header may not be") {
  const TemporaryFolder folder;
  const auto error = [&](const std::string& header) { return error_of_header(folder, header, 0); };
  CHECK(error("[]") == "offset 8: the header does not begin with {");
  CHECK(error(" {}") == "offset 8: the header does not begin with {");
  CHECK(error("{} ") == "");
  CHECK(error("{}x").starts_with("header: column 3: "));
  CHECK(error("{} \n{}").starts_with("header: line 2 column 1: "));
  CHECK(error(std::string("{}\0", 3)) == "header: byte 2: NUL byte");
  CHECK(error("{\"\xFF\":1}") == "header: byte 2: invalid UTF-8 (byte 0xFF)");
  CHECK(error("{").starts_with("header: "));
  CHECK(error(R"({"w":)").starts_with("header: "));
  CHECK(error(R"({"w":1})") == R"(header: "w": expected an object, found a number)");
  CHECK(error(R"({"w":null})") == R"(header: "w": expected an object, found null)");
  CHECK(error(R"({"w":[]})") == R"(header: "w": expected an object, found an array)");
  CHECK(error(R"({"__metadata__":{"a":1}})") ==
        R"(header: "__metadata__": "a": expected a string, found a number)");
  CHECK(error(R"({"__metadata__":{"a":{}}})") ==
        R"(header: "__metadata__": "a": expected a string, found an object)");
  CHECK(error(R"({"__metadata__":[]})") ==
        R"(header: "__metadata__": expected an object, found an array)");
  CHECK(error(R"({"w":)" + std::string(300, '[')).find("nested deeper than 256 levels") !=
        std::string::npos);
}

TEST_CASE("what an entry may not be") {
  const TemporaryFolder folder;
  const auto error = [&](const std::string& entry) {
    return error_of_header(folder, R"({"w":)" + entry + "}", 4);
  };
  const std::string good = R"("dtype":"F32","shape":[1],"data_offsets":[0,4])";
  CHECK(error("{" + good + "}") == "");
  CHECK(error("{" + good + R"(,"strides":[1]})") ==
        R"(header: "w": unknown field "strides"; expected dtype, shape and data_offsets)");
  CHECK(error("{" + good + R"(,"dtype":"F32"})") == R"(header: "w": duplicate key "dtype")");
  CHECK(error(R"({"shape":[1],"data_offsets":[0,4]})") == R"(header: "w": dtype is missing)");
  CHECK(error(R"({"dtype":"F32","data_offsets":[0,4]})") == R"(header: "w": shape is missing)");
  CHECK(error(R"({"dtype":"F32","shape":[1]})") == R"(header: "w": data_offsets is missing)");
  CHECK(error(R"({"dtype":"F33","shape":[1],"data_offsets":[0,4]})") ==
        R"(header: "w": unknown dtype "F33")");
  CHECK(error(R"({"dtype":"f32","shape":[1],"data_offsets":[0,4]})") ==
        R"(header: "w": unknown dtype "f32")");
  CHECK(error(R"({"dtype":7,"shape":[1],"data_offsets":[0,4]})") ==
        R"(header: "w": dtype: expected a string, found a number)");
  CHECK(error(R"({"dtype":["F32"],"shape":[1],"data_offsets":[0,4]})") ==
        R"(header: "w": dtype: expected a string, found an array)");
  CHECK(error(R"({"dtype":"F32","shape":1,"data_offsets":[0,4]})") ==
        R"(header: "w": shape: expected an array, found a number)");
  CHECK(error(R"({"dtype":"F32","shape":"1","data_offsets":[0,4]})") ==
        R"(header: "w": shape: expected an array, found a string)");
  for (const auto& [text, found] :
       std::vector<std::pair<std::string, std::string>>{{"-1", "a negative number"},
                                                        {"1.0", "a fraction"},
                                                        {"1e0", "a fraction"},
                                                        {"18446744073709551616", "a fraction"},
                                                        {"\"1\"", "a string"},
                                                        {"true", "a boolean"},
                                                        {"null", "null"},
                                                        {"[1]", "an array"},
                                                        {"{}", "an object"}}) {
    CAPTURE(text);
    CHECK(error(R"({"dtype":"F32","shape":[)" + text + R"(],"data_offsets":[0,4]})") ==
          R"(header: "w": shape: expected whole numbers, found )" + found);
    CHECK(error(R"({"dtype":"F32","shape":[1],"data_offsets":[)" + text + R"(,4]})") ==
          R"(header: "w": data_offsets: expected two whole numbers, found )" + found);
  }
  CHECK(error(R"({"dtype":"F32","shape":[1],"data_offsets":[4]})") ==
        R"(header: "w": data_offsets: expected two whole numbers, found too few numbers)");
  CHECK(error(R"({"dtype":"F32","shape":[1],"data_offsets":[0,4,4]})") ==
        R"(header: "w": data_offsets: expected two whole numbers, found a third number)");
}

TEST_CASE("names are unique") {
  const TemporaryFolder folder;
  CHECK(error_of_header(folder,
                        R"({"w":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},)"
                        R"("w":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}})",
                        2) == R"(header: duplicate key "w")");
  // The same name, spelled in two ways.
  CHECK(error_of_header(folder,
                        R"({"w":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},)"
                        R"("\u0077":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}})",
                        2) == R"(header: duplicate key "w")");
  CHECK(error_of_header(folder, R"({"__metadata__":{"a":"1","a":"2"}})", 0) ==
        R"(header: "__metadata__": duplicate key "a")");
}

TEST_CASE("the data section is full and nothing overlaps") {
  const TemporaryFolder folder;
  const auto error = [&](std::array<std::size_t, 4> offsets, std::size_t num_data_bytes) {
    return error_of_header(
        folder,
        fmt::format(R"({{"a":{{"dtype":"U8","shape":[{}],"data_offsets":[{},{}]}},)"
                    R"("b":{{"dtype":"U8","shape":[{}],"data_offsets":[{},{}]}}}})",
                    offsets[1] - offsets[0], offsets[0], offsets[1], offsets[3] - offsets[2],
                    offsets[2], offsets[3]),
        num_data_bytes);
  };
  CHECK(error({0, 4, 4, 8}, 8) == "");
  CHECK(error({4, 8, 0, 4}, 8) == "");
  CHECK(error({0, 0, 0, 8}, 8) == "");
  CHECK(error({0, 8, 8, 8}, 8) == "");
  CHECK(error({0, 4, 5, 8}, 8) ==
        R"(tensor "b": data begins at offset 5, expected 4: the file has a hole)");
  CHECK(error({1, 4, 4, 8}, 8) ==
        R"(tensor "a": data begins at offset 1, expected 0: the file has a hole)");
  CHECK(error({0, 4, 3, 8}, 8) ==
        R"(tensor "b": data begins at offset 3, expected 4: the file has overlapping tensors)");
  CHECK(error({0, 4, 0, 4}, 4) ==
        R"(tensor "b": data begins at offset 0, expected 4: the file has overlapping tensors)");
  CHECK(error({0, 4, 4, 9}, 8) ==
        R"(tensor "b": data_offsets [4, 9] do not lie in the 8 data bytes)");
  CHECK(error({0, 4, 4, 8}, 9) ==
        "the tensors end at data offset 8, but the file holds 9 data bytes");
  CHECK(error_of_header(folder, "{}", 1) ==
        "the tensors end at data offset 0, but the file holds 1 data bytes");
  CHECK(error_of_header(folder, R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[4,3]}})", 4) ==
        R"(header: "a": data_offsets [4, 3] end before they begin)");
  CHECK(error_of_header(
            folder, R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0,18446744073709551615]}})",
            4) ==
        R"(tensor "a": data_offsets [0, 18446744073709551615] do not lie in the 4 data bytes)");
}

TEST_CASE("a shape has the size of its bytes, without overflow") {
  const TemporaryFolder folder;
  const auto error = [&](const char* dtype, const std::string& shape, std::size_t num_data_bytes) {
    return error_of_header(folder,
                           fmt::format(R"({{"w":{{"dtype":"{}","shape":[{}],)"
                                       R"("data_offsets":[0,{}]}}}})",
                                       dtype, shape, num_data_bytes),
                           num_data_bytes);
  };
  CHECK(error("F32", "2, 3", 24) == "");
  CHECK(error("F32", "2, 3", 23) ==
        R"(tensor "w": F32 of shape [2, 3] takes 24 bytes, but data_offsets [0, 23] hold 23)");
  CHECK(error("F32", "", 4) == "");
  CHECK(error("F32", "0, 18446744073709551615", 0) == "");
  CHECK(error("F32", "18446744073709551615, 0", 0) == "");
  // Beyond 2^64 at each position of the product.
  for (const char* shape : {"18446744073709551615", "4294967296, 4294967296",
                            "1, 65536, 65536, 65536, 65536", "9223372036854775808, 2, 0"}) {
    CAPTURE(shape);
    CHECK(error("U8", shape, 0) ==
          fmt::format(R"(tensor "w": the shape [{}] overflows 64 bits)", shape));
  }
  CHECK(error("F4", "3", 1) == R"(tensor "w": F4 of shape [3] is not a whole number of bytes)");
  CHECK(error("F6_E2M3", "2", 1) ==
        R"(tensor "w": F6_E2M3 of shape [2] is not a whole number of bytes)");
}

TEST_CASE("a file cut at any byte is refused") {
  const TemporaryFolder folder;
  const std::string whole =
      make_file(R"({"w":{"dtype":"F32","shape":[2,2],"data_offsets":[0,16]}})", 16);
  CHECK(error_of(folder, whole) == "");
  for (std::size_t size = 0; size < whole.size(); ++size) {
    CAPTURE(size);
    CHECK(error_of(folder, std::string_view(whole).substr(0, size)) != "");
  }
  CHECK(error_of(folder, whole + '\0') != "");
}

TEST_CASE("a changed byte is refused or harmless") {
  const TemporaryFolder folder;
  const std::string whole =
      make_file(R"({"w":{"dtype":"F32","shape":[2,2],"data_offsets":[0,16]}})", 16);
  for (std::size_t i = 0; i < whole.size(); ++i) {
    for (const int bit : {0, 1, 2, 3, 4, 5, 6, 7}) {
      std::string changed = whole;
      changed[i] = static_cast<char>(changed[i] ^ (1 << bit));
      error_of(folder, changed);  // an Error of the right kind, or none
    }
  }
}

TEST_CASE("what is no regular file is not opened for waiting") {
  const TemporaryFolder folder;
  const auto fifo = folder.path() / "fifo";
  REQUIRE(::mkfifo(fifo.c_str(), 0600) == 0);
  CHECK_THROWS_WITH_AS(open_safetensors(fifo), (fifo.string() + ": not a regular file").c_str(),
                       Error);
  const auto missing = folder.path() / "missing";
  CHECK_THROWS_WITH_AS(open_safetensors(missing),
                       (missing.string() + ": cannot open: No such file or directory").c_str(),
                       Error);
  CHECK_THROWS_AS(open_safetensors(folder.path()), Error);
}

TEST_CASE("a file that changes under the reader is noticed") {
  const TemporaryFolder folder;
  const std::string whole =
      make_file(R"({"w":{"dtype":"U8","shape":[4096],"data_offsets":[0,4096]}})", 4096);
  std::vector<std::byte> bytes(4096);

  const auto cut_path = folder.write("cut.safetensors", whole);
  const WeightFile cut = open_safetensors(cut_path);
  std::filesystem::resize_file(cut_path, whole.size() - 1);
  CHECK_THROWS_WITH_AS(
      cut.read(cut.tensors()[0], 0, bytes),
      fmt::format("{}: the file ends at offset {}, expected {} bytes; it was cut while it was read",
                  cut_path.string(), whole.size() - 1, whole.size())
          .c_str(),
      Error);

  const auto grown_path = folder.write("grown.safetensors", whole);
  const WeightFile grown = open_safetensors(grown_path);
  std::filesystem::resize_file(grown_path, whole.size() + 1);
  CHECK_THROWS_AS(grown.read(grown.tensors()[0], 0, bytes), Error);

  const auto touched_path = folder.write("touched.safetensors", whole);
  const WeightFile touched = open_safetensors(touched_path);
  std::filesystem::last_write_time(
      touched_path, std::filesystem::file_time_type::clock::now() + std::chrono::hours(1));
  CHECK_THROWS_AS(touched.read(touched.tensors()[0], 0, bytes), Error);
}

}  // namespace
}  // namespace llmrun
