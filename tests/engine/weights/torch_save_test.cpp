// Files that torch.save itself wrote (scripts/make_torch_goldens.py).

#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include "engine/core/error.h"
#include "engine/core/file.h"
#include "engine/core/json.h"
#include "engine/core/sha256.h"
#include "engine/weights/pytorch_file.h"
#include "engine/weights/safetensors.h"

namespace llmrun {
namespace {

namespace fs = std::filesystem;

const fs::path kData = fs::path(LLMRUN_SOURCE_DIR) / "tests/data";
const fs::path kTorch = kData / "weights/torch";

// Type, shape and bytes of each tensor.
std::map<std::string, nlohmann::json> contents(const WeightFile& file) {
  std::map<std::string, nlohmann::json> tensors;
  for (const StoredTensor& tensor : file.tensors()) {
    std::vector<std::uint8_t> bytes(tensor.num_bytes);
    file.read(tensor, 0, std::as_writable_bytes(std::span(bytes)));
    tensors[tensor.name] = {tensor.type->name, tensor.shape, to_hex(bytes)};
  }
  return tensors;
}

TEST_CASE("a checkpoint of torch.save holds what its safetensors file holds") {
  auto found = contents(open_pytorch_file(kTorch / "pytorch_model.bin"));
  auto expected = contents(open_safetensors(kData / "models/llama_linear/model.safetensors"));
  REQUIRE(expected.size() > 10);
  expected["lm_head.weight"] = expected.at("model.embed_tokens.weight");  // tied: one storage
  CHECK(found == expected);
}

TEST_CASE("each type, views, a parameter, a scalar and an empty tensor of torch.save") {
  const nlohmann::json expected =
      parse_json(read_file(kTorch / "expected.json", 1 << 20, ErrorKind::kModel), "expected.json");
  const auto found = contents(open_pytorch_file(kTorch / "types.bin"));
  REQUIRE(expected.size() == 14);
  CHECK(nlohmann::json(found) == expected);
}

TEST_CASE("what torch.save can write and llmrun does not read is named") {
  CHECK_THROWS_WITH_AS(open_pytorch_file(kTorch / "legacy.bin"),
                       doctest::Contains("the format of torch before 1.6, which is not read; load "
                                         "it with torch and convert it to model.safetensors"),
                       Error);
  CHECK_THROWS_WITH_AS(open_pytorch_file(kTorch / "transposed.bin"),
                       doctest::Contains("tensor \"w\": shape [3, 2] with strides [1, 3] is not "
                                         "row-major"),
                       Error);
}

}  // namespace
}  // namespace llmrun
